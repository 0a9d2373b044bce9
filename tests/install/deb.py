"""The Debian package: lintian has nothing to say, it installs on a bare system, its words
can be read there, and a purge leaves nothing but what was paid for.

    deb.py BUILD_DIR PACKAGE.deb
"""
import os
import re
import shutil
import subprocess
import sys

from bare import Bare, tell

EXPOSED = 2.1  # what systemd's list of openings may come to; 10 is a unit without a bolt
ANSWERED = "/var/lib/nightmill/account.db"
# What apt and dpkg remember of anything, and what stays on purpose.
LEFT = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/etc/ld.so.cache",
        "/root/", "/srv/jobs", "/run", "/var/tmp", "/tmp", "/etc/machine-id",
        "/var/lib/systemd/random-seed", "/var/lib/dbus", "/var/lib/nightmill", "/etc/nightmill.key",
        # held by Debian's own helper for units that may come back
        "/var/lib/systemd/deb-systemd-helper")


def lintian(deb):
    r = subprocess.run(["lintian", "--fail-on", "error,warning", deb], check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if r.returncode != 0 or r.stdout.strip():
        sys.exit(f"lintian:\n{r.stdout}")
    tell("lintian: no errors, no warnings")


def watched(bare):
    """A timer and a service are on: an upgrade starts the service anew, a purge ends both."""
    def pid():
        return bare.sh("systemctl show -P MainPID nightmill-watch@srv-jobs.service").strip()

    bare.sh("mv /srv/jobs/*.md /srv/jobs/*.jsonl /tmp/")  # nothing is to be sent
    bare.write("/etc/nightmill.key", "sk-ant-nobody\n", 0o600)
    bare.sh("systemctl start nightmill@srv-jobs.timer nightmill-watch@srv-jobs.service")
    before = pid()
    bare.sh("apt-get -qq -y --reinstall install ./nightmill.deb")
    if "0" in (before, pid()) or before == pid():
        sys.exit(f"an upgrade leaves the old program at work: {before} is {pid()}\n" +
                 bare.sh("journalctl -n 20 -u nightmill-watch@srv-jobs.service"))
    tell("an upgrade starts what watches anew")


def main(build, deb):
    lintian(deb)
    bare = Bare(build, "deb")
    shutil.copy(deb, bare.at("root/nightmill.deb"))
    bare.install("man-db", "systemd", "systemd-sysv", "dbus", "zsh", "fish", "ca-certificates", "tzdata")
    booted = bare.boot()
    if not booted:
        tell("systemd does not start here: the package's scripts cannot ask it anything")
    before = bare.files(*LEFT)

    def said(script, says):
        out = bare.sh(script)
        if says not in out:
            sys.exit(f"`{script}` does not say {says!r}:\n{out}")
        tell(script)

    wants = bare.sh("dpkg-deb -f nightmill.deb Depends").strip()
    bare.sh("apt-get -qq -y install ./nightmill.deb")
    tell(f"installed; it depends on {wants}")
    said("nightmill --version", "nightmill")
    said("man -l /usr/share/man/man1/nightmill.1.gz | head", "nightmill")
    said("man nightmill | head", "nightmill")
    said("bash -n /usr/share/bash-completion/completions/nightmill && echo sound", "sound")
    said("zsh -n /usr/share/zsh/vendor-completions/_nightmill && echo sound", "sound")
    said("fish -n /usr/share/fish/vendor_completions.d/nightmill.fish && echo sound", "sound")
    verify = ("systemd-analyze verify nightmill@srv-jobs.service nightmill@srv-jobs.timer"
              " nightmill-watch@srv-jobs.service")
    if out := bare.sh(f"mkdir -p /srv/jobs && {verify}").strip():
        sys.exit(f"{verify}:\n{out}")
    tell(verify)
    for unit in ("nightmill@", "nightmill-watch@"):
        score = re.search(r"exposure level .*: ([\d.]+)", bare.sh(
            "systemd-analyze security --offline=yes --no-pager"
            f" /lib/systemd/system/{unit}.service", check=False))
        if score is None or float(score[1]) > EXPOSED:
            sys.exit(f"systemd-analyze security {unit}: {score and score[1]}, {EXPOSED} at "
                     "most is wanted")
        tell(f"systemd-analyze security {unit}.service: {score[1]}")
    said("nightmill init /srv/jobs && ls /srv/jobs", "nightmill.ini")
    said("nightmill plan /srv/jobs", "")
    bare.sh("systemctl enable nightmill@srv-jobs.timer nightmill-watch@srv-jobs.service")
    if booted:
        watched(bare)

    # What a run would have left, which no purge may take.
    bare.write(ANSWERED, "paid for")
    bare.sh("apt-get -qq -y purge nightmill && apt-get -qq -y autoremove --purge")
    if booted and (out := bare.sh("systemctl list-units --all --no-legend 'nightmill*'")):
        sys.exit(f"a purge leaves units:\n{out}")
    left = bare.files(*LEFT) - before
    if left:
        sys.exit("a purge leaves:\n" + "\n".join(sorted(left)))
    for kept in (ANSWERED, "/srv/jobs/nightmill.ini"):
        if not os.path.exists(bare.at(kept)):
            sys.exit(f"a purge took {kept}")
    tell("purged: nothing is left but state and queues")
    bare.remove()


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
