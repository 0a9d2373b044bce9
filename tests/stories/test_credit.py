"""Money and keys: a halt is at once, costs nothing twice, and one request sees it lifted."""
import datetime
import os
import unittest

from story import AGAIN, DONE, KEY_REFUSED, SLOWER, Story, lines, wait_until

# Every answer alike: 150 tokens of Sonnet are $0.0015, and the question next to nothing.
ALIKE = "output.sigma=0"


class Credit(Story):
    def test_credit_that_ends_mid_run_halts_and_a_top_up_goes_on(self):
        s = self.sim(ALIKE, "latency.ttft=20ms", "credit.balance=0.16")
        q = self.queue(s)
        q.write("b.jsonl", lines(300))

        trace = os.path.join(q.base, "trace")
        ended = q.run(env={"NIGHTMILL_TRACE": trace})
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"stopped: out of credit \(\"Your credit balance .*"
                                    r"Add credit, then run the same command")
        stats = s.stats()
        self.assert_nothing_left_after_the_halt(s, q, trace)
        self.assertGreater(stats["most_in_flight"], 4)
        jobs = q.status()["jobs"]
        self.assertEqual((stats["served"], 300 - stats["served"]),
                         (jobs["done"], jobs["queued"]))
        self.assertGreater(jobs["done"], 50)
        halt, = q.status()["halts"]
        self.assertEqual("no credit", halt["reason"])
        self.assertIn("credit balance", halt["says"])
        self.assertIn("halted: no credit", q.tell("status").out)

        for n in range(3):
            before = s.requests()
            self.assert_exit(AGAIN, q.run())
            self.assertEqual(1, s.requests() - before, f"run {n} of three without credit")

        s.credit(add=5)
        self.assert_exit(DONE, q.run())
        self.assert_each_once(s, 300)
        self.assert_jobs(q, done=300)
        self.assertEqual(300, len(q.bulk("b")))
        status = q.status()
        self.assertEqual(([], 0), (status["halts"], status["in_doubt"]["attempts"]))
        # Waiting for money is not trying.
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))

    def assert_nothing_left_after_the_halt(self, s, q, trace):
        """What the simulator gets after its first refusal was on its way by then."""
        after = s.stats()["requests_after_credit_refusal"]
        self.assertLessEqual(after, 64)
        refusal = s.stats()["first_credit_refusal_ms"]
        late = [r for r in s.log() if r["at_ms"] > refusal + 150 * SLOWER]
        self.assertEqual([], late)
        if not os.path.exists(trace):  # not a build whose effects can be traced
            self.assertEqual(0, after)
            return
        refused = {str(n) for n, in q.db("SELECT id FROM attempt WHERE status = 400")}
        with open(trace) as f:
            effects = [row.split() for row in f]
        halted = next(n for n, e in enumerate(effects)
                      if e[2] == "answered" and e[-1] in refused)
        behind = [e for e in effects[halted:] if e[2] in ("start", "send")]
        self.assertEqual([], behind)

    def test_after_a_credit_halt_the_first_request_goes_alone(self):
        s = self.sim(ALIKE, "credit.balance=0")
        q = self.queue(s)
        q.write("b.jsonl", lines(50))
        self.assert_exit(AGAIN, q.run())
        s.credit(infinite=True)
        s.set(latency_ttft="300ms")
        before = len(s.log())
        self.assert_exit(DONE, q.run())
        first, second = (r["at_ms"] for r in s.log()[before:before + 2])
        self.assertGreater(second - first, 290)

    def test_a_halt_concerns_all_queues_of_the_account(self):
        s = self.sim(ALIKE, "credit.balance=0")
        one = self.queue(s)
        one.write("a.md", "What?")
        self.assert_exit(AGAIN, one.run())
        two = self.queue(s, base=one.base, name="another")
        for tier in ("cheap", "standard", "deep"):
            two.write(f"{tier}.md", f"---\ntier: {tier}\n---\nWhat is {tier}?")
        before = s.requests()
        self.assert_exit(AGAIN, two.run())
        self.assertEqual(1, s.requests() - before, "one probe an account, not one a lane")

    def test_a_402_is_out_of_credit_too(self):
        s = self.sim()
        q = self.queue(s)
        q.write("b.jsonl", lines(20))
        s.fault("402")
        ended = q.run()
        self.assert_exit(AGAIN, ended)
        self.assertIn("out of credit", ended.err)
        self.assertEqual(1, s.requests())
        s.clear_faults()
        self.assert_exit(DONE, q.run())
        self.assert_each_once(s, 20)

    def test_a_spend_limit_names_the_date_of_access(self):
        date = str(datetime.date.today() + datetime.timedelta(days=40))
        for kind in ("own", "workspace", "tier"):
            with self.subTest(kind):
                s = self.sim(ALIKE, "spend.limit=0.02", f"spend.kind={kind}",
                             f"spend.until={date}")
                q = self.queue(s)
                q.write("b.jsonl", lines(60))
                ended = q.run()
                self.assert_exit(AGAIN, ended)
                self.assertRegex(ended.err, f"spend limit.*Access returns on {date}")
                halt, = q.status()["halts"]
                self.assertEqual("spend limit", halt["reason"])
                self.assertRegex(halt["until"], f"^{date}T00:00:00")
                before = s.requests()
                self.assert_exit(AGAIN, q.run())
                self.assertEqual(1, s.requests() - before)
                s.set(spend_limit="")
                self.assert_exit(DONE, q.run())
                self.assert_each_once(s, 60)

    def test_a_refused_key_has_an_exit_code_of_its_own(self):
        s = self.sim("auth.keys=sk-another-key")
        q = self.queue(s)
        q.write("b.jsonl", lines(20))
        q.write("deep.md", "---\ntier: deep\n---\nWhat?")
        ended = q.run()
        self.assert_exit(KEY_REFUSED, ended)
        self.assertRegex(ended.err, r"the key was refused .*Check ANTHROPIC_API_KEY")
        self.assertLessEqual(s.requests(), 2)  # a lane's first request each
        self.assert_jobs(q, queued=21)
        before = s.requests()
        self.assert_exit(KEY_REFUSED, q.run())
        self.assertEqual(1, s.requests() - before)
        s.set(auth_keys="")
        self.assert_exit(DONE, q.run())
        self.assert_jobs(q, done=21)

    def test_a_key_that_is_refused_mid_run_stops_it(self):
        s = self.sim("latency.ttft=10ms")
        q = self.queue(s)
        q.write("b.jsonl", lines(100))
        s.fault("401", from_s=0, every=40, count=1)
        self.assert_exit(KEY_REFUSED, q.run())
        self.assertEqual(s.served(), q.status()["jobs"]["done"])
        self.assert_exit(DONE, q.run())
        self.assert_each_once(s, 100)


