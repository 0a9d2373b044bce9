"""Money: ceilings that hold whatever happens, a ledger that agrees with the bill, cut
answers asked for once more and no oftener."""
import decimal
import json
import sqlite3
import unittest

from story import (AGAIN, CONSENT, DONE, FAILED, HAIKU, SONNET, Recorder, Story, body,
                   line, lines, wait_until)

D = decimal.Decimal


class Money(Story):
    def setUp(self):
        self.s = self.sim("latency.ttft=5ms")
        self.q = self.queue(self.s)

    def billed(self):
        return D(self.s.stats()["usd"])

    def ledger(self, q, by="day", **more):
        told = json.loads(q.tell("costs", "--json", "--by", by, **more).out)
        self.assertEqual(by, told["by"])
        return {r["key"]: r for r in told["rows"]}


class Ceilings(Money):
    def test_a_run_never_costs_more_than_its_ceiling_and_says_what_the_rest_would_take(self):
        self.q.write("b.jsonl", lines(300, max_tokens=500, model="standard"))
        ended = self.q.run(sets=["budget.run=0.05"])
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"the ceiling budget\.run = \$0\.05\d* is reached: "
                                    r"\$[\d.]+ are left, and the cheapest job that waits "
                                    r"may cost \$[\d.]+; this run spent \$[\d.]+\. \d+ jobs "
                                    r"wait; at this run's average they take about \$")
        self.assertLessEqual(self.billed(), D("0.05"))
        cheapest = D("0.0052")  # 500 tokens out at $10, some 100 bytes in
        self.assertGreater(self.billed(), D("0.05") - cheapest)
        self.assertEqual(self.billed(), D(self.q.status()["spent_usd"]))

    def test_where_the_next_job_does_not_fit_a_cheaper_one_behind_it_does(self):
        self.s.set(output_median="10", output_sigma="0")
        self.q.write("a.jsonl", lines(50, max_tokens=9000, model="standard"))
        self.q.write("b.jsonl", "".join(line(f"c{n}", max_tokens=50, model="standard")
                                        for n in range(5)))
        self.assert_exit(AGAIN, self.q.run(sets=["budget.run=0.02"]))
        self.assertEqual(5, self.q.status()["jobs"]["done"])

    def test_all_queues_of_an_account_share_the_ceilings_of_day_and_month(self):
        other = self.queue(self.s, base=self.q.base, name="other")
        for q, name in ((self.q, "a"), (other, "b")):
            q.write("b.jsonl", "".join(line(f"{name}{n}", max_tokens=300, model="standard")
                                       for n in range(150)))
        sets = ["budget.day=0.10", "budget.month=5"]
        first, second = self.start(self.q, sets=sets), self.start(other, sets=sets)
        self.assert_exit(AGAIN, first.wait())
        self.assert_exit(AGAIN, second.wait())
        self.assertLessEqual(self.billed(), D("0.10"))
        self.assertGreater(self.billed(), D("0.09"))
        before = self.s.requests()
        self.assert_exit(AGAIN, self.q.run(sets=sets))
        self.assertLessEqual(self.s.requests() - before, 1)
        self.assertLessEqual(self.billed(), D("0.10"))

    def test_what_a_killed_run_may_have_spent_counts_until_a_person_settles_it(self):
        self.s.set(latency_ttft="20s")
        self.q.write("b.jsonl", lines(40, max_tokens=400, model="standard"))
        r = self.start(self.q)
        wait_until(lambda: self.s.stats()["in_flight"] >= 1, why="a request to be out")
        r.kill()
        self.s.set(latency_ttft="5ms")
        ended = self.q.run(sets=["budget.day=0.0045"])  # in doubt: one of at most 0.0041
        self.assert_exit(AGAIN, ended)
        self.assertIn("the ceiling budget.day", ended.err)
        self.assertEqual(0, self.q.status()["jobs"]["done"])
        self.assertEqual(1, self.q.status()["in_doubt"]["attempts"])

        told = self.q.tell("settle")
        self.assert_exit(DONE, told)
        self.assertRegex(told.err, r"1 attempt in doubt no more; up to \$0\.00\d+ are free")
        again = self.q.tell("settle", "nobody")
        self.assertIn("nothing was done: no attempt of nobody is in doubt\n", again.err)
        self.assertEqual(0, self.q.status()["in_doubt"]["attempts"])
        self.assert_exit(AGAIN, self.q.run(sets=["budget.day=0.0045"]))
        self.assertGreaterEqual(self.q.status()["jobs"]["done"], 1)

    def test_what_cannot_be_reckoned_waits_unless_the_job_says_what_it_may_cost(self):
        self.s.set(output_median="10", output_sigma="0")
        url = [{"type": "image", "source": {"type": "url", "url": "https://example.org/a"}},
               {"type": "text", "text": "What is it?"}]
        self.q.write("open.json", json.dumps(
            {"model": "cheap", "max_tokens": 50,
             "messages": [{"role": "user", "content": url}]}))
        self.q.write("said.json", json.dumps(
            {"custom_id": "said", "nightmill": {"max_cost": 0.01},
             "params": {"model": "cheap", "max_tokens": 50,
                        "messages": [{"role": "user", "content": url}]}}))
        self.q.write("plain.md", "Hello?")
        ended = self.q.run(sets=["budget.run=1"])
        self.assert_exit(AGAIN, ended)
        self.assertIn("1 job waits: what it may cost cannot be reckoned", ended.err)
        self.assert_jobs(self.q, queued=1, done=2)
        # and without a ceiling there is nothing to reckon
        self.assert_exit(DONE, self.q.run())
        self.assert_jobs(self.q, done=3)

    def test_a_ceiling_or_zone_that_is_no_such_thing_is_refused_before_anything_is_sent(self):
        self.q.write("a.md", "Hello?")
        for bad, says in (("budget.run=lots", "want dollars, such as 12.50"),
                          ("budget.day=-1", "want dollars"),
                          ("budget.zone=Mars/Base", "no such time zone")):
            ended = self.q.run(sets=[bad])
            self.assert_exit(CONSENT, ended)
            self.assertIn(says, ended.err)
        self.assertEqual(0, self.s.requests())


