"""Limits: a hold is kept to the end, by its lane alone, and uses up no attempt."""
import json
import time
import unittest

from story import (AGAIN, DONE, FAILED, HAIKU, OPUS, SLOWER, SONNET, Story, body,
                   lines, paced, wait_until)


class Rate(Story):
    def setUp(self):
        self.s = self.sim("latency.ttft=5ms")
        self.q = self.queue(self.s)

    def refuse(self, model, seconds, **how):
        self.s.fault("429", match=model, retry_after=seconds, **{"count": 1, **how})

    def starts(self, model):
        return [r["at_ms"] for r in self.s.log(model=model)]

    def refused_at(self):
        return self.s.log(status=429)[0]["at_ms"]

    def test_a_429_silences_its_lane_for_the_whole_time_and_no_other(self):
        self.q.write("d.jsonl", lines(12, model="deep"))
        self.q.write("s.jsonl", lines(200, model="standard"))
        seconds = paced(3, 9)
        self.refuse(OPUS, seconds)
        ended = self.q.run()
        self.assert_exit(DONE, ended)
        told = paced(r"(3\.0|2\.9)", r"[98]\.\d")
        self.assertNotRegex(ended.err, r"limits .*pm=-?[01]\b")  # what is not told is not made up
        self.assertRegex(ended.err, rf"lane=opus-5\.5 held {told} s more \(rate limited")
        at = self.refused_at()
        after = [t for t in self.starts(OPUS) if t > at]
        self.assertEqual(12, len(after))
        hold = seconds * 1000
        self.assertGreaterEqual(min(after) - at, hold)
        self.assertLess(min(after) - at, hold + 1500 * SLOWER)
        self.assertGreater(len([t for t in self.starts(SONNET)
                                if at < t < at + hold - 100]), 150)
        # The refused job was sent twice and tried once.
        self.assertEqual([(1,)], self.q.db("SELECT max(attempts) FROM job"))
        self.assertEqual([(2,)], self.q.db("SELECT max(sendings) FROM job"))

    def test_a_429_in_full_flight_lets_only_what_is_out_through(self):
        self.q.write("d.jsonl", lines(150, model="deep"))
        self.s.set(latency_ttft="60ms")
        seconds = paced(2, 4)
        self.refuse(OPUS, seconds, at=40)
        self.assert_exit(DONE, self.q.run())
        at = self.refused_at()
        during = [t for t in self.starts(OPUS) if at + 50 * SLOWER < t < at + seconds * 1000]
        self.assertEqual([], during)
        self.assertEqual([(1,)], self.q.db("SELECT max(attempts) FROM job"))

    def test_a_hold_longer_than_the_longest_wait_ends_the_run(self):
        self.q.write("d.jsonl", lines(5, model="deep"))
        self.q.write("s.jsonl", lines(50, model="standard"))
        self.refuse(OPUS, 600)
        ended = self.q.run(sets=["limits.longest_wait=5m"])
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"stopped: nothing can be sent before 20\d\d-\d\d-\d\d \d\d:"
                                    r"\d\d UTC \(opus-5\.5: held .*longer than "
                                    r"limits\.longest_wait\. 5 jobs wait")
        self.assert_jobs(self.q, queued=5, done=50)
        self.assertEqual([(0,)], self.q.db("SELECT max(attempts) FROM job WHERE state = 0"))

    def test_sigterm_in_the_middle_of_a_hold_ends_at_once_and_the_next_run_obeys(self):
        self.q.write("d.jsonl", lines(5, model="deep"))
        seconds = paced(4, 40)
        self.refuse(OPUS, seconds)
        r = self.start(self.q)
        wait_until(lambda: "held" in r.so_far(), why="the hold")
        lane, = self.q.status()["lanes"]
        self.assertEqual(("opus-5.5", "held"), (lane["name"], lane["state"]))
        self.assertIn("rate limited", lane["why"])
        left = paced(r"\d", r"\d+")
        self.assertRegex(self.q.tell("status").out, rf"opus-5\.5: held {left}(\.\d)? s more \(rate")
        r.terminate()
        before = time.monotonic()
        ended = r.wait()
        self.assertLess(time.monotonic() - before, 1.5 * SLOWER)
        self.assert_exit(AGAIN, ended)
        self.assertIn("SIGTERM asked for it. 5 jobs wait", ended.err)

        self.assert_exit(DONE, self.q.run())
        after = [t for t in self.starts(OPUS) if t > self.refused_at()]
        self.assertGreaterEqual(min(after) - self.refused_at(), seconds * 1000 - 10)
        self.assertEqual(5, self.s.served())

    def test_a_stored_hold_is_obeyed_by_the_user_s_other_queues(self):
        self.q.write("d.md", "---\ntier: deep\n---\nWhat?")
        other = self.queue(self.s, base=self.q.base, name="other")
        other.write("d.md", "---\ntier: deep\n---\nWhat else?")
        other.write("c.md", "---\ntier: cheap\n---\nWhat else?")
        seconds = paced(3, 9)
        self.refuse(OPUS, seconds)
        r = self.start(self.q)
        wait_until(lambda: "held" in r.so_far(), why="the hold")
        self.assert_exit(DONE, other.run())
        self.assert_exit(DONE, r.wait())
        at = self.refused_at()
        self.assertGreaterEqual(min(t for t in self.starts(OPUS) if t > at) - at,
                                seconds * 1000 - 10)
        self.assertLess(self.starts(HAIKU)[0] - at, 2000 * SLOWER)

    def test_real_buckets_are_lived_with(self):
        self.s.set(limits_rpm="1800", limits_burst="500ms")
        self.q.write("b.jsonl", lines(60))
        self.assert_exit(DONE, self.q.run())
        self.assert_each_once(self.s, 60)
        self.assertEqual([(1,)], self.q.db("SELECT max(attempts) FROM job"))

    def test_a_bare_429_is_waited_out(self):
        self.q.write("b.jsonl", lines(20))
        self.s.fault("bare429", at=[5, 9], count=2)
        self.s.fault("concurrency429", at=[15], count=1)
        self.assert_exit(DONE, self.q.run())
        self.assert_each_once(self.s, 20)
        self.assertEqual([(1,)], self.q.db("SELECT max(attempts) FROM job"))

    def test_a_job_that_is_refused_for_rate_with_full_buckets_does_not_wait_for_ever(self):
        def answer(request):
            if b"never" not in request.raw:
                return None
            full = {f"anthropic-ratelimit-{kind}-{what}": "1000"
                    for kind in ("requests", "input-tokens", "output-tokens")
                    for what in ("limit", "remaining")}
            return 429, {"retry-after": "1", **full}, json.dumps(
                {"type": "error", "error": {"type": "rate_limit_error",
                                            "message": "This request would exceed"}})
        api = self.recorder(answer)
        q = self.queue(api)
        q.write("poison.json", body("this one never"))
        q.write("good.json", body("this one at once"))
        self.assert_exit(FAILED, q.run(sets=["limits.attempts=3"]))
        self.assertEqual({"poison": "exhausted", "good": "accepted"}, q.outcomes())
        self.assertLess(len(api.requests), 8)

    def test_a_job_too_long_for_the_plan_fails_alone(self):
        self.q.write("long.json", body("a very long context"))
        self.q.write("b.jsonl", lines(20))
        self.s.fault("longcontext429", match="a very long")
        self.assert_exit(FAILED, self.q.run())
        self.assert_jobs(self.q, done=20, failed=1)
        self.assertEqual([1], [len(self.s.log(status=429))])


if __name__ == "__main__":
    unittest.main()
