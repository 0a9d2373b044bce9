"""Configuration, keys and places: what is wrong is said before anything is sent."""
import os
import subprocess
import unittest

from story import CONSENT, DONE, KEY, STORE, Story, body, wait_until

OTHER_KEY = "sk-ant-api03-the-key-that-came-from-a-file-00"


class Settings(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.q.write("a.md", "What?")

    def refused(self, words, *args, code=CONSENT, **more):
        ended = self.q.run(*args, **more)
        self.assert_exit(code, ended)
        self.assertRegex(ended.err, words)
        self.assertEqual(1, len(ended.err.splitlines()), ended.err)
        self.assertEqual("", ended.out)
        self.assertEqual(0, self.s.stats()["started"])

    def ini(self, text, mode=0o644):
        os.chmod(self.q.write("nightmill.ini", text), mode)

    def test_a_wrong_option_is_told_by_file_and_line(self):
        self.ini("[limits]\nin_flight = 3\n\n[limts]\nin_flight = 4\n")
        self.refused(r"queue/nightmill\.ini:5: limts\.in_flight: no such option")
        self.ini("[limits]\nin_flight = lots\n")
        self.refused(r"nightmill\.ini:2: limits\.in_flight = lots: want a number from 1 to")
        self.ini("[limits]\ndrain = 30\n")
        self.refused(r"nightmill\.ini:2: limits\.drain = 30: want a time with its unit")
        self.ini("[tier deep]\nfallback = colossal\n")
        self.refused(r"tier\.deep\.fallback = colossal: no such tier; there are cheap")
        self.ini("[route x]\nmatch = *\n")
        self.refused(r"\[route x\]: want tier, model, route or check")
        self.ini("nonsense\n")
        self.refused(r"nightmill\.ini:1: ")
        self.ini("")
        self.refused(r"--set: limits\.speed: no such option", sets=["limits.speed=9"])
        self.refused(r"jobs\.in_doubt = maybe: want one of: again hold",
                     sets=["jobs.in_doubt=maybe"])

    def test_wrong_words_on_the_command_line_are_told(self):
        self.refused(r"unknown option --frist; see nightmill run --help", "--frist", "3")
        self.refused(r"--first wants a number of jobs, not none", "--first", "none")
        self.refused(r"--until wants a time such as 07:00, not 25:00", "--until", "25:00")

    def test_a_directory_that_is_none_is_told(self):
        for path in ("/nonexistent/queue", self.q.at("a.md")):
            ended = subprocess.run([*self.q.command("run")[:-1], path], env=self.q.env,
                                   capture_output=True, text=True, check=False)
            self.assertEqual(CONSENT, ended.returncode)
            self.assertIn(path, ended.stderr)

    def test_an_ini_that_others_can_write_does_not_say_where_things_go(self):
        for option in ("[api]\nbase_url = https://example.org", "[api]\nkey_command = id",
                       "[store]\ndir = /tmp/x", "[results]\ndir = /tmp/y"):
            with self.subTest(option):
                self.ini(option + "\n", 0o666)
                self.refused(r"nightmill\.ini:2: \S+: not taken from a file that others can "
                             r"write")
        # Other options are taken from it.
        self.ini("[jobs]\ntier = cheap\n", 0o666)
        self.assert_exit(DONE, self.q.run())
        self.assertEqual("cheap", self.q.json("a")["tier"])

    def test_an_ini_of_somebody_else_does_not_say_where_things_go(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        self.ini("[results]\ndir = /tmp/y\n")
        os.chown(self.q.at("nightmill.ini"), 12345, 12345)
        # Root runs it, the file is another user's.
        self.refused(r"not taken from a file that others can write or own")

    def test_one_s_own_ini_may_say_where_results_go(self):
        self.ini("[results]\ndir = here\n")
        self.assert_exit(DONE, self.q.run())
        self.assertTrue(os.path.exists(self.q.at("here/a.json")))

    def test_later_settings_win(self):
        self.ini("[jobs]\ntier = cheap\n")
        conf = os.path.join(self.q.base, "mine.ini")
        with open(conf, "w") as f:
            f.write("[jobs]\ntier = deep\n")
        self.assert_exit(DONE, self.q.run("--conf", conf))
        self.assertEqual("deep", self.q.json("a")["tier"])
        self.q.write("b.md", "What else?")
        self.assert_exit(DONE, self.q.run("--conf", conf, sets=["jobs.tier=standard"]))
        self.assertEqual("standard", self.q.json("b")["tier"])

    def test_the_key_does_not_travel_in_the_clear(self):
        for url in ("http://example.org", "http://127.0.0.1.example.org",
                    "http://127.0.0.1@example.org", "http://localhost.example.org",
                    "ftp://127.0.0.1", "http:/127.0.0.1", "https://"):
            with self.subTest(url):
                self.refused(r"api\.base_url = .*want https://HOST, or http:// to 127\.0\.0\.1",
                             env={"ANTHROPIC_BASE_URL": url})


class Keys(Story):
    def setUp(self):
        self.s = self.sim(f"auth.keys={OTHER_KEY}")
        self.q = self.queue(self.s)
        self.q.write("a.md", "What?")
        self.file = os.path.join(self.q.base, "key")
        del self.q.env["ANTHROPIC_API_KEY"]

    def key_file(self, mode):
        with open(self.file, "w") as f:
            f.write(OTHER_KEY + "\n")
        os.chmod(self.file, mode)
        return [f"api.key_file={self.file}"]

    def test_no_key_is_told_and_nothing_is_begun(self):
        ended = self.q.run()
        self.assert_exit(CONSENT, ended)
        self.assertIn("export ANTHROPIC_API_KEY, or set api.key_file to a file with it", ended.err)
        self.assertFalse(os.path.exists(self.q.at(".nightmill")))

    def test_a_key_file_that_others_can_read_is_refused(self):
        for mode in (0o644, 0o640, 0o604):
            ended = self.q.run(sets=self.key_file(mode))
            self.assert_exit(CONSENT, ended)
            self.assertRegex(ended.err, r"others can read it; chmod 600")
        self.assertEqual(0, self.s.requests())

    def test_a_key_comes_from_a_file_or_a_command(self):
        self.assert_exit(DONE, self.q.run(sets=self.key_file(0o600)))
        self.q.write("b.md", "What else?")
        self.assert_exit(DONE, self.q.run(sets=[f"api.key_command=cat {self.file}"]))
        self.assertEqual(2, self.s.served())
        ended = self.q.run(sets=["api.key_command=exit 3"])
        self.assert_exit(CONSENT, ended)
        self.assertIn("api.key_command", ended.err)

    def test_the_key_is_left_nowhere(self):
        self.q.env["ANTHROPIC_API_KEY"] = KEY
        self.s.set(auth_keys="", latency_ttft="600ms")
        # An API that quotes the key back must not get it into a log either.
        self.q.write("bad.json", body("spoiled"))
        self.s.fault("400", match="spoiled", message=f"unknown field near {KEY}")
        r = self.start(self.q, "--json", env={"NIGHTMILL_LOG": "debug"})
        wait_until(lambda: self.s.stats()["in_flight"] > 0, why="a request")
        with open(f"/proc/{r.pid}/cmdline", "rb") as f:
            self.assertNotIn(KEY.encode(), f.read())
        ended = r.wait()
        self.assertIn("unknown field near", ended.err)
        self.assertNotIn(KEY, ended.out + ended.err)
        self.assertNotIn(KEY, self.q.read("results/bad.json"))
        for command in ("status", "results"):
            self.assertNotIn(KEY, self.q.tell(command).out)
        # All files of queue and state are looked through behind every story.

    def test_state_is_private(self):
        self.s.set(auth_keys="")
        self.q.env["ANTHROPIC_API_KEY"] = KEY
        self.assert_exit(DONE, self.q.run())
        for path in (self.q.at(".nightmill"), os.path.join(self.q.base, "state/nightmill")):
            self.assertEqual(0o700, os.stat(path).st_mode & 0o777, path)


class Places(Story):
    def test_a_queue_that_is_read_only_wants_other_places(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.md", "What?")
        if subprocess.run(["mount", "--bind", q.path, q.path], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("no right to mount")
        self.addCleanup(subprocess.run, ["umount", q.path], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", q.path], check=True)
        ended = q.run()
        self.assert_exit(STORE, ended)
        self.assertRegex(ended.err, r"run as the one who owns the queue, or if it is read-only, "
                                    r"set store\.dir and results\.dir")
        self.assertEqual(0, s.requests())
        elsewhere = [f"store.dir={q.base}/st", f"results.dir={q.base}/res"]
        self.assert_exit(DONE, q.run(sets=elsewhere))
        self.assertTrue(os.path.exists(os.path.join(q.base, "res/a.md")))
        self.assert_exit(DONE, q.run(sets=elsewhere))
        self.assertEqual(1, s.requests())

    def test_options_prints_an_ini_that_can_be_used_as_it_is(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.md", "What?")
        text = subprocess.run([*q.command("options")[:q.command("options").index("options")], "options"], env=q.env,
                              capture_output=True, text=True, check=True).stdout
        plain = "".join(row.lstrip(";") + "\n" if " = " in row and not row.startswith("; ")
                        else row + "\n" for row in text.splitlines()
                        if not row.startswith(";["))
        plain = plain[:plain.index("; Rules")]
        conf = os.path.join(q.base, "all.ini")
        for words in (text, plain):
            with open(conf, "w") as f:
                f.write(words)
            self.assert_exit(DONE, q.run("--conf", conf, sets=[f"api.base_url={s.url}"]))


if __name__ == "__main__":
    unittest.main()
