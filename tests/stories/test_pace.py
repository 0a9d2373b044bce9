"""Pace: as fast as the account's limits allow, by one set of buckets for all queues, and
never without a word why."""
import time
import unittest

from story import AGAIN, DONE, OPUS, SLOWER, Story, line, lines, wait_until


class Pace(Story):
    def refusals(self, s):
        return len(s.log(status=429))

    def test_a_small_limit_is_kept_without_a_refusal(self):
        s = self.sim("latency.ttft=20ms", "limits.rpm=600", "limits.burst=1s")
        q = self.queue(s)
        q.write("b.jsonl", lines(40, model="cheap"))
        before = time.monotonic()
        self.assert_exit(DONE, q.run())
        self.assertEqual(0, self.refusals(s))
        self.assertGreater(time.monotonic() - before, 2.8)  # ten at once, then ten a second
        self.assert_each_once(s, 40)

    def test_two_queues_of_one_account_do_not_refuse_each_other(self):
        s = self.sim("latency.ttft=20ms", "limits.rpm=900", "limits.burst=1s")
        a = self.queue(s)
        b = self.queue(s, base=a.base, name="other")
        for q, name in ((a, "a"), (b, "b")):
            q.write(f"{name}.jsonl",
                    "".join(line(f"{name}{n}", model="cheap") for n in range(40)))
        first, second = self.start(a), self.start(b)
        self.assert_exit(DONE, first.wait())
        self.assert_exit(DONE, second.wait())
        self.assert_each_once(s, 80)
        self.assertLessEqual(self.refusals(s), 1)

    def test_what_a_killed_runner_had_out_is_given_back(self):
        s = self.sim("latency.ttft=30s", "limits.itpm=60000", "limits.burst=60s")
        a = self.queue(s)
        b = self.queue(s, base=a.base, name="other")
        a.write("a.jsonl", "".join(line(f"a{n}", "word " * 2000, model="cheap")
                                   for n in range(20)))
        b.write("b.jsonl", "".join(line(f"b{n}", model="cheap") for n in range(20)))
        r = self.start(a)
        wait_until(lambda: s.stats()["in_flight"] >= 1, why="the first request")
        r.kill()
        s.set(latency_ttft="10ms")
        self.assert_exit(DONE, b.run(timeout=30))

    def test_a_run_that_begins_asks_once_before_it_believes_what_it_knew(self):
        s = self.sim("latency.ttft=300ms", "limits.rpm=6000")
        q = self.queue(s)
        q.write("b.jsonl", lines(30, model="cheap"))
        self.assert_exit(DONE, q.run())
        known = len(s.log())
        q.write("c.jsonl", lines(30, first=100, model="cheap"))
        self.assert_exit(DONE, q.run())
        again = sorted(s.log()[known:], key=lambda r: r["at_ms"])
        self.assertGreaterEqual(again[1]["at_ms"] - again[0]["at_ms"], 290)
        # and then all of them at once, not one by one
        self.assertLess(again[-1]["at_ms"] - again[1]["at_ms"], 1000 * SLOWER)

    def test_what_binds_is_said_by_status_and_by_the_log(self):
        s = self.sim("latency.ttft=20ms", "limits.rpm=120", "limits.burst=1s")
        q = self.queue(s)
        q.write("b.jsonl", lines(60, model="cheap"))
        r = self.start(q)
        wait_until(lambda: "requests bind" in r.so_far(), why="the log")
        told = q.tell("status").out
        self.assertRegex(told, r"haiku-5\.5: jobs wait; requests bind, \d+ % of 120 a "
                               r"minute in use")
        lane, = q.status()["lanes"]
        self.assertEqual("requests", lane["binds"])
        self.assertEqual(120, lane["requests"]["limit"])
        self.assertGreaterEqual(lane["next_send_ms"], 0)
        r.terminate()
        self.assert_exit(AGAIN, r.wait())

    def test_a_request_larger_than_a_bucket_goes_behind_the_others_and_gets_through(self):
        s = self.sim("latency.ttft=10ms", "limits.itpm=60000", "limits.burst=1s")
        q = self.queue(s)
        q.write("large.md", "---\nmodel: cheap\n---\n" + "word " * 2500)
        q.write("small.jsonl", lines(20, model="cheap"))
        self.assert_exit(DONE, q.run())
        self.assertEqual({"accepted"}, set(q.outcomes().values()))
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))

    def test_an_account_that_tells_no_limits_is_felt_out_by_the_window(self):
        s = self.recorder()
        q = self.queue(url=s.url)
        q.write("b.jsonl", lines(50, model="cheap"))
        self.assert_exit(DONE, q.run())
        self.assertEqual(50, len(s.requests))

    def test_too_many_at_once_shrinks_the_window_and_uses_no_attempt(self):
        s = self.sim("latency.ttft=100ms", "limits.concurrent=6")
        q = self.queue(s)
        q.write("b.jsonl", lines(60, model="cheap"))
        self.assert_exit(DONE, q.run())
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))
        self.assertLessEqual(self.refusals(s), 600)

    def test_an_outage_is_probed_by_one_runner_for_all(self):
        s = self.sim("latency.ttft=10ms")
        port = s.port
        a = self.queue(s)
        b = self.queue(s, base=a.base, name="other")
        for q in (a, b):
            q.write("b.jsonl", lines(10, model="cheap"))
        s.stop()
        first, second = self.start(a), self.start(b)
        wait_until(lambda: "unreachable" in first.so_far() + second.so_far(),
                   why="the outage to be noticed")
        s = self.sim("latency.ttft=10ms", port=port)
        self.assert_exit(DONE, first.wait())
        self.assert_exit(DONE, second.wait())
        self.assertEqual(20, s.served())

    def test_accelerating_too_fast_is_answered_with_a_ramp(self):
        s = self.sim("latency.ttft=10ms")
        q = self.queue(s)
        q.write("b.jsonl", lines(30, model="deep"))
        s.fault("acceleration429", match=OPUS, at=[3], retry_after=1)
        self.assert_exit(DONE, q.run())
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))
        self.assertEqual(1, self.refusals(s))


if __name__ == "__main__":
    unittest.main()
