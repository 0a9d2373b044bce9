"""What a person does with a queue: canaries, retries, taking jobs out, looking on."""
import json
import os
import threading
import time
import unittest

from story import (AGAIN, DONE, FAILED, SLOWER, Story, body, line, lines, paced, wait_until)


class MassFailure(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def test_a_bulk_file_of_like_failures_is_parked_after_a_few_dozen(self):
        self.q.write("bad.jsonl", lines(5000, system="spoiled"))
        self.q.write("good.jsonl", lines(200))
        self.q.write("hello.md", "Say hello.")
        self.s.fault("400", match="spoiled", name="spoiled",
                     message="system: Input should be a valid list")
        ended = self.q.run()
        self.assert_exit(FAILED, ended)
        self.assertRegex(ended.err, r"bad\.jsonl is parked after 20 like failures in a row "
                                    r"\(system: Input should be a valid list\)\. .*retry")
        spent = len(self.s.log(status=400))
        self.assertGreaterEqual(spent, 20)
        self.assertLessEqual(spent, 40)
        self.assert_jobs(self.q, done=201, failed=spent, parked=5000 - spent)
        self.assertEqual(200, len(self.q.bulk("good")))
        self.assertEqual(spent, len(self.q.bulk("bad")))

        # Nothing of it is sent by itself.
        before = self.s.requests()
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual(before, self.s.requests())

        self.s.clear_faults()
        self.assert_exit(DONE, self.q.tell("retry"))
        self.assert_jobs(self.q, done=201, queued=5000)
        self.assert_exit(DONE, self.q.run())
        self.assert_jobs(self.q, done=5201)
        self.assertEqual(5000, len(self.q.bulk("bad")))

    def test_a_source_that_turns_bad_in_mid_run_is_parked_as_well(self):
        self.q.write("b.jsonl", lines(300) + lines(2000, first=300, system="spoiled"))
        self.s.fault("400", match="spoiled")
        self.assert_exit(FAILED, self.q.run())
        self.assertLessEqual(len(self.s.log(status=400)), 110)
        self.assertGreater(self.q.status()["jobs"]["parked"], 1800)
        self.assertEqual(300, self.q.status()["jobs"]["done"])

    def test_failures_among_successes_park_nothing(self):
        self.q.write("b.jsonl", "".join(
            line(f"j{n}", system="spoiled" if n % 2 else "fine") for n in range(120)))
        self.s.fault("400", match="spoiled")
        self.assert_exit(FAILED, self.q.run())
        self.assert_jobs(self.q, done=60, failed=60)

    def test_many_truncations_in_a_row_are_a_mass_failure_too(self):
        self.q.write("b.jsonl", lines(500, max_tokens=3))
        self.assert_exit(FAILED, self.q.run(sets=["jobs.on_truncation=fail"]))
        self.assertLessEqual(self.s.requests(), 40)
        self.assertGreater(self.q.status()["jobs"]["parked"], 400)


class Again(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        for n in "abc":
            self.q.write(f"legal/{n}.json", body(f"spoiled {n}"))
        self.q.write("mail.json", body("spoiled mail"))
        self.q.write("good.md", "What is good?")
        self.s.fault("400", match="spoiled")
        self.assert_exit(FAILED, self.q.run())
        self.s.clear_faults()

    def failed(self):
        return {n for n, r in self.q.results().items() if r["state"] == "failed"}

    def test_a_job_is_retried_by_name(self):
        self.assert_exit(DONE, self.q.tell("retry", "legal/b"))
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual({"legal/a", "legal/c", "mail"}, self.failed())
        again = self.q.json("legal/b")
        self.assertEqual(("done", 2), (again["state"], again["attempts"]))
        self.assertEqual(6, self.s.requests())

    def test_jobs_are_retried_by_glob(self):
        self.assertIn("3 jobs queued again", self.q.tell("retry", "legal/*").err)
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual({"mail"}, self.failed())

    def test_all_that_failed_is_retried_and_what_is_done_stays_done(self):
        self.assert_exit(DONE, self.q.tell("retry"))
        self.assert_exit(DONE, self.q.run())
        self.assertEqual((9, 5), (self.s.requests(), self.s.served()))

    def test_a_name_that_nobody_has_is_said(self):
        for command in ("retry", "cancel"):
            ended = self.q.tell(command, "legal/zebra")
            self.assert_exit(FAILED, ended)
            self.assertIn("legal/zebra: no job of that name", ended.err)
        ended = self.q.tell("retry", "good")
        self.assert_exit(FAILED, ended)
        self.assertEqual(5, self.s.requests())

    def test_a_queue_that_was_never_run_is_said(self):
        new = self.queue(self.s)
        for command in ("retry", "status", "results"):
            ended = new.tell(command)
            self.assert_exit(2, ended)
            self.assertRegex(ended.err, "was never run; nightmill run")
        self.assertFalse(os.path.exists(new.at(".nightmill")))


class Cancel(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def test_waiting_jobs_are_taken_out_when_nobody_runs(self):
        self.s.credit(set=0)
        self.q.write("b.jsonl", lines(20))
        self.q.write("keep.md", "What stays?")
        self.assert_exit(AGAIN, self.q.run())
        ended = self.q.tell("cancel", "b#j1*")
        self.assert_exit(DONE, ended)
        self.assertIn("11 jobs", ended.err)
        self.s.credit(infinite=True)
        self.assert_exit(FAILED, self.q.run())
        self.assert_jobs(self.q, done=10, failed=11)
        self.assert_each_served(10)
        rows = self.q.bulk("b")
        self.assertEqual({"type": "canceled"}, rows["j10"]["result"])
        self.assertEqual("canceled", rows["j10"]["nightmill"]["outcome"])
        self.assert_exit(DONE, self.q.tell("retry", "b#j10"))
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual("succeeded", self.q.bulk("b")["j10"]["result"]["type"])

    def assert_each_served(self, count):
        self.assertEqual(count, self.s.served())

    def test_waiting_and_sent_jobs_are_taken_out_beside_a_runner(self):
        self.s.set(latency_ttft="20s")
        self.q.write("slow.json", body("slow", metadata={"user_id": "slow"}))
        self.q.write("z.jsonl", lines(30))
        r = self.start(self.q, sets=["limits.in_flight=1"])
        wait_until(lambda: self.s.stats()["in_flight"] == 1, why="the first request")
        ended = self.q.tell("cancel", "z#*", "slow")
        self.assert_exit(DONE, ended)
        self.assertIn("the runner", ended.err)
        before = time.monotonic()
        self.assert_exit(FAILED, r.wait())
        self.assertLess(time.monotonic() - before, 8 * SLOWER)
        self.assert_jobs(self.q, failed=31)
        self.assertEqual(1, self.s.stats()["started"])
        self.assertEqual({"canceled"}, set(self.q.outcomes().values()))
        self.assertEqual(30, len(self.q.bulk("z")))
        # The one that had left may have been billed.
        self.assertEqual(1, self.q.status()["in_doubt"]["attempts"])

    def test_a_failed_job_is_retried_beside_a_runner(self):
        self.q.write("a.json", body("spoiled"))
        self.q.write("z.jsonl", lines(12))
        self.s.fault("400", match="spoiled", count=1)
        self.s.set(latency_ttft=paced("300ms", "1s"))
        r = self.start(self.q, sets=["limits.in_flight=1"])
        wait_until(lambda: self.s.log(status=400), why="the failure")
        wait_until(lambda: "failed outcome" in r.so_far(), why="its settlement")
        self.assert_exit(DONE, self.q.tell("retry", "a"))
        self.assert_exit(DONE, r.wait())
        self.assert_jobs(self.q, done=13)


class Hands(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def test_a_canary_sends_so_many_and_ends(self):
        self.q.write("b.jsonl", lines(50))
        self.assert_exit(DONE, self.q.run("--first", "7"))
        self.assertEqual(7, self.s.requests())
        self.assert_jobs(self.q, done=7, queued=43)
        self.assertEqual(7, len(self.q.bulk("b")))
        self.assert_exit(DONE, self.q.run())
        self.assert_each_once(self.s, 50)

    def test_a_canary_that_fails_says_so(self):
        self.q.write("b.jsonl", lines(50))
        self.s.fault("400")
        self.assert_exit(FAILED, self.q.run("--first", "3"))
        self.assertEqual(3, self.s.requests())

    def test_quiet_is_silent_when_all_is_well_and_speaks_when_it_is_not(self):
        self.q.write("b.jsonl", lines(20))
        ended = self.q.run("--quiet")
        self.assertEqual((DONE, "", ""), tuple(ended))
        self.s.credit(set=0)
        self.q.write("more.md", "What else?")
        ended = self.q.run("--quiet")
        self.assert_exit(AGAIN, ended)
        self.assertEqual("", ended.out)
        self.assertIn("out of credit", ended.err)

    def test_nothing_is_sent_after_the_time_that_until_names(self):
        """A time zone of our own, in which it is a few seconds before noon."""
        seconds = paced(3, 15)
        self.s.set(latency_ttft="150ms")
        self.q.write("b.jsonl", lines(400))
        now = int(time.time()) % 86400
        ahead = 12 * 3600 - seconds - now  # what to add to UTC
        zone = "NOON{}{:02}:{:02}:{:02}".format(
            "-" if ahead >= 0 else "+", abs(ahead) // 3600, abs(ahead) // 60 % 60,
            abs(ahead) % 60)
        before = time.monotonic()
        ended = self.q.run("--until", "12:00", sets=["limits.in_flight=2"],
                           env={"TZ": zone})
        self.assert_exit(AGAIN, ended)
        self.assertLess(time.monotonic() - before, seconds + 2 * SLOWER)
        self.assertIn("the time that --until names has come", ended.err)
        self.assertEqual(self.s.served(), self.q.status()["jobs"]["done"])
        self.assertEqual(self.s.requests(), self.s.served())

    def test_only_one_runner_works_on_a_queue(self):
        answer_now = threading.Event()
        api = self.recorder(lambda _: answer_now.wait() and None)
        self.addCleanup(answer_now.set)
        q = self.queue(api)
        q.write("a.md", "What?")
        r = self.start(q)
        wait_until(lambda: api.requests, why="the first runner")
        second = q.run()
        self.assert_exit(AGAIN, second)
        self.assertIn("another nightmill is at work", second.err)
        self.assertIn("a runner is at work", q.tell("status").out)
        self.assertTrue(q.status()["running"])
        answer_now.set()
        self.assert_exit(DONE, r.wait())
        self.assertEqual(1, len(api.requests))

    def test_events_tell_of_failures_holds_and_halts(self):
        self.q.write("bad.json", body("spoiled"))
        self.q.write("b.jsonl", lines(30))
        self.s.fault("400", match="spoiled", name="a")
        self.s.fault("429", at=10, count=1, retry_after=1, name="b")
        self.s.fault("credit", at=25, count=1, name="c")
        ended = self.q.run("--json")
        self.assert_exit(AGAIN, ended)
        events = [json.loads(row) for row in ended.out.splitlines()]
        self.assertLessEqual({"run_started", "job_done", "job_failed", "lane_held",
                              "halted", "run_ended"}, {e["event"] for e in events})
        by_name = {e["event"]: e for e in events}
        self.assertEqual(("bad", "bad_request"), (by_name["job_failed"]["job"],
                                                  by_name["job_failed"]["outcome"]))
        self.assertEqual("sonnet-5.5", by_name["lane_held"]["lane"])
        self.assertIn("credit", by_name["halted"]["says"])
        self.assertEqual(AGAIN, by_name["run_ended"]["exit"])


class Hours(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    @staticmethod
    def clock(seconds):
        return time.strftime("%H:%M", time.localtime(time.time() + seconds))

    def test_outside_its_hours_a_run_sends_nothing_and_says_when(self):
        self.q.write("a.md", "What?")
        sets = [f"window.open={self.clock(3 * 3600)}-{self.clock(5 * 3600)}"]
        ended = self.q.run(sets=sets)
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"nothing was sent: window\.open = .*, and that is on "
                                    r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d again")
        self.assertEqual("", self.q.run("--quiet", sets=sets).err)
        self.assertEqual(0, self.s.requests())
        self.assert_exit(DONE, self.q.run(sets=[f"window.open={self.clock(-3600)}-"
                                                f"{self.clock(3600)}"]))

    @unittest.skipUnless(os.environ.get("STORY_LONG"), "takes a minute: set STORY_LONG")
    def test_a_run_stops_sending_in_time_for_what_is_out_to_end(self):
        # answers take about half a second; so long before the minute is full none leaves
        while time.time() % 60 > 50:
            time.sleep(0.2)
        self.s.set(latency_ttft="500ms")
        self.q.write("b.jsonl", lines(100000))
        end = (time.time() // 60 + 1) * 60
        ended = self.q.run(sets=["limits.in_flight=8", f"window.open=00:00-{self.clock(60)}"],
                           timeout=100)
        self.assert_exit(AGAIN, ended)
        self.assertIn("stopped: the hours of window.open are over", ended.err)
        self.assertLess(time.time(), end + 2 * SLOWER)
        self.assert_jobs(self.q, done=self.s.served(), queued=100000 - self.s.served())


if __name__ == "__main__":
    unittest.main()
