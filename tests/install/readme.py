"""README's command blocks, in their order: what a stranger types, word for word.

The way of README leads from a bare machine to a nightly run. Which of its blocks is typed,
which is a crontab and which an INI, stands in WAY, one row a block; a block of these
sections that has no row there is an error, and so is a row that has no block.

Alone, this walks the whole way on a bare Debian 12 with systemd (root, the network, some
minutes):

    readme.py BUILD_DIR

test_readme.py walks what needs neither root nor network, in the suite.
"""
import collections
import datetime
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stories"))

from bare import TOP, Bare, tell
from story import KEY, Sim, wait_until

Block = collections.namedtuple("Block", "section text kind", defaults=[None])

WAY = [  # section, how the block begins, what it is
    ("Try it", "make demo", "build"),
    ("Try it", "make test", "suite"),
    ("Install", "make install", "build"),
    ("Install", "make deb", "deb"),
    ("The first evening", "nightmill init jobs", "user"),
    ("The first evening", "nightmill check jobs", "user"),
    ("Every night", "install -m 600", "user"),
    ("Every night", "PATH=", "crontab"),
    ("Every night", "nightmill init /srv/jobs", "root"),
    ("Every night", "systemctl start", "root"),
    ("Every night", "[Service]", "drop-in"),
    ("Every night", "[notify]", "notify"),
    ("The morning after", "nightmill report jobs", "user"),
    ("As a service", "systemctl disable", "service"),
    ("Test it", "nightmill-sim", "rehearsal"),
]


def readme():
    with open(os.path.join(TOP, "README.md")) as f:
        return f.read()


def blocks(text):
    found, section, block = [], "", None
    for row in text.splitlines(keepends=True):
        if row.startswith("```"):
            if block is not None:
                found.append(Block(section, block))
            block = "" if block is None else None
        elif block is not None:
            block += row
        elif row.startswith("## "):
            section = row[3:].strip()
    return found


def way(text=None):
    """The blocks of WAY with their kinds; an AssertionError where README has others."""
    sections = {w[0] for w in WAY}
    found = [b for b in blocks(text or readme()) if b.section in sections]
    for b, w in zip(found + [None] * len(WAY), WAY + [None] * len(found)):
        if b is None and w is None:
            break
        if b is None or w is None or b.section != w[0] or not b.text.startswith(w[1]):
            raise AssertionError(f"README and WAY differ: {b} is not {w}")
    return [b._replace(kind=w[2]) for b, w in zip(found, WAY)]


def of(kind, found=None):
    return [b.text for b in found or way() if b.kind == kind]


def typed(texts):
    """A script for bash that types the blocks into one shell and names what fails."""
    script = ["trap 'echo \"README: exit $? of: $BASH_COMMAND\"' ERR"]
    return "\n".join(script + list(texts))


def night_zone(hour=23):
    """A TZ in which it is about `hour` now: the crontab's --until is then far away."""
    now = datetime.datetime.now(datetime.timezone.utc)
    east = (hour * 60 - now.hour * 60 - now.minute + 720) % 1440 - 720
    sign = "-" if east >= 0 else "+"
    return f"NMT{sign}{abs(east) // 60}:{abs(east) % 60:02}"


def cron(text):
    """(variables, command) of a crontab, as cron would read it."""
    *variables, job = text.splitlines()
    fields = re.fullmatch(r"(?:[\d*,/-]+ +){5}(.+)", job)
    if fields is None or "%" in fields[1]:
        raise AssertionError(f"cron would not take this line whole: {job}")
    return dict(v.split("=", 1) for v in variables), fields[1]


