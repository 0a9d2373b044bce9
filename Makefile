# The two commands of README, and what developers type. Everything is built by CMake.
#
#   make demo    build, and run the examples against the simulator: no key, no network
#   make test    build with sanitizers, and run every test

SHELL := /bin/bash
JOBS ?= $(shell nproc)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := gcc make cmake pkg-config libc6-dev libcurl4-openssl-dev libuv1-dev \
  libjansson-dev libpcre2-dev libinih-dev libsqlite3-dev libssl-dev libmicrohttpd-dev \
  libncurses-dev libsystemd-dev
TEST_PACKAGES := libcmocka-dev python3 tmux

# Installs what is missing, and is silent and quick when nothing is.
install_missing = missing=""; for p in $(1); do \
  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
  [ -z "$$missing" ] || { echo "installing:$$missing"; \
  $(SUDO) apt-get -qq update && \
  $(SUDO) env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -y install --no-install-recommends $$missing >/dev/null; }

# Quiet but for what is wrong.
build_in = set -o pipefail; echo "building in $(1)"; \
  $(MAKE) --no-print-directory -s -C $(1) -j $(JOBS) | { grep -v 'Built target' || true; }

.PHONY: demo test build plain packages test-packages lint format bench bench-pace bench-money bench-results bench-route watch-campaign report-shots kill-campaign \
  crash-campaign test-power valgrind fuzz tidy coverage top install deb deb-test readme-test clean

demo: build
	@sh sim/demo.sh build/release

# Stories wait more than they work: twice as many at once as there are cores.
test: test-packages
	@cmake --preset dev >/dev/null
	@$(call build_in,build/dev)
	@ctest --test-dir build/dev -j $$((2 * $(JOBS))) --output-on-failure --no-tests=error

build: packages
	@cmake --preset release >/dev/null
	@$(call build_in,build/release)
	@test -x build/release/runner/nightmill

packages:
	@$(call install_missing,$(PACKAGES))

test-packages:
	@$(call install_missing,$(PACKAGES) $(TEST_PACKAGES))

install: build
	@$(SUDO) cmake --install build/release

# build/release/nightmill_VERSION_ARCH.deb
deb: build
	@$(call install_missing,dpkg-dev file)
	@cd build/release && umask 022 && rm -f *.deb && cpack -G DEB >/dev/null && ls -1 $$PWD/*.deb

# On a bare Debian 12, made by debootstrap: root, the network, some minutes. MIRROR=URL
deb-test: deb
	@$(call install_missing,lintian debootstrap systemd-container python3)
	@$(SUDO) python3 -B tests/install/deb.py build build/release/*.deb

# README's blocks, typed on a bare Debian 12 with systemd: root, the network, some minutes.
readme-test: build
	@$(call install_missing,debootstrap systemd-container python3)
	@$(SUDO) env NIGHTMILL_SIM=$(CURDIR)/build/release/sim/nightmill-sim \
	  python3 -B tests/install/readme.py build

# --- longer, each of its own ---

# Prints CPU a job beside a bare loop, jobs a second, and peak memory. Some minutes.
bench: build
	@cmake -S . -B build/bench -DCMAKE_BUILD_TYPE=Release -DNIGHTMILL_BENCH=ON \
	  -DCMAKE_RULE_MESSAGES=OFF >/dev/null
	@$(call build_in,build/bench)
	@python3 tests/bench/bench.py build/bench

# How close to the limits, and how often into them; a quarter of an hour. CASES=, OTHERS=1
bench-pace: build
	@python3 tests/bench/bench_pace.py build/release $(if $(CASES),--cases $(CASES)) \
	  $(if $(OTHERS),--others)

plain: test-packages
	@cmake --preset plain >/dev/null
	@$(call build_in,build/plain)

# Crashes once more, under a shim that forgets what was not synced (it cannot share a
# process with the sanitizers).
test-power: plain
	@ctest --test-dir build/plain -R '^crash_' -j $(JOBS) --output-on-failure --no-tests=error

# Memory of `nightmill results` for ten thousand jobs and for a million; some minutes.
bench-results: build
	@$(call install_missing,time python3)
	@python3 -B tests/bench/bench_results.py build/release

# What routing saves on nights whose truth is known: ROWS="a.csv b.csv", columns
# group,prompt,weak_ok,strong_ok.
bench-route: build
	@python3 tests/bench/bench_route.py build/release $(foreach f,$(ROWS),--rows $(f))

# The report in a browser: narrow and wide, light and dark. SHOTS=DIR keeps the pictures.
report-shots: build
	@$(call install_missing,chromium python3)
	@cd tests/stories && SHOTS="$(SHOTS)" NIGHTMILL=$(CURDIR)/build/release/runner/nightmill \
	  NIGHTMILL_SIM=$(CURDIR)/build/release/sim/nightmill-sim python3 -B shots_report.py

# What prompt caching saves.
bench-money: build
	@python3 tests/bench/bench_money.py build/release

# 20,000 files dropped while it watches, half of them written slowly; some minutes.
watch-campaign: build
	@python3 tests/bench/watch_campaign.py build/release

# Fifty kills (BULK=FILE for another queue); hundreds of pairs of stops.
kill-campaign crash-campaign: plain
	@BULK="$(BULK)" cmake --build build/plain --target $@

# The stories under valgrind.
valgrind: plain
	@$(call install_missing,valgrind)
	@STORY_VALGRIND=1 ctest --test-dir build/plain -R '^story_' -j $(JOBS) --output-on-failure --timeout 900

fuzz:
	@$(call install_missing,clang libclang-rt-14-dev)
	@cmake --preset fuzz >/dev/null
	@$(call build_in,build/fuzz)
	@for f in build/fuzz/tests/fuzz_*; do [ -x $$f ] || continue; echo "$$f"; \
	  $$f -max_total_time=$${SECONDS_EACH:-60} -print_final_stats=0 2>&1 | tail -1; done

lint:
	@$(call install_missing,clang-format cppcheck)
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	  --error-exitcode=1 -I. -D__BYTE_ORDER__=1234 -D__ORDER_LITTLE_ENDIAN__=1234 \
	  runner jobs conf sim

tidy:
	@$(call install_missing,clang clang-tidy)
	@cmake --preset tidy >/dev/null
	@cmake --build build/tidy --clean-first -j $(JOBS) --target nightmill nightmill-sim 2>&1 | \
	  grep -E '(warning|error):' | sort -u | grep . && exit 1 || echo "clang-tidy: quiet"

coverage: test-packages
	@$(call install_missing,gcovr)
	@cmake --preset coverage >/dev/null
	@$(call build_in,build/coverage)
	@ctest --test-dir build/coverage -j $(JOBS) >/dev/null; gcovr -r . -e tests -e sim build/coverage | tail -40

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

# The longest files and functions: a place to look, not a limit.
top:
	@git ls-files '*.c' '*.h' | xargs wc -l | grep -v total | sort -rn | head -8

clean:
	@rm -rf build .demo