class Waiting(Story):
    def test_who_waits_for_credit_goes_on_when_it_comes_and_sends_nothing_twice(self):
        s = self.sim("credit.balance=0.02")
        q = self.queue(s)
        q.write("b.jsonl", lines(60))
        r = self.start(q, "--wait-for-credit", sets=["limits.credit_probe=300ms",
                                                     "limits.in_flight=8"])
        wait_until(lambda: "out of credit" in r.so_far(), why="the end of the money")
        # one at a time from then on, and each after a longer while

        def gaps():
            at = sorted(row["at_ms"] for row in s.log(status=400))
            return [b - a for a, b in zip(at, at[1:]) if b - a > 250]
        wait_until(lambda: len(gaps()) >= 3, why="some probes")
        self.assertEqual(gaps(), sorted(gaps()))
        self.assertGreater(gaps()[2], 3 * gaps()[0])
        self.assertEqual(1, r.so_far().count("waiting, and trying one request"))
        s.credit(infinite=True)
        ended = r.wait()
        self.assert_exit(DONE, ended)
        self.assert_jobs(q, done=60)
        self.assert_each_once(s, 60)
        self.assertEqual([(1,)], q.db("SELECT max(attempts) FROM job"))
        self.assertEqual([], q.status()["halts"])

    def test_waiting_for_credit_ends_when_it_is_told_to(self):
        s = self.sim("credit.balance=0")
        q = self.queue(s)
        q.write("b.jsonl", lines(5))
        r = self.start(q, "--wait-for-credit")
        wait_until(lambda: "out of credit" in r.so_far(), why="the end of the money")
        r.terminate()
        self.assert_exit(AGAIN, r.wait())
        self.assert_jobs(q, queued=5)


if __name__ == "__main__":
    unittest.main()