class Proxy:
    """Hears to which host somebody would talk, and lets nobody through."""

    def __init__(self):
        self.heard = heard = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                heard.append(self.rfile.readline().decode().split()[:2])
                self.wfile.write(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


MAIL = '#!/bin/sh\n{ printf "%s\\n" "$@"; cat; } > "$HOME/mail"\n'

# --- the whole way, on a bare system ---


def want(condition, says):
    if not condition:
        sys.exit(f"README: {says}")


class Walk:
    def __init__(self, build):
        self.bare = Bare(build, "readme")
        self.way = way()
        self.env = {}

    def source(self):
        """The tree as it is here, without what was built."""
        self.bare.sh("useradd --create-home --shell /bin/bash stranger")
        self.bare.write("/etc/sudoers.d/stranger", "stranger ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        where = self.bare.at("home/stranger/nightmill")
        os.makedirs(where)
        names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"],
                               cwd=TOP, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-c", "--null", "-T", "-", "-f", os.path.join(where, "t")],
                       cwd=TOP, input=names, check=True)
        subprocess.run(["tar", "-xf", "t", "--no-same-owner"], cwd=where, check=True)
        os.remove(os.path.join(where, "t"))
        self.bare.sh("chown -R stranger: /home/stranger")

    def type(self, texts, cwd="/root", user=None, **env):
        for text in texts:
            tell("typed: " + text.strip().replace("\n", "\n          "))
        out = self.bare.sh(typed(texts), shell="/bin/bash", cwd=cwd, user=user,
                           check=False, env={**self.env, **env})
        want("README: exit" not in out, out[-6000:])
        return out

    def job(self, queue, name):
        self.bare.write(f"{queue}/{name}.md", f"What is new, {name}?\n")

    def done(self, queue, name):
        return os.path.exists(self.bare.at(f"{queue}/results/{name}.md"))

    def build(self):
        self.bare.install("git", "make", "sudo", "cron", "systemd", "systemd-sysv", "dbus",
                          "ca-certificates", "tzdata")
        self.source()
        want(self.bare.boot(), "systemd does not start here, so half of it cannot be tried")
        # With sudo, as most have it; and what README wants root for, as root.
        tree = "/home/stranger/nightmill"
        out = self.type(of("build", self.way), cwd=tree, user="stranger",
                        HOME="/home/stranger")
        want("0 failed" in out, out[-3000:])
        self.type(of("deb", self.way), cwd=tree)
        for path in ("/usr/local/bin/nightmill", "/usr/local/bin/nightmill-sim",
                     "/usr/bin/nightmill"):
            self.bare.sh(f"{path} --version >/dev/null || {path} --help >/dev/null")

    def evening(self):
        out = self.type(of("user", self.way))
        want("ready for the night" in out and "== hello (accepted) ==" in out and
             self.done("/root/jobs", "hello"), out[-3000:])
        want(oct(os.stat(self.bare.at("root/.nightmill.key")).st_mode).endswith("600"),
             "others can read the key")

    def cron(self):
        (text,) = of("crontab", self.way)
        tell("crontab: " + text.strip().replace("\n", "\n            "))
        self.bare.write("/root/crontab", text)
        self.bare.sh("crontab /root/crontab")
        variables, command = cron(self.bare.sh("crontab -l | grep -v '^#'"))
        self.job("/root/jobs", "by-cron")
        words = {"HOME": "/root", "LOGNAME": "root", "SHELL": "/bin/sh",
                 "PATH": "/usr/bin:/bin", **variables, "TZ": night_zone(),
                 "ANTHROPIC_BASE_URL": self.env["ANTHROPIC_BASE_URL"]}
        self.bare.write("/root/tonight", command + "\n")
        out = self.bare.sh("env -i " + " ".join(f"{k}={v}" for k, v in words.items()) +
                           " /bin/sh /root/tonight")
        want(out == "" and self.done("/root/jobs", "by-cron"), f"cron would mail: {out}")

    def unit(self, sim):
        # The harness' own word: where the simulator is.
        self.bare.write("/etc/systemd/system/nightmill@.service.d/harness.conf",
                        f"[Service]\nEnvironment=ANTHROPIC_BASE_URL={sim.url}\n")
        self.type(of("root", self.way))
        want(self.done("/srv/jobs", "hello"), "the unit did not run the queue")
        self.bare.sh("systemctl is-active nightmill@srv-jobs.timer")

        def start(name, code=0):
            self.job("/srv/jobs", name)
            out = self.bare.sh("systemctl start nightmill@srv-jobs.service; echo exit $?;"
                               " systemctl show -P Result -P ExecMainStatus"
                               " nightmill@srv-jobs.service")
            want(f"exit {code}" in out, f"a start says {out}" +
                 self.bare.sh("journalctl -n 30 -u nightmill@srv-jobs.service"))
            return out

        # A stop in mid-run awaits what is out, and is no failure.
        for n in range(9):
            self.job("/srv/jobs", f"stopped{n}")
        sim.set(latency_ttft="3s")
        self.bare.sh("systemctl start --no-block nightmill@srv-jobs.service")
        wait_until(lambda: sim.stats()["in_flight"] > 0, why="a request of the unit")
        out = self.bare.sh("systemctl stop nightmill@srv-jobs.service; systemctl show"
                           " -P Result -P ExecMainStatus nightmill@srv-jobs.service").split()[-2:]
        want(out == ["success", "75"], f"a stop in mid-run ends with {out}")
        sim.set(latency_ttft="0s")
        told = self.bare.sh("XDG_STATE_HOME=/var/lib nightmill status /srv/jobs --json")
        want(json.loads(told)["in_doubt"]["attempts"] == 0, f"a stop leaves doubt: {told}")
        sim.credit(set=0)
        want("75" in start("without-credit"), "no credit is not 75")
        sim.credit(infinite=True)
        # A queue of somebody else's, with README's drop-in.
        (text,) = of("drop-in", self.way)
        tell("drop-in: " + text.strip().replace("\n", "\n            "))
        self.bare.sh("useradd alice && chown -R alice: /srv/jobs")
        self.bare.write("/etc/systemd/system/nightmill@srv-jobs.service.d/user.conf", text)
        self.bare.sh("systemctl daemon-reload")
        start("of-alice")
        want(self.done("/srv/jobs", "of-alice"), "alice's queue was not run")
        owner = self.bare.sh("stat -c %U /srv/jobs/results/of-alice.md"
                             " /var/lib/nightmill-alice/nightmill/account.db").split()
        want(owner == ["alice", "alice"], f"results and state are {owner}'s")
        # A key that is refused fails the unit, and a timer's machine shows it.
        self.bare.write("/etc/nightmill.key", "sk-ant-wrong\n", 0o600)
        want("77" in start("wrong-key", 1), "a refused key is not 77")

    def service(self, sim):
        self.bare.sh("chown -R root: /srv/jobs && rm -r"
                     " /etc/systemd/system/nightmill@srv-jobs.service.d")
        self.bare.write("/etc/nightmill.key", KEY + "\n", 0o600)
        self.bare.write("/etc/systemd/system/nightmill-watch@.service.d/harness.conf",
                        f"[Service]\nEnvironment=ANTHROPIC_BASE_URL={sim.url}\n")
        self.bare.sh("systemctl daemon-reload")
        self.type(of("service", self.way))
        self.job("/srv/jobs", "watched")
        for _ in range(300):
            if self.done("/srv/jobs", "watched"):
                break
            time.sleep(0.1)
        log = self.bare.sh("journalctl -n 30 -u nightmill-watch@srv-jobs.service")
        want(self.done("/srv/jobs", "watched"), f"the service did not take the file: {log}")
        status = self.bare.sh("systemctl show -P StatusText nightmill-watch@srv-jobs.service")
        want(" done" in status, f"the service says of itself: {status}")
        self.bare.sh("systemctl disable --now nightmill-watch@srv-jobs.service")

    def notify(self):
        (text,) = of("notify", self.way)
        tell("notify: " + text.strip().replace("\n", "\n           "))
        proxy = Proxy()
        textfile = re.search(r"(?m)^textfile = (.+)$", text)[1]
        self.bare.write("/usr/local/bin/mail", MAIL, 0o755)
        self.bare.sh(f"mkdir -p {os.path.dirname(textfile)}")
        with open(self.bare.at("root/jobs/nightmill.ini"), "a") as f:
            f.write(text)
        self.job("/root/jobs", "told")
        self.bare.sh("nightmill run jobs", env={**self.env, "HTTPS_PROXY": proxy.url})
        proxy.stop()
        want(["CONNECT", "hc-ping.com:443"] in proxy.heard, "notify.url was not asked for")
        for path, says in ((textfile, "nightmill_jobs"), ("/root/mail", "exit 0")):
            with open(self.bare.at(path)) as f:
                want(says in (told := f.read()), f"{path}: {told}")

    def rehearsal(self):
        self.job("/root/jobs", "rehearsed")
        self.type([*of("rehearsal", self.way), "kill %1"])
        want(self.done("/root/jobs", "rehearsed"), "the rehearsal ran nothing")

    def walk(self):
        sim = Sim("auth.keys=" + KEY, "output.median=30", "output.sigma=0")
        try:
            self.build()
            self.env = {"ANTHROPIC_BASE_URL": sim.url, "ANTHROPIC_API_KEY": KEY}
            self.evening()
            self.cron()
            self.unit(sim)
            self.service(sim)
            self.notify()
            self.rehearsal()
        finally:
            sim.stop()
            self.bare.halt()
        self.bare.remove()
        tell("every block of the way works as it is written")


if __name__ == "__main__":
    Walk(os.path.abspath(sys.argv[1])).walk()
