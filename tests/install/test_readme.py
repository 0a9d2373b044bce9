"""README's way and its examples, with what is installed under a prefix: no root, no network.
And that an installation puts everything in its place."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import readme
from story import KEY, Queue, Story

BUILD = os.environ.get("NIGHTMILL_BUILD", "")
PLACES = """
bin/nightmill
bin/nightmill-sim
lib/systemd/system/nightmill-watch@.service
lib/systemd/system/nightmill@.service
lib/systemd/system/nightmill@.timer
share/bash-completion/completions/nightmill
share/doc/nightmill/LICENSE
share/doc/nightmill/README.md
share/doc/nightmill/examples/tickets.jsonl
share/doc/nightmill/models.ini
share/doc/nightmill/nightmill.ini
share/fish/vendor_completions.d/nightmill.fish
share/man/man1/nightmill.1
share/man/man1/nightmill-sim.1
share/zsh/site-functions/_nightmill
""".split()


class Readme(Story):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="nightmill-story-")
        cls.addClassCleanup(shutil.rmtree, cls.home, True)
        cls.usr = os.path.join(cls.home, "usr")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.usr], check=True,
                       stdout=subprocess.DEVNULL)

    def stranger(self):
        """A simulator, and a home with nothing in it but the fake key of the environment."""
        self.s = self.sim("auth.keys=" + KEY, "output.median=30", "output.sigma=0")
        self.q = self.queue(self.s)
        self.q.env["HOME"] = self.q.base
        self.q.env["PATH"] = f"{self.usr}/bin:/usr/bin:/bin"
        self.q.path = os.path.join(self.q.base, "jobs")

    def bash(self, *texts, **env):
        r = subprocess.run(["bash", "-c", readme.typed(texts)], cwd=self.q.base,
                           env={**self.q.env, **env}, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=100, check=False)
        self.assertNotIn("README: exit", r.stdout)
        return r.stdout

    def test_its_way_leads_from_an_empty_queue_to_a_night_that_cron_runs_in_silence(self):
        self.stranger()
        out = self.bash(*readme.of("user"))
        self.assertIn("ready for the night", out)
        self.assertIn("1 done, 0 failed", out)
        self.assertIn("3 done, 0 failed", out)
        for job in ("hello", "tickets#t1", "tickets#t2"):
            self.assertIn(f"== {job} (accepted) ==", out)
        key = os.path.join(self.q.base, ".nightmill.key")
        self.assertEqual(0o600, os.stat(key).st_mode & 0o777)

        (crontab,) = readme.of("crontab")
        variables, command = readme.cron(crontab)
        self.assertIn("/usr/local/bin", variables["PATH"].split(":"))
        self.assertIn("/usr/bin", variables["PATH"].split(":"))
        env = {"HOME": self.q.base, "LOGNAME": "me", "SHELL": "/bin/sh",
               "PATH": variables["PATH"].replace("/usr/local/bin", self.usr + "/bin"),
               "TZ": readme.night_zone(), "ANTHROPIC_BASE_URL": self.s.url,
               "XDG_STATE_HOME": self.q.env["XDG_STATE_HOME"]}
        self.q.write("tonight.md", "What is new?")
        self.assertEqual((0, b""), self.cron_runs(command, env))
        self.assertTrue(os.path.exists(self.q.at("results", "tonight.md")))
        # And where a person is needed, cron has something to mail.
        self.s.credit(set=0)
        self.q.write("tomorrow.md", "And now?")
        code, said = self.cron_runs(command, env)
        self.assertEqual(75, code)
        self.assertIn(b"Add credit", said)
        os.remove(key)  # of the story, so that none is left anywhere

    def cron_runs(self, command, env):
        r = subprocess.run(["/bin/sh", "-c", command], env=env, cwd=self.q.base,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=100, check=False)
        return r.returncode, r.stdout

    def test_who_is_to_be_told_is_told_by_its_example(self):
        self.stranger()
        proxy = readme.Proxy()
        self.addCleanup(proxy.stop)
        bin_ = os.path.join(self.q.base, "bin")
        os.mkdir(bin_)
        with open(os.open(os.path.join(bin_, "mail"), os.O_CREAT | os.O_WRONLY, 0o755),
                  "w") as f:
            f.write(readme.MAIL)
        (text,) = readme.of("notify")
        self.assertIn("textfile = /var/lib/", text)
        # Word for word but for the place, which is root's.
        where = os.path.join(self.q.base, "nightmill.prom")
        self.q.write("nightmill.ini", re.sub(r"(?m)^textfile = .*/(\w+\.prom)$",
                                             f"textfile = {self.q.base}/\\1", text))
        self.q.write("a.md", "What is new?")
        self.bash("nightmill run --set intake.settle=0s jobs", HTTPS_PROXY=proxy.url,
                  PATH=f"{bin_}:{self.q.env['PATH']}")
        self.assertIn(["CONNECT", "hc-ping.com:443"], proxy.heard)
        with open(where) as f:
            self.assertIn("nightmill_jobs", f.read())
        with open(os.path.join(self.q.base, "mail")) as f:
            mail = f.read().splitlines()
        self.assertEqual(["-s", "nightmill: exit 0 in jobs",
                          "root"], mail[:3])
        self.assertRegex(mail[3], "^exit 0: 1 done")

    def test_its_job_has_the_result_that_it_shows(self):
        self.stranger()
        job, result = (b.text for b in readme.blocks(readme.readme())
                       if b.section == "A job and its result")
        self.q.write("legal/summary.md", job)
        system = re.search(r"(?m)^system_file: (.+)$", job)[1]
        self.q.write(f"legal/{system}", "Be brief.")
        self.q.write(system, "Be brief.")
        self.bash("nightmill run --set intake.settle=0s jobs")
        got = self.q.json("legal/summary")
        shown = json.loads(result.replace("{...}", "{}"))
        self.assertEqual(list(shown), list(got))
        for name in ("job", "state", "outcome", "tier", "model", "why", "attempts"):
            self.assertEqual(shown[name], got[name])

    def test_each_command_of_its_list_is_one_and_none_is_missing(self):
        (text,) = (b.text for b in readme.blocks(readme.readme())
                   if b.section == "Commands" and b.text.startswith("nightmill"))
        help_ = subprocess.run([f"{self.usr}/bin/nightmill", "--help"], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        self.assertEqual(set(re.findall(r"(?m)^  nightmill (\w+) ", help_)),
                         set(re.findall(r"(?m)^nightmill (\w+) ", text)))
        for row in text.splitlines():
            command = row.split()[1]
            knows = subprocess.run([f"{self.usr}/bin/nightmill", command, "--help"],
                                   check=True, stdout=subprocess.PIPE, text=True).stdout
            for option in re.findall(r"--\w[\w-]*", row):
                self.assertIn(option, knows, f"{command} has no {option}")

    def test_an_installation_puts_everything_in_its_place(self):
        found = {os.path.relpath(os.path.join(folder, n), self.usr)
                 for folder, _, names in os.walk(self.usr) for n in names}
        self.assertEqual(set(), set(PLACES) - found)
        self.assertEqual(set(), {f for f in found - set(PLACES) if "/examples/" not in f})

    def test_an_installation_can_be_put_together_elsewhere(self):
        away = os.path.join(self.home, "away")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", "/usr"], check=True,
                       env={**os.environ, "DESTDIR": away}, stdout=subprocess.DEVNULL)
        for place in PLACES:
            self.assertTrue(os.path.exists(os.path.join(away, "usr", place)), place)
        self.assertEqual(["usr"], os.listdir(away))


if __name__ == "__main__":
    unittest.main()
