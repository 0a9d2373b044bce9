"""Trouble on the way: an outage is nobody's fault, a poisoned request is its own."""
import unittest

from story import AGAIN, DONE, FAILED, Story, body, lines, paced, wait_until


class Outage(Story):
    def test_an_outage_in_mid_run_costs_no_job_an_attempt(self):
        s = self.sim("latency.ttft=50ms")
        q = self.queue(s)
        q.write("b.jsonl", lines(400))
        r = self.start(q)
        wait_until(lambda: s.served() > 60, why="the run to be in full flight")
        s.stop()
        wait_until(lambda: "endpoint unreachable" in r.so_far(), why="the outage")
        # Long enough for three probes, one after another, to find nobody.
        started, = q.db("SELECT max(id) FROM attempt")[0]
        wait_until(lambda: q.db("SELECT count(*) FROM attempt WHERE id > ? AND state = 1 "
                                "AND status = 0", started)[0][0] >= 3, why="probes")
        again = self.sim("latency.ttft=5ms", port=s.port)
        ended = r.wait()
        self.assert_exit(DONE, ended)
        self.assertIn("no attempts are used", ended.err)
        self.assertIn("endpoint reachable again", ended.err)
        self.assertEqual(400, len(q.bulk("b")))
        self.assert_jobs(q, done=400)
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))
        # Billed twice may be what was out when it broke, and nothing else.
        self.assertLessEqual(q.status()["in_doubt"]["attempts"], 64)
        self.assertLessEqual(again.stats()["served"], 340)

    def test_an_endpoint_that_is_never_there_stops_the_run_in_its_time(self):
        s = self.sim()
        q = self.queue(s)
        q.write("b.jsonl", lines(20))
        s.stop()
        ended = q.run(sets=["limits.outage=2s"])
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"stopped: unreachable: .*longer than limits\.outage\. "
                                    r"Check the network and api\.base_url")
        self.assert_jobs(q, queued=20)
        self.assertEqual([(0, 0)], q.db("SELECT max(attempts), max(silent) FROM job"))
        self.assertEqual(0, q.status()["in_doubt"]["attempts"])

    def test_a_job_whose_connection_is_always_reset_ends_alone(self):
        s = self.sim("latency.ttft=5ms")
        q = self.queue(s)
        q.write("poison.json", body("this one breaks it"))
        q.write("b.jsonl", lines(60))
        s.fault("reset", match="this one breaks it", name="poison")
        self.assert_exit(FAILED, q.run())
        self.assertEqual(60, len(q.bulk("b")))
        poison = q.json("poison")
        self.assertEqual(("parked", "no_answer"), (poison["state"], poison["outcome"]))
        fault, = s.stats()["faults"]
        self.assertLessEqual(fault["fired"], 5)
        self.assert_jobs(q, done=60, parked=1)
        # Others were not charged for it.
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job WHERE state = 2"))

    def test_a_lone_job_whose_connection_is_always_reset_does_not_wait_for_ever(self):
        s = self.sim()
        q = self.queue(s)
        q.write("poison.md", "this one breaks it")
        s.fault("reset")
        self.assert_exit(FAILED, q.run())
        self.assert_jobs(q, parked=1)
        self.assertLessEqual(s.stats()["started"], 5)


