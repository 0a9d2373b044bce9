"""What cron may rely on: with --quiet a night that needs nobody is silent, and one that
needs a person says in sentences what to do. The table of exit codes is README's."""
import os
import re
import signal
import time
import unittest

from story import (AGAIN, CONSENT, DONE, EXITS, FAILED, KEY, KEY_REFUSED, STORE, Story, lines,
                   paced, wait_until)

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")


def clock(seconds):
    """HH:MM, so long from now."""
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))


class Cron(Story):
    def setUp(self):
        self.s = self.sim("auth.keys=" + KEY)
        self.q = self.queue(self.s)

    def silent(self, code, *args, **more):
        self.assertEqual((code, "", ""), tuple(self.q.run("--quiet", *args, **more)))

    def mails(self, code, says, *args, **more):
        ended = self.q.run("--quiet", *args, **more)
        self.assert_exit(code, ended)
        self.assertRegex(ended.err, says)
        self.assertEqual("", ended.out)
        for row in ended.err.splitlines():
            self.assertTrue(row.startswith("nightmill: "), row)

    def test_a_night_that_needs_nobody_is_silent(self):
        self.silent(DONE)  # an empty queue
        self.q.write("b.jsonl", lines(20))
        self.silent(AGAIN, sets=[f"window.open={clock(3 * 3600)}-{clock(5 * 3600)}"])
        self.assertEqual(0, self.s.requests())
        self.silent(DONE, "--first", "3")
        self.silent(DONE)
        self.silent(DONE)
        self.assert_jobs(self.q, done=20)

    def test_a_night_that_is_told_to_stop_stops_in_silence(self):
        self.s.set(latency_ttft=paced("300ms", "2s"))
        self.q.write("b.jsonl", lines(200))
        for number in (signal.SIGTERM, signal.SIGINT):
            r = self.start(self.q, "--quiet", sets=["limits.in_flight=4"])
            wait_until(lambda: self.s.stats()["in_flight"] >= 1, why="a request")
            r.signal(number)
            self.assertEqual((AGAIN, "", ""), tuple(r.wait()))
        self.assertEqual(self.s.served(), self.q.status()["jobs"]["done"])

    def test_money_that_is_gone_is_mailed_each_night_until_there_is_some(self):
        self.q.write("a.md", "What is new?")
        self.s.credit(set=0)
        for _ in range(2):
            self.mails(AGAIN, r"out of credit .* Add credit, then run the same command")
        self.s.credit(infinite=True)
        self.mails(AGAIN, r"the ceiling budget\.run .* Raise the ceiling or wait",
                   sets=["budget.run=0.0000001"])
        self.silent(DONE)

    def test_a_spend_limit_is_mailed_with_the_day_on_which_it_ends(self):
        s = self.sim("spend.limit=0", "spend.until=" + time.strftime(
            "%Y-%m-%d", time.localtime(time.time() + 9 * 86400)))
        self.q.write("a.md", "What is new?")
        self.mails(AGAIN, r"a spend limit .* Access returns on 20\d\d-",
                   env={"ANTHROPIC_BASE_URL": s.url})

    def test_what_a_person_must_mend_is_mailed_with_how(self):
        self.q.write("a.md", "What is new?")
        with open(os.path.join(self.q.base, "file"), "w") as f:
            f.write("no directory")
        for code, says, more in (
                (KEY_REFUSED, r"the key was refused .* Check ANTHROPIC_API_KEY",
                 {"env": {"ANTHROPIC_API_KEY": "sk-ant-wrong"}}),
                (CONSENT, r"no API key; export", {"env": {"ANTHROPIC_API_KEY": ""}}),
                (CONSENT, r"no such option; `nightmill options` has all",
                 {"sets": ["jobs.tyer=deep"]}),
                (AGAIN, r"Check the network and api\.base_url",
                 {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"},
                  "sets": ["limits.outage=1s"]}),
                (AGAIN, r"claude-zebra is closed .* Change the tier's model",
                 {"sets": ["tier.standard.model=claude-zebra"]}),
                (STORE, r"cannot be made: .*; make it yourself, or name another place",
                 {"sets": [f"results.dir={self.q.base}/file/results"]})):
            with self.subTest(says):
                self.mails(code, says, **more)
        self.silent(DONE)

    def test_failed_jobs_are_mailed_with_where_to_look(self):
        self.q.write("b.jsonl", lines(3))
        self.s.fault("400", count=1)
        for _ in range(2):  # until a person has looked
            self.mails(FAILED, rf"2 done, 1 failed(.|\n)*`nightmill status {self.q.path}`")
        self.assert_exit(DONE, self.q.tell("retry"))
        self.silent(DONE)

    def test_a_doubt_about_what_is_meant_is_mailed_with_the_word_that_ends_it(self):
        for n in range(5):
            self.q.write(f"{n}.md", f"What is {n}?")
        self.silent(DONE)
        for n in range(5):
            self.q.write(f"{n}.md", f"What was {n}?")
        self.mails(CONSENT, r"if that is meant, say --accept-changes\n$")
        self.silent(DONE, "--accept-changes")
        for n in range(5):
            self.q.remove(f"{n}.md")
        self.mails(CONSENT, r"if that is meant, say --accept-empty\n$")
        self.silent(DONE, "--accept-empty")

    def test_the_table_of_readme_has_every_exit_code_in_the_order_in_which_they_apply(self):
        with open(README) as f:
            codes = [int(c) for c in re.findall(r"(?m)^\| (\d+) \| .* \| .* \|$", f.read())]
        self.assertEqual([CONSENT, STORE, KEY_REFUSED, AGAIN, FAILED, DONE], codes)
        self.assertEqual(EXITS, set(codes))


if __name__ == "__main__":
    unittest.main()
