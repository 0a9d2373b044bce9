"""Whether answers are good enough: checks, cascades, and what is learned from both."""
import json
import os
import unittest

from story import (AGAIN, CONSENT, DONE, FAILED, HAIKU, OPUS, SONNET, Recorder, Story, body,
                   line, wait_until)

WEAK, STRONG = "claude-haiku-4-5-20251001", "claude-opus-5"  # a fifth of the price
TWO = ["jobs.ladder=cheap,deep", f"tier.cheap.model={WEAK}", f"tier.deep.model={STRONG}",
       f"tier.standard.model={STRONG}"]


def says(text, stop_reason="end_turn"):
    return 200, {}, json.dumps({**Recorder.MESSAGE, "model": "m", "stop_reason": stop_reason,
                                "content": [{"type": "text", "text": text}],
                                "usage": {"input_tokens": 100, "output_tokens": 100}})


class Quality(Story):
    def cheap_is_wrong(self, request):
        return says('{"sure": true}' if request.body["model"] == OPUS else "perhaps")

    def models(self, api):
        return [r.body["model"] for r in api.requests]


class Checks(Quality):
    def test_an_answer_that_does_not_pass_fails_its_job_and_is_kept(self):
        api = self.recorder(lambda r: says("no JSON"))
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: json\n---\nWhat?")
        self.assert_exit(FAILED, q.run())
        self.assertEqual(("failed", "check_failed"),
                         tuple(q.json("a")[k] for k in ("state", "outcome")))
        self.assertIn("not JSON", q.json("a")["error"]["message"])
        self.assertEqual("no JSON", q.json("a")["message"]["content"][0]["text"])
        self.assertEqual(1, len(api.requests))  # without a cascade nobody else is asked

    def test_the_job_s_check_wins_over_the_rule_s_and_that_over_the_default(self):
        api = self.recorder(lambda r: says("two words"))
        q = self.queue(url=api.url)
        q.write("own.md", "---\ncheck: min_chars:3\n---\nWhat?")
        q.write("rule/a.md", "What?")
        q.write("plain.md", "What?")
        q.write("list.json", json.dumps({"params": json.loads(body("x")), "nightmill": {
            "check": ["regex:^two", "max_chars:3"]}}))
        self.assert_exit(FAILED, q.run(sets=[
            "route.r.match=rule/*", "route.r.check=choices:two words,three", "jobs.check=json"]))
        self.assertEqual({"own": "accepted", "rule/a": "accepted", "plain": "check_failed",
                          "list": "check_failed"}, q.outcomes())
        self.assertIn("9 characters, at most 3", q.json("list")["error"]["message"])

    def test_a_schema_beside_the_job_counts_as_part_of_it(self):
        api = self.recorder(lambda r: says('{"label": "maybe"}'))
        q = self.queue(url=api.url)
        q.write("_s.json", '{"properties": {"label": {"enum": ["yes", "no"]}}}')
        q.write("a.md", "---\ncheck: schema:_s.json\n---\nWhat?")
        self.assert_exit(FAILED, q.run())
        self.assertIn('$.label: "maybe" is none of the 2', q.json("a")["error"]["message"])
        q.write("_s.json", '{"properties": {"label": {"enum": ["yes", "maybe"]}}}')
        self.assert_exit(DONE, q.run())
        self.assertEqual(2, len(api.requests))

    def test_a_program_judges_by_the_answer_and_the_job_s_name(self):
        api = self.recorder(lambda r: says("fine: " + r.body["messages"][0]["content"]))
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: named\n---\none")
        q.write("b.md", "---\ncheck: json && named\n---\ntwo")
        q.write("c.md", "---\ncheck: named\n---\nthree")
        self.assert_exit(FAILED, q.run(sets=[
            "check.named.shell=yes",
            "check.named.command=read x; echo \"it is $x\" >&2; test $NIGHTMILL_JOB != c"]))
        self.assertEqual({"a": "accepted", "b": "check_failed", "c": "check_failed"},
                         q.outcomes())
        self.assertEqual("the check says no (exit 1): it is fine: three",
                         q.json("c")["error"]["message"])

    def test_a_program_that_takes_too_long_is_no_pass(self):
        api = self.recorder()
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: slow\n---\none")
        self.assert_exit(FAILED, q.run(sets=["check.slow.command=sleep 600",
                                             "check.slow.timeout=200ms"]))
        self.assertIn("longer than 0.2 s", q.json("a")["error"]["message"])

    def test_an_answer_survives_a_crash_while_its_program_runs(self):
        api = self.recorder()
        q = self.queue(url=api.url)
        flag = os.path.join(q.base, "flag")
        q.write("a.md", "---\ncheck: waits\n---\none")
        sets = ["check.waits.shell=yes",
                f"check.waits.command=while [ ! -e {flag} ]; do sleep 0.02; done"]
        r = self.start(q, sets=sets)
        wait_until(lambda: api.requests and q.db("SELECT * FROM job WHERE checking = 1"),
                   why="a stored answer")
        r.kill()
        self.assert_jobs(q, in_flight=1)
        with open(flag, "w"):
            pass
        self.assert_exit(DONE, q.run(sets=sets))
        self.assertEqual(1, len(api.requests))
        self.assertEqual(0, q.status()["in_doubt"]["attempts"])
        self.assertEqual("Yes.", q.text("a").strip())

    def test_a_run_that_is_told_to_stop_leaves_unjudged_answers_to_the_next(self):
        api = self.recorder()
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: waits\n---\none")
        r = self.start(q, sets=["check.waits.command=sleep 600", "check.waits.timeout=1h",
                                "limits.drain=0s"])
        wait_until(lambda: api.requests and q.db("SELECT * FROM job WHERE checking = 1"),
                   why="a stored answer")
        r.terminate()
        self.assert_exit(AGAIN, r.wait())
        self.assert_exit(DONE, q.run(sets=["check.waits.command=true"]))
        self.assertEqual(1, len(api.requests))

    def test_bad_checks_are_found_before_anything_is_sent(self):
        api = self.recorder()
        for sets, says_so in (
                (["jobs.check=regex:("], "closing parenthesis"),
                (["jobs.check=schema:_none.json"], "_none.json"),
                (["jobs.check=schema:_bad.json"], "_bad.json"),
                (["jobs.check=nothing"], "no such check"),
                (["check.x.command=/no/such/program"], "no such program"),
                (["check.x.timeout=1s"], "command"),
                (["route.r.match=*", "route.r.check=choices:"], "route r")):
            q = self.queue(url=api.url)
            q.write("a.md", "What?")
            q.write("_bad.json", "{")
            ended = q.run(sets=sets)
            self.assert_exit(CONSENT, ended)
            self.assertIn(says_so, ended.err)
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: regex:(\n---\nWhat?")
        q.write("b.md", "---\nroute: cascade\n---\nWhat?")
        self.assert_exit(FAILED, q.run())
        self.assertEqual({"a": "invalid", "b": "invalid"}, q.outcomes())
        self.assertEqual([], api.requests)


class Cascades(Quality):
    def test_a_job_climbs_rung_by_rung_and_says_why_and_what_it_cost(self):
        api = self.recorder(self.cheap_is_wrong)
        q = self.queue(url=api.url)
        q.write("a.md", "---\nroute: cascade\ncheck: json\n---\nWhat?")
        self.assert_exit(DONE, q.run())
        self.assertEqual([HAIKU, SONNET, OPUS], self.models(api))
        result = q.json("a")
        self.assertEqual(("deep", OPUS, 3), tuple(
            result[k] for k in ("tier", "model", "attempts")))
        self.assertRegex(result["why"], "climbed from standard, whose answer did not pass: "
                                        "not JSON")
        per = {r["model"]: float(r["cost_usd"]) for r in
               json.loads(q.tell("explain", "a", "--json").out)["sendings"]}
        self.assertEqual({HAIKU, SONNET, OPUS}, set(per))
        self.assertAlmostEqual(sum(per.values()), float(result["cost_usd"]))
        told = q.tell("explain", "a").out
        self.assertIn("cheapest rung first: did not pass", told)
        self.assertIn("0 of 20 outcomes", told)

    def test_another_answer_another_decision(self):
        for answer, models in (('{"a": 1}', [HAIKU]), ("nothing", [HAIKU, SONNET, OPUS])):
            api = self.recorder(lambda r, text=answer: says(text))
            q = self.queue(url=api.url)
            q.write("a.md", "---\nroute: cascade\ncheck: json\n---\nWhat?")
            q.run()
            self.assertEqual(models, self.models(api))

    def test_it_begins_at_the_tier_that_is_named_and_never_leaves_a_named_model(self):
        api = self.recorder(lambda r: says("no"))
        q = self.queue(url=api.url)
        q.write("a.md", "---\nroute: cascade\ncheck: json\ntier: standard\n---\nWhat?")
        self.assert_exit(FAILED, q.run())
        self.assertEqual([SONNET, OPUS], self.models(api))
        q.write("b.md", f"---\nroute: cascade\ncheck: json\nmodel: {HAIKU}\n---\nWhat?")
        self.assert_exit(FAILED, q.run())
        self.assertEqual([SONNET, OPUS, HAIKU], self.models(api))

    def test_truncated_and_refused_answers_climb_as_well(self):
        for stop in ("max_tokens", "refusal"):
            api = self.recorder(lambda r, s=stop: says("{}", "end_turn" if r.body["model"] == OPUS
                                                       else s))
            q = self.queue(url=api.url)
            q.write("a.md", "---\nroute: cascade\ncheck: json\n---\nWhat?")
            self.assert_exit(DONE, q.run(sets=["jobs.on_truncation=fail"]))
            self.assertEqual([HAIKU, SONNET, OPUS], self.models(api))

    def test_a_cap_of_cost_ends_the_climb_and_says_so(self):
        api = self.recorder(self.cheap_is_wrong)
        q = self.queue(url=api.url)
        q.write("a.json", json.dumps({"params": json.loads(body("x", max_tokens=1000)),
                                      "nightmill": {"route": "cascade", "check": "json"}}))
        # the second rung may cost a cent at worst, the third two
        self.assert_exit(FAILED, q.run(sets=["cascade.max_cost=0.015"]))
        self.assertEqual([HAIKU, SONNET], self.models(api))
        self.assertIn("cascade.max_cost", q.json("a")["error"]["message"])

    def test_programs_let_climb_too(self):
        api = self.recorder(self.cheap_is_wrong)
        q = self.queue(url=api.url)
        q.write("a.md", "---\nroute: cascade\ncheck: sure\n---\nWhat?")
        self.assert_exit(DONE, q.run(sets=["check.sure.command=grep -q sure"]))
        self.assertEqual([HAIKU, SONNET, OPUS], self.models(api))
        self.assertIn("the check says no (exit 1)", q.json("a")["why"])

    def test_a_climb_goes_on_where_a_killed_run_left_it(self):
        hold = []

        def answer(request):
            if request.body["model"] == OPUS and not hold:
                hold.append(1)
                wait_until(lambda: len(hold) > 1)
            return self.cheap_is_wrong(request)
        api = self.recorder(answer)
        q = self.queue(url=api.url)
        q.write("a.md", "---\nroute: cascade\ncheck: json\n---\nWhat?")
        r = self.start(q)
        wait_until(lambda: hold, why="the last rung")
        r.kill()
        hold.append(2)
        self.assert_exit(DONE, q.run())
        self.assertEqual([HAIKU, SONNET, OPUS, OPUS], self.models(api))

    def test_retry_begins_at_the_bottom_again(self):
        api = self.recorder(lambda r: says("no"))
        q = self.queue(url=api.url)
        q.write("a.md", "---\nroute: cascade\ncheck: json\n---\nWhat?")
        self.assert_exit(FAILED, q.run(sets=TWO))
        q.tell("retry")
        self.assert_exit(FAILED, q.run(sets=TWO))
        self.assertEqual([WEAK, STRONG] * 2, self.models(api))


class Learning(Quality):
    """Easy questions pass on every rung, hard ones on the last alone."""

    def answer(self, request):
        hard = "hard" in request.body["messages"][0]["content"]
        return says("no" if hard and request.body["model"] == WEAK else "{}")

    def ask(self, q, name, kinds, count=60, **hints):
        q.write(f"{name}.jsonl", "".join(
            line(f"{kind}{n}", f"a {kind} question, number {n}",
                 nightmill={"tags": [kind], **hints}) for n in range(count) for kind in kinds))

    def test_outcomes_of_checks_decide_where_later_jobs_begin(self):
        api = self.recorder(self.answer)
        q = self.queue(url=api.url)
        self.ask(q, "first", ("easy", "hard"), route="cascade", check="json")
        sets = [*TWO, "limits.in_flight=4"]
        self.assert_exit(DONE, q.run(sets=sets))
        self.assertEqual(1, len(q.db("SELECT key FROM learned")))
        before = len(api.requests)
        self.ask(q, "then", ("easy", "hard"), 5, route="cascade", check="json")
        planned = q.tell("plan", sets=sets).out
        self.assert_exit(DONE, q.run(sets=sets))
        # the run before taught which of them are not worth a try
        self.assertEqual(10, len(api.requests) - before)
        why = {k: r["nightmill"]["why"] for k, r in q.bulk("then").items()}
        self.assertRegex(why["hard1"], r"cascade: learned: \d+ % right on deep expected, by the "
                                       r"(table|prompt's words)")
        self.assertRegex(why["easy1"], r"right on cheap expected")
        self.assertIn("deep", planned)
        self.assertIn("cheap", planned)

        q.tell("grade", "--forget")
        before = len(api.requests)
        self.ask(q, "last", ("hard",), 3, route="cascade", check="json")
        self.assert_exit(DONE, q.run(sets=sets))
        self.assertEqual(6, len(api.requests) - before)  # nobody knows any more
        self.assertIn("climbed from cheap", q.bulk("last")["hard1"]["nightmill"]["why"])

    def test_labels_teach_and_another_label_another_rung(self):
        for easy_is, model in (("right", WEAK), ("wrong", STRONG)):
            api = self.recorder(self.answer)
            q = self.queue(url=api.url)
            sets = [*TWO, "learn.explore=0", "jobs.tier=cheap"]
            self.ask(q, "first", ("easy",), route="learn")
            self.assert_exit(DONE, q.run(sets=sets))
            labels = q.write("../labels.csv", "job,ok\n" + "".join(
                f"first#easy{n},{easy_is}\n" for n in range(60)))
            ended = q.tell("grade", labels)
            self.assertIn("60 labels taken", ended.err)
            self.ask(q, "then", ("easy",), 1, route="learn")
            self.assert_exit(DONE, q.run(sets=sets))
            why = q.bulk("then")["easy0"]["nightmill"]["why"]
            self.assertEqual(model, self.models(api)[-1], why)
            self.assertRegex(why, r"learned: \d+ % right on (cheap|deep) expected.*"
                                  r"enough is 75 %")

    def test_a_failed_job_that_was_graded_can_still_be_sent_again(self):
        api = self.recorder(lambda r: says("no"))
        q = self.queue(url=api.url)
        q.write("a.md", "---\ncheck: json\n---\n" + "a long question " * 500)
        self.assert_exit(FAILED, q.run())
        labels = q.write("../labels.csv", "job,ok\na,wrong\n")
        self.assert_exit(DONE, q.tell("grade", labels))
        self.assert_exit(FAILED, q.run())
        q.tell("retry")
        self.assert_exit(FAILED, q.run())
        self.assertEqual(api.requests[0].body["messages"], api.requests[1].body["messages"])

    def test_labels_that_fit_nothing_are_told_one_by_one(self):
        q = self.queue(self.sim())
        q.write("a.md", "What?")
        self.assert_exit(DONE, q.run())
        labels = q.write("../labels.csv", "ok,job\n1,a\n1,nobody\nperhaps,a\n")
        ended = q.tell("grade", labels)
        self.assert_exit(FAILED, ended)
        self.assertIn(":3: nobody: no such job", ended.err)
        self.assertIn(":4: perhaps: want 1 or 0", ended.err)
        self.assertIn("1 label taken", ended.err)
        q.write("../labels.csv", "name,fine\n")
        self.assert_exit(CONSENT, q.tell("grade", labels))

    def test_cold_it_goes_by_what_the_job_asks_for(self):
        api = self.recorder()
        q = self.queue(url=api.url)
        q.write("plain.json", body("x"))
        q.write("thinks.json", body("x", thinking={"type": "adaptive"}))
        q.write("tools.json", body("x", tools=[{"name": "t", "input_schema": {}}]))
        q.write("long.json", body("x " * 9000))
        q.write("writes.json", body("x", max_tokens=20000))
        self.assert_exit(DONE, q.run(sets=["jobs.route=learn", "jobs.tier=cheap"]))
        self.assertEqual({"plain": HAIKU, "thinks": OPUS, "tools": SONNET, "long": SONNET,
                          "writes": SONNET},
                         {k: r["model"] for k, r in q.results().items()})
        self.assertIn("nothing learned yet; tools: one rung above the default",
                      q.json("tools")["why"].replace("0 of 20 outcomes, too few to learn from",
                                                     "nothing learned yet"))


if __name__ == "__main__":
    unittest.main()