class Ledger(Money):
    def test_the_ledger_agrees_with_the_bill_to_the_last_unit(self):
        self.q.write("a.jsonl", lines(20, model="cheap", nightmill={"tags": ["x", "y"]}))
        self.q.write("b.jsonl", lines(10, first=50, model="standard"))
        self.s.fault("500", every=7)
        self.assert_exit(DONE, self.q.run())
        days = self.ledger(self.q)
        self.assertEqual(self.billed(), sum(D(r["cost_usd"]) for r in days.values()))
        models = self.ledger(self.q, "model")
        self.assertEqual({HAIKU, SONNET}, set(models))
        self.assertEqual(20, models[HAIKU]["done"])
        self.assertGreater(sum(r["attempts"] for r in models.values()), 30)
        tags = self.ledger(self.q, "tag")
        self.assertEqual({"x", "y", "(none)"}, set(tags))
        self.assertEqual(tags["x"]["cost_usd"], models[HAIKU]["cost_usd"])
        self.assertEqual(["1"], list(self.ledger(self.q, "run")))
        self.assertIn("haiku-5.5", self.ledger(self.q, "lane"))
        self.assertRegex(self.q.tell("costs").out, r"(?m)^day +attempts +done")
        c = sqlite3.connect(f"file:{self.q.base}/state/nightmill/account.db?mode=ro", uri=True)
        (units,), = c.execute("SELECT sum(spent) FROM bill").fetchall()
        c.close()
        self.assertEqual(self.billed() * 10 ** 12, units)


