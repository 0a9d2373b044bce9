"""Queues that would wait for ever, or lose something, where a rule has a hole."""
import signal
import unittest

from story import AGAIN, CONSENT, DONE, FAILED, Story, body, lines, wait_until


class Corners(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def test_a_job_that_always_fails_ends_though_it_is_alone(self):
        self.q.write("poison.md", "poison")
        self.s.fault("500", match="poison")
        self.assert_exit(FAILED, self.q.run(sets=["limits.attempts=5"]))
        self.assertLessEqual(self.s.requests(), 12)

    def test_a_job_that_always_meets_overload_ends_when_the_others_are_done(self):
        self.q.write("poison.md", "poison")
        self.q.write("b.jsonl", lines(12))
        self.s.fault("529", match="poison")
        self.assert_exit(FAILED, self.q.run(sets=["limits.attempts=2"]))
        self.assertEqual(12, self.q.status()["jobs"]["done"])

    def test_two_jobs_that_are_always_reset_are_charged_though_nobody_gets_through(self):
        self.q.write("a.md", "poison a")
        self.q.write("b.md", "poison b")
        self.s.fault("reset", match="poison")
        r = self.start(self.q)
        wait_until(lambda: self.s.requests() >= 3 and
                   self.q.db("SELECT max(silent) FROM job")[0][0] >= 1, why="a charge")
        r.signal(signal.SIGTERM)
        self.assert_exit(AGAIN, r.wait(30))

    def test_changed_jobs_under_new_file_names_want_consent_too(self):
        for n in range(6):
            self.q.write(f"j{n}.md", f"old {n}")
        self.assert_exit(DONE, self.q.run())
        for n in range(6):
            self.q.remove(f"j{n}.md")
            self.q.write(f"j{n}.txt", f"new {n}")
        self.assert_exit(CONSENT, self.q.run())
        self.assertEqual(6, self.s.requests())
        self.assert_exit(DONE, self.q.run("--accept-changes"))
        self.assertEqual(12, self.s.requests())

    def test_a_duplicate_takes_nobodys_row(self):
        self.q.write("a.txt.md", "the job named a.txt")
        self.assert_exit(DONE, self.q.run())
        self.q.write("a.md", "first")
        self.q.write("a.txt", "second of that name")
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual("done", self.q.json("a.txt")["state"])
        self.assertEqual(2, self.q.status()["jobs"]["done"])

    def test_a_mended_bulk_file_runs_without_retry(self):
        self.q.write("b.jsonl", lines(60, system="spoiled"))
        self.s.fault("400", match="spoiled")
        self.assert_exit(FAILED, self.q.run())
        self.q.write("b.jsonl", lines(60, system="mended"))
        self.assert_exit(DONE, self.q.run())
        self.assertEqual(60, self.q.status()["jobs"]["done"])

    def test_one_very_long_name_stops_nobody(self):
        self.q.write("x" * 250 + ".md", "long")
        self.q.write("ok.md", "fine")
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual("done", self.q.json("ok")["state"])
        self.assert_exit(FAILED, self.q.run())

    def test_a_canary_that_met_a_limit_has_not_sung_yet(self):
        self.q.write("b.jsonl", lines(5))
        self.s.fault("429", first=1, retry_after=1)
        self.assert_exit(DONE, self.q.run("--first", "1"))
        self.assertEqual(1, self.q.status()["jobs"]["done"])

    def test_a_queue_whose_one_request_is_absurd_runs_the_rest(self):
        self.q.write("big.json", body("hi", max_tokens=9_000_000_000_000_000_000))
        self.q.write("ok.md", "fine")
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual("done", self.q.json("ok")["state"])


if __name__ == "__main__":
    unittest.main()
