#!/bin/sh
# The main job with no key: the examples, run by the real nightmill against the simulator
# on this machine. The queue stays in .demo, so that a second time nothing is sent again.
#
#   demo.sh BUILD_DIR
set -eu
build=$1
mkdir -p .demo/queue .demo/state
rm -f .demo/sim.out
cp -Rpu examples/. .demo/queue/

# In a session of its own: Ctrl-C stops the run, which still wants its answers.
setsid "$build/sim/nightmill-sim" --port 0 --set latency.ttft=200ms --set latency.per_token=4ms \
  --set output.median=60 --set output.sigma=0.5 >.demo/sim.out 2>.demo/sim.log &
sim=$!
trap 'kill $sim 2>/dev/null; wait $sim 2>/dev/null || true' EXIT
trap 'exit 1' HUP PIPE TERM
trap : INT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ -s .demo/sim.out ] && break
  sleep 0.1
done
url=$(head -n 1 .demo/sim.out)

echo "A simulator stands in for the API at $url: the answers below are simulated."
echo "\$ nightmill run .demo/queue"
code=0
ANTHROPIC_BASE_URL=$url ANTHROPIC_API_KEY=demo XDG_STATE_HOME=$PWD/.demo/state \
  "$build/runner/nightmill" run .demo/queue || code=$?
[ "$code" = 0 ] || exit "$code"

echo
echo "One of them, .demo/queue/results/hello.md (simulated):"
head -c 300 .demo/queue/results/hello.md | sed 's/^/    /'
echo
echo "Nothing was paid. Run \`make demo\` again: nothing is sent, since everything is done."
echo "For the real API:  ANTHROPIC_API_KEY=sk-ant-... $build/runner/nightmill run YOUR_DIRECTORY"