class Caching(Money):
    def prefixes(self, prefixes, jobs, **more):
        rows = [line(f"p{p}-{n}", f"question {n}", model="standard", max_tokens=2000,
                     system=f"Handbook {p}. " + "a rule of the house " * 800, **more)
                for n in range(jobs) for p in range(prefixes)]
        self.q.write("b.jsonl", "".join(rows))

    def test_one_leader_writes_what_all_others_read(self):
        self.s.set(latency_ttft="100ms", output_median="50", output_sigma="0")
        self.prefixes(4, 10)
        self.assert_exit(DONE, self.q.run())
        log = self.s.log()
        self.assertEqual(4, len([r for r in log if r["cache_write_tokens"]]))
        self.assertEqual(36, len([r for r in log if r["cache_read_tokens"]]))
        self.assertEqual(self.billed(), D(self.q.status()["spent_usd"]))
        plain = self.queue(self.s, base=self.q.base, name="plain")
        plain.write("b.jsonl", self.q.read("b.jsonl"))
        before = self.billed()
        self.assert_exit(DONE, plain.run(sets=["jobs.cache=off"]))
        self.assertLess(before * 2, self.billed() - before)

    def test_who_says_no_or_marks_by_himself_is_left_alone(self):
        self.s.set(output_median="50", output_sigma="0")
        self.prefixes(1, 6, nightmill={"cache": "off"})
        self.assert_exit(DONE, self.q.run())
        self.assertFalse([r for r in self.s.log()
                          if r["cache_write_tokens"] or r["cache_read_tokens"]])
        own = [{"type": "text", "text": "a rule of the house " * 800,
                "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        s = self.recorder()
        q = self.queue(url=s.url, base=self.q.base, name="own")
        q.write("b.jsonl", lines(3, model="standard", system=own))
        self.assert_exit(DONE, q.run())
        self.assertTrue(all(r.body["system"] == own for r in s.requests))

    def test_a_leader_that_fails_is_followed_by_another(self):
        self.s.set(latency_ttft="50ms", output_median="50", output_sigma="0")
        self.s.fault("500", at=[1, 2])
        self.prefixes(1, 8)
        self.assert_exit(DONE, self.q.run())
        good = self.s.log(status=200)
        self.assertEqual(1, len([r for r in good if r["cache_write_tokens"]]))
        self.assertEqual(7, len([r for r in good if r["cache_read_tokens"]]))


class Explained(Money):
    def test_a_job_s_life_is_told_with_each_sending_its_reason_and_its_price(self):
        self.s.fault("500", at=[1])
        self.q.write("legal/one.md", "---\ntier: deep\n---\nWhy?")
        self.assert_exit(DONE, self.q.run())
        told = self.q.tell("explain", "legal/one").out
        self.assertRegex(told, r"legal/one: done \(accepted\), from legal/one\.md:\d, revision 1")
        self.assertRegex(told, r"(?m)^  1\. .* claude-opus-5-5  the job names the tier: "
                               r"transient, status 500")
        self.assertRegex(told, r"(?m)^  2\. .*: accepted, status 200.* \d+ tokens in, .*\$0\.\d+")
        one = json.loads(self.q.tell("explain", "legal/one", "--json").out)
        self.assertEqual(["transient", "accepted"], [s["outcome"] for s in one["sendings"]])
        self.assertEqual(D(one["cost_usd"]), sum(D(s["cost_usd"]) for s in one["sendings"]))
        self.assert_exit(CONSENT, self.q.tell("explain", "nobody"))


class Truncated(Money):
    def test_a_cut_answer_is_asked_for_once_more_with_twice_the_room(self):
        s = self.recorder(lambda rq: (200, {}, json.dumps(
            {**Recorder.MESSAGE, "model": rq.body["model"], "stop_reason": "max_tokens"})))
        q = self.queue(url=s.url, base=self.q.base, name="cut")
        q.write("short.json", body("at most five", max_tokens=5, model="cheap"))
        q.write("none.md", "---\nmodel: cheap\n---\nno limit of its own")
        self.assert_exit(FAILED, q.run(sets=["tier.cheap.max_tokens=7"]))
        self.assertEqual([5, 7, 10, 14], sorted(r.body["max_tokens"] for r in s.requests))
        same, = {r.raw.replace(b": 10", b": 5") for r in s.requests if b"five" in r.raw}
        for name in ("short", "none"):
            got = q.json(name)
            self.assertEqual(("failed", "truncated", 2),
                             tuple(got[k] for k in ("state", "outcome", "attempts")))

    def test_twice_the_room_is_enough_for_some(self):
        self.s.set(output_median="30", output_sigma="0")
        self.q.write("b.jsonl", lines(5, max_tokens=20, model="cheap"))
        self.assert_exit(DONE, self.q.run())
        self.assertEqual(10, self.s.requests())
        self.assertEqual(self.billed(), D(self.q.status()["spent_usd"]))

    def test_a_cut_answer_may_be_kept_as_done(self):
        self.q.write("b.jsonl", lines(3, max_tokens=5, model="cheap"))
        self.assert_exit(DONE, self.q.run(sets=["jobs.on_truncation=keep"]))
        self.assertEqual({"truncated"}, set(self.q.outcomes().values()))
        self.assertEqual(3, self.s.requests())


if __name__ == "__main__":
    unittest.main()