class Faults(Story):
    def setUp(self):
        self.s = self.sim("latency.ttft=2ms")
        self.q = self.queue(self.s)
        self.q.write("b.jsonl", lines(60))

    def all_done(self, *sets, attempts=None):
        ended = self.q.run(sets=sets)
        self.assert_exit(DONE, ended)
        self.assertEqual(60, len(self.q.bulk("b")))
        whole = [r["job"] for r in self.s.log(status=200, fault=None)]
        self.assertEqual((60, 60), (len(whole), len(set(whole))))
        if attempts:
            self.assertLessEqual(self.q.db("SELECT max(attempts) FROM job")[0][0], attempts)
        return ended

    def fired(self):
        return sum(f["fired"] for f in self.s.stats()["faults"])

    def test_a_storm_of_overload_uses_up_no_job(self):
        self.s.fault("529", p=0.3)
        self.all_done(attempts=2)  # one more for the probe that failed where another passed
        self.assertGreater(self.fired(), 5)

    def test_internal_errors_are_tried_again(self):
        self.s.fault("500", every=7)
        self.all_done()
        self.assertGreater(self.q.db("SELECT max(attempts) FROM job")[0][0], 1)
        self.assertGreater(self.fired(), 5)

    def test_each_passing_fault_is_survived(self):
        kinds = ("html", "html200", "empty200", "truncated_json", "502", "503", "504",
                 "408", "409", "redirect", "reset_mid")
        for n, kind in enumerate(kinds):
            self.s.fault(kind, at=3 + 4 * n, count=1, name=kind)
        self.all_done()
        self.assertEqual(len(kinds), self.fired())

    def test_broken_streams_are_tried_again_and_never_taken_for_answers(self):
        for n, kind in enumerate(("cut_stream", "stream_error", "truncated_json",
                                  "reset_mid")):
            self.s.fault(kind, at=3 + 5 * n, count=1, name=kind)
        self.s.set(output_median=400)
        self.all_done("api.stream=always")
        self.assertEqual(4, self.fired())

    def test_stalls_are_cut_by_the_watchdogs(self):
        self.s.fault("stall", at=5, count=1, name="one")
        self.s.fault("stall_mid", at=20, count=1, name="two")
        timeout = paced("700ms", "4s")
        self.all_done(f"api.first_byte_timeout={timeout}", f"api.idle_timeout={timeout}",
                      "api.stream=always")
        self.assertEqual(2, self.fired())

    def one_fails(self, outcome, *sets, requests=1):
        self.q.write("one.json", body("the odd one out"))
        self.assert_exit(FAILED, self.q.run(sets=sets))
        self.assert_jobs(self.q, done=60, failed=1)
        one = self.q.json("one")
        self.assertEqual((outcome, requests), (one["outcome"], one["attempts"]))
        self.assertEqual(requests, self.fired())
        return one

    def test_a_bad_request_fails_at_once_with_the_api_s_sentence(self):
        self.s.fault("400", match="the odd one", message="messages: roles must alternate")
        error = self.one_fails("bad_request")["error"]
        self.assertEqual({"type": "invalid_request_error",
                          "message": "messages: roles must alternate"}, error)

    def test_an_answer_beyond_the_ceiling_is_refused_once(self):
        self.s.fault("oversize", match="the odd one", bytes=3 << 20)
        self.one_fails("bad_request", "api.max_answer=1MiB")

    def test_a_job_that_fails_each_time_is_exhausted(self):
        self.s.fault("500", match="the odd one")
        error = self.one_fails("exhausted", "limits.attempts=3", requests=3)["error"]
        self.assertEqual("Internal server error", error["message"])

    def test_a_refusal_is_an_outcome_of_its_own_and_what_was_said_is_kept(self):
        self.s.fault("refusal", match="the odd one")
        one = self.one_fails("refused")
        self.assertEqual("refusal", one["message"]["stop_reason"])

    def test_a_truncated_answer_is_kept_and_not_asked_for_again(self):
        self.q.write("short.json", body("at most five", max_tokens=5))
        self.assert_exit(FAILED, self.q.run(sets=["jobs.on_truncation=fail"]))
        short = self.q.json("short")
        self.assertEqual(("failed", "truncated", 1),
                         tuple(short[k] for k in ("state", "outcome", "attempts")))
        self.assertEqual("max_tokens", short["message"]["stop_reason"])
        self.assertTrue(self.q.text("short"))
        requests = self.s.requests()
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual(requests, self.s.requests())


if __name__ == "__main__":
    unittest.main()
