"""A bare Debian 12 to install into: made once by debootstrap, copied for each use.

Needs root, debootstrap, and the network that apt needs. What runs inside sees this
machine's loopback, so that a simulator out here can stand in for the API.
"""
import atexit
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SUITE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def mirror():
    """MIRROR, or where this machine's apt looks for the same suite."""
    if os.environ.get("MIRROR"):
        return os.environ["MIRROR"]
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        try:
            with open(path) as f:
                found = re.search(r"^(?:URIs:|deb(?: \[.*\])?) +(\S+/debian)/?(?:\s|$)",
                                  f.read(), re.M)
        except OSError:
            continue
        if found:
            return found[1]
    return "http://deb.debian.org/debian"


def tell(text):
    print(f"-- {text}", flush=True)


class Bare:
    def __init__(self, build, name):
        """A fresh one under `build`; `name` tells it from others there."""
        self.machine = self.leader = None
        if os.geteuid() != 0:
            sys.exit("a bare system is made by root: run it with sudo")
        base = os.path.join(build, "bare", SUITE)
        self.root = os.path.join(build, "bare", name)
        if not os.path.exists(base + ".made"):
            tell(f"debootstrap {SUITE} from {mirror()}")
            shutil.rmtree(base, True)
            os.makedirs(base)
            subprocess.run(["debootstrap", "--variant=minbase", SUITE, base, mirror()],
                           check=True, stdout=subprocess.DEVNULL)
            open(base + ".made", "w").close()
        shutil.rmtree(self.root, True)
        subprocess.run(["cp", "-a", "--reflink=auto", base, self.root], check=True)
        shutil.copy("/etc/resolv.conf", self.at("etc/resolv.conf"))
        # Nothing that is installed here is started: this is no machine that has booted.
        self.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        self.sh("apt-get -qq update")

    def at(self, path):
        return os.path.join(self.root, path.lstrip("/"))

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
        with open(self.at(path), "w") as f:
            f.write(text)
        os.chmod(self.at(path), mode)

    def boot(self):
        """Starts its systemd, which must be installed. False where none can start here."""
        atexit.register(self.halt)
        self.machine = subprocess.Popen(
            ["systemd-nspawn", f"--machine=nightmill-{os.getpid()}", "--quiet", "--directory", self.root, "--boot", "--keep-unit",
             "--register=no", "--console=pipe"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.machine.poll() is None:
            try:
                with open(f"/proc/{self.machine.pid}/task/{self.machine.pid}/children") as f:
                    self.leader = int(f.read().split()[0])
                if re.search("running|degraded",
                             self.sh("systemctl is-system-running || true", check=False)):
                    os.remove(self.at("usr/sbin/policy-rc.d"))
                    return True
            except (IndexError, OSError):
                pass
            time.sleep(0.2)
        self.halt()
        return False

    def halt(self):
        if self.machine:
            self.machine.terminate()
            try:
                self.machine.wait(30)
            except subprocess.TimeoutExpired:
                self.machine.kill()
                self.machine.wait()
        self.machine = self.leader = None

    def sh(self, script, env=None, check=True, shell="/bin/sh", cwd="/root", user=None):
        """Runs `script` inside; what it says, both streams. The mounts end with it."""
        outside = (f'mount --rbind /proc "{self.root}/proc" && '
                   f'mount --rbind /dev "{self.root}/dev" && '
                   f'exec chroot "{self.root}" "$@"')
        inside = ["unshare", "--mount", "sh", "-c", outside, "sh"]
        if self.leader:
            inside = ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc",
                      "--pid", "--root", "--"]
        words = [f"{k}={v}" for k, v in {
            "PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb",
            "DEBIAN_FRONTEND": "noninteractive", **(env or {})}.items()]
        r = subprocess.run(
            [*inside, "env", "-C", cwd, "-i", *words,
             *(["runuser", "-u", user, "--"] if user else []), shell, "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if check and r.returncode != 0:
            sys.exit(f"exit {r.returncode} of, inside the bare system:\n{script}\n"
                     f"{r.stdout[-4000:]}")
        return r.stdout

    def install(self, *packages):
        self.sh("apt-get -qq -y install --no-install-recommends " + " ".join(packages))

    def files(self, *but):
        """Every path there is, but for those that begin with one of `but`."""
        found = set()
        for folder, dirs, names in os.walk(self.root):
            inside = folder[len(self.root):] or "/"
            if inside in ("/proc", "/dev", "/sys", "/run", "/tmp"):
                dirs[:] = []
                continue
            found.update(os.path.join(inside, n) for n in dirs + names)
        return {f for f in found if not f.startswith(tuple(but) or ("\0",))}

    def remove(self):
        self.halt()
        shutil.rmtree(self.root, True)
