"""Told to stop, or killed: what was paid for is kept, and the same command goes on."""
import random
import signal
import time
import unittest

from story import AGAIN, DONE, FAILED, SLOWER, Story, lines, paced, wait_until


class Signals(Story):
    def setUp(self):
        self.s = self.sim("latency.ttft=" + paced("400ms", "2s"))
        self.q = self.queue(self.s)
        self.q.write("b.jsonl", lines(80))

    def in_flight(self, n, **more):
        """A run with at least `n` requests out at this moment."""
        r = self.start(self.q, **more)
        wait_until(lambda: self.s.stats()["in_flight"] >= n, why=f"{n} in flight")
        return r

    def assert_settled(self):
        """The store and the simulator tell the same story."""
        jobs = self.q.status()["jobs"]
        self.assertEqual(0, jobs["in_flight"])
        self.assertEqual([], self.q.db("SELECT * FROM attempt WHERE state = 0"))
        return jobs

    def test_the_first_signal_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                r = self.in_flight(4)
                r.signal(number)
                ended = r.wait()
                self.assert_exit(AGAIN, ended)
                self.assertRegex(ended.err, r"stopping: nothing new is sent, \d+ requests")
                self.assertRegex(ended.err, number.name + r" asked for it\. \d+ jobs wait; the same "
                                                          "command goes on")
                jobs = self.assert_settled()
                self.assertEqual(self.s.served(), jobs["done"])
                self.assertEqual(0, self.q.status()["in_doubt"]["attempts"])
                self.assertEqual(jobs["done"], len(self.q.bulk("b")))
        self.s.set(latency_ttft="5ms")
        self.assert_exit(DONE, self.q.run())
        self.assert_each_once(self.s, 80)
        self.assertEqual(80, len(self.q.bulk("b")))

    def test_the_second_signal_leaves_within_a_second(self):
        self.q.run("--first", "10")
        self.s.set(latency_ttft="30s")
        r = self.start(self.q)
        wait_until(lambda: self.s.stats()["in_flight"] >= 1, why="a request")
        out = self.s.stats()["in_flight"]
        r.terminate()
        wait_until(lambda: "once more to leave" in r.so_far(), why="the drain")
        r.terminate()
        before = time.monotonic()
        ended = r.wait()
        self.assertLess(time.monotonic() - before, 1.5 * SLOWER)
        self.assert_exit(AGAIN, ended)
        self.assertEqual(10, self.assert_settled()["done"])
        doubt = self.q.status()["in_doubt"]
        self.assertEqual(out, doubt["attempts"])
        self.assertLess(float(doubt["usd_low"]), float(doubt["usd_high"]))
        self.s.set(latency_ttft="5ms")
        self.assert_exit(DONE, self.q.run())
        self.assert_jobs(self.q, done=80)
        # Doubt stays in the ledger after the job is done.
        self.assertEqual(out, self.q.status()["in_doubt"]["attempts"])

    def test_a_drain_is_bounded(self):
        self.s.set(latency_ttft="60s")
        r = self.in_flight(1, sets=["limits.drain=1s"])
        r.terminate()
        before = time.monotonic()
        self.assert_exit(AGAIN, r.wait())
        self.assertLess(time.monotonic() - before, 3 * SLOWER)
        self.assertEqual(1, self.q.status()["in_doubt"]["attempts"])

    def test_killed_dead_it_goes_on_and_tells_what_is_in_doubt(self):
        r = self.in_flight(8)
        r.kill()
        self.s.set(latency_ttft="5ms")
        ended = self.q.run()
        self.assert_exit(DONE, ended)
        self.assertRegex(ended.err, r"the last run died with \d+ requests out")
        self.assert_settled()
        self.assertEqual(80, len(self.q.bulk("b")))
        doubt = self.q.status()["in_doubt"]
        self.assertGreaterEqual(doubt["attempts"], 8)
        self.assertLessEqual(doubt["attempts"], 64)
        self.assertGreater(float(doubt["usd_high"]), float(doubt["usd_low"]))
        self.assertLessEqual(self.s.served(), 80 + doubt["attempts"])
        self.assertIn(f"in doubt: {doubt['attempts']} attempts",
                      self.q.tell("status").out)

    def test_jobs_in_doubt_can_wait_for_a_person(self):
        self.in_flight(4).kill()
        self.s.set(latency_ttft="5ms")
        ended = self.q.run(sets=["jobs.in_doubt=hold"])
        self.assert_exit(FAILED, ended)
        jobs = self.assert_settled()
        doubt = self.q.status()["in_doubt"]["attempts"]
        self.assertGreaterEqual(doubt, 4)
        self.assertEqual((doubt, 80 - doubt), (jobs["parked"], jobs["done"]))
        self.assertEqual({"in_doubt"}, {r["outcome"] for r in self.q.results().values()
                                        if r["state"] == "parked"})
        self.q.tell("retry")
        self.assert_exit(DONE, self.q.run(sets=["jobs.in_doubt=hold"]))
        self.assert_jobs(self.q, done=80)
        self.assertEqual(80, len(self.q.bulk("b")))

    def test_killed_again_and_again_each_job_is_answered_once_or_in_doubt(self):
        dice = random.Random(7)
        self.q.write("b.jsonl", lines(600))
        self.s.set(latency_ttft="40ms")
        out = 0
        for _ in range(6):
            served = self.s.served()
            r = self.start(self.q)
            goal = served + dice.randint(5, 90)
            wait_until(lambda: self.s.served() >= goal or r.process.poll() is not None,
                       why="more answers")
            r.kill()
            left_out, = self.q.db("SELECT count(*) FROM attempt WHERE state = 0")[0]
            self.assertLessEqual(left_out, 256)
            out += left_out
        self.assert_exit(DONE, self.q.run())
        self.assert_settled()
        self.assertEqual(600, len(self.q.bulk("b")))
        doubt = self.q.status()["in_doubt"]["attempts"]
        self.assertEqual(out, doubt)
        by_job = self.s.stats(jobs=True)["by_job"]
        self.assertEqual(600, len(by_job))
        twice = sum(j["answered"] - 1 for j in by_job.values())
        self.assertLessEqual(twice, doubt)


if __name__ == "__main__":
    unittest.main()
