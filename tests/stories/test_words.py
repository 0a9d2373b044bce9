"""Every word that nightmill knows is in its help, its manual, its sample and what shells
complete: all of them are printed from the one table."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from story import DONE, NIGHTMILL, VALGRIND, Running, Story

UNITS = os.path.join(os.path.dirname(__file__), "..", "..", "conf")


class Words(Story):
    def said(self, *args):
        base = tempfile.mkdtemp(prefix="nightmill-story-")
        self.addCleanup(shutil.rmtree, base, True)
        env = {"PATH": os.environ["PATH"], "HOME": base, "LANG": "C.UTF-8"}
        ended = Running(VALGRIND + [NIGHTMILL, *args], env, base).wait()
        self.assert_exit(DONE, ended)
        return ended.out

    def commands(self):
        return re.findall(r"(?m)^  nightmill (\w+) ", self.said("--help"))

    def options_of(self, command):
        return re.findall(r"(?m)^  --([\w-]+)", self.said(command, "--help"))

    def settings(self):
        """From the sample, where each stands under its section."""
        names, section = set(), ""
        for row in self.said("options").splitlines():
            if m := re.match(r";?\[([\w ]+)\]", row):
                section = m[1].replace(" ", ".")
                section = re.sub(r"^(tier|route|check)\..*", r"\1.NAME", section)
            elif m := re.match(r";([a-z_]+) = ", row):
                names.add(f"{section}.{m[1]}")
        return names

    def completion(self, shell):
        text = self.said("options", "--completion", shell)
        path = os.path.join(tempfile.mkdtemp(prefix="nightmill-story-"), "completion")
        self.addCleanup(shutil.rmtree, os.path.dirname(path), True)
        with open(path, "w") as f:
            f.write(text)
        return text, path

    def test_all_of_them_know_the_same_commands_and_options(self):
        manual = self.said("options", "--man").replace("\\-", "-")
        shells = {s: self.completion(s)[0] for s in ("bash", "zsh", "fish")}
        commands = self.commands()
        self.assertGreaterEqual(len(commands), 14)
        for command in commands:
            self.assertIn(f".SS {command} ", manual)
            options = set(self.options_of(command))
            self.assertIn("help", options)
            part = manual.split(f".SS {command} ")[1].split(".SS ")[0]
            bash = re.search(rf"(?m)^ +{command}\) words=\"(.*)\"", shells["bash"])[1].split()
            zsh = re.search(rf"(?ms)^    {command}\)\n.*?;;", shells["zsh"])[0]
            for where, known in {
                    "the manual": re.findall(r"(?m)^\.B --([\w-]+)", part),
                    "bash": [word.removeprefix("--") for word in bash],
                    "zsh": re.findall(r"'--([\w-]+)\[", zsh),
                    "fish": re.findall(rf"from {command}' -l ([\w-]+)", shells["fish"])
            }.items():
                self.assertEqual(options, set(known), f"{where}, of {command}")

    def test_all_of_them_know_the_same_settings(self):
        settings = self.settings()
        self.assertGreater(len(settings), 50)
        manual = self.said("options", "--man").replace("\\-", "-")
        self.assertEqual(settings, set(re.findall(r"(?m)^\.B ([\w.]+) = ", manual)))
        for shell in ("bash", "zsh", "fish"):
            text = self.completion(shell)[0]
            self.assertEqual(settings, set(re.findall(r"([\w]+\.[\w.]+)=(?=[ \"')])", text)),
                             shell)

    def test_the_shells_can_read_what_is_for_them(self):
        for shell in ("bash", "zsh", "fish"):
            if shutil.which(shell):
                subprocess.run([shell, "-n", self.completion(shell)[1]], check=True)

    @unittest.skipUnless(shutil.which("bash"), "bash is not installed")
    def test_bash_completes(self):
        path = self.completion("bash")[1]

        def completed(*words):
            script = (f". {path}; COMP_WORDS=({' '.join(words)} ''); "
                      f"COMP_CWORD={len(words)}; _nightmill; echo ${{COMPREPLY[@]}}")
            if not words[-1] or words[-1].startswith("-") and words[-1] != "--by":
                script = script.replace(" '')", ")").replace(f"CWORD={len(words)}",
                                                             f"CWORD={len(words) - 1}")
            return subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                                  check=True).stdout.split()
        self.assertEqual(self.commands(), completed("nightmill"))
        self.assertIn("--accept-changes", completed("nightmill", "run", "--acc"))
        self.assertNotIn("--by", completed("nightmill", "run", "--"))
        self.assertEqual(["day", "model", "tier", "lane", "tag", "run"],
                         completed("nightmill", "costs", "--by"))

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_the_manual_is_sound(self):
        r = subprocess.run(["groff", "-ww", "-man", "-Tutf8"], input=self.said("options", "--man"),
                           capture_output=True, text=True, check=True)
        self.assertEqual("", r.stderr)
        self.assertIn("limits.longest_wait = 0s", re.sub(r"\x1b\[[\d;]*m|.\x08", "", r.stdout))

    def unit(self, name):
        with open(os.path.join(UNITS, name)) as f:
            return dict(row.split("=", 1) for row in f.read().splitlines()
                        if re.match(r"\w+=", row))

    def test_a_unit_that_is_stopped_has_time_for_what_is_out(self):
        default = dict(re.findall(r"(?m)^;(drain|patience) = (\d+)s$", self.said("options")))
        for name in ("nightmill@.service", "nightmill-watch@.service"):
            self.assertGreater(int(self.unit(name)["TimeoutStopSec"]),
                               sum(map(int, default.values())), name)

    def test_a_unit_that_stopped_with_work_left_is_not_started_again_at_once(self):
        night, watch = map(self.unit, ("nightmill@.service", "nightmill-watch@.service"))
        self.assertEqual(("75", "no"), (night["SuccessExitStatus"], night["Restart"]))
        self.assertEqual("1 75", watch["SuccessExitStatus"])
        self.assertEqual("2 77", watch["RestartPreventExitStatus"])
        self.assertGreaterEqual(int(watch["RestartSec"]), 60)

    def test_both_services_are_shut_in_alike(self):
        shut = [{k: v for k, v in self.unit(f"nightmill{name}@.service").items()
                 if re.match("Protect|Private|Restrict[A-Z]|NoNew|Lock|Memory|System|Cap|UMask", k)
                 and not k.startswith("RestartP")} for name in ("", "-watch")]
        self.assertEqual(*shut)
        self.assertGreater(len(shut[0]), 15)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_the_units_are_sound(self):
        base = tempfile.mkdtemp(prefix="nightmill-story-")
        self.addCleanup(shutil.rmtree, base, True)
        names = ("nightmill@.service", "nightmill@.timer", "nightmill-watch@.service")
        for name in names:
            with open(os.path.join(UNITS, name)) as f:
                text = f.read().replace("ExecStart=nightmill",
                                        f"ExecStart={os.path.abspath(NIGHTMILL)}")
            with open(os.path.join(base, name.replace("@", "@tmp")), "w") as f:
                f.write(text)
        r = subprocess.run(["systemd-analyze", "verify", "--man=no",
                            *(os.path.join(base, n.replace("@", "@tmp")) for n in names)],
                           capture_output=True, text=True)
        self.assertEqual((0, ""), (r.returncode, r.stderr))


if __name__ == "__main__":
    unittest.main()
