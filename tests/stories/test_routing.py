"""Where a job goes and why, and what of it reaches the wire."""
import json
import unittest

from story import (AGAIN, CONSENT, DONE, FAILED, HAIKU, NIGHTMILL, OPUS, SONNET, VALGRIND,
                   Running, Story, body, lines)


class Routing(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def assert_routed(self, name, model, tier, why):
        r = self.q.json(name)
        self.assertEqual((model, tier), (r["model"], r["tier"]), name)
        self.assertIn(why, r["why"])

    def test_the_job_s_word_goes_before_rules_and_rules_before_the_default(self):
        self.q.write("nightmill.ini", """
[route law]
match = legal/*
tier = deep
[route shop]
tags = shop, urgent
tier = cheap
[route long]
min_bytes = 20KiB
model = claude-opus-5
[route late]
match = legal/*
tier = cheap
""")
        self.q.write("legal/a.md", "What?")
        self.q.write("legal/own.md", f"---\nmodel: {SONNET}\n---\nWhat?")
        self.q.write("legal/cheap.md", "---\ntier: cheap\n---\nWhat?")
        self.q.write("word.json", body("What?", model="deep"))
        self.q.write("auto.json", body("What?", model="auto"))
        self.q.write("tags.json", body("What?", nightmill={"tags": ["urgent", "shop", "x"]}))
        self.q.write("onetag.md", "---\ntags: shop\n---\nWhat?")
        self.q.write("long.txt", "x" * 30000)
        self.assert_exit(DONE, self.q.run())
        self.assert_routed("legal/a", OPUS, "deep", "rule [route law]")
        self.assert_routed("legal/own", SONNET, None, "the job names the model")
        self.assert_routed("legal/cheap", HAIKU, "cheap", "the job names the tier")
        self.assert_routed("word", OPUS, "deep", "the job names the tier")
        self.assert_routed("auto", SONNET, "standard", "the default tier")
        self.assert_routed("tags", HAIKU, "cheap", "rule [route shop]")
        self.assert_routed("onetag", SONNET, "standard", "the default tier")
        self.assert_routed("long", "claude-opus-5", None, "rule [route long]")
        self.assertEqual({HAIKU: 2, SONNET: 3, OPUS: 2, "claude-opus-5": 1},
                         self.s.stats()["by_model"])

    def test_a_model_that_only_the_job_names_and_nobody_knows_fails_that_job_alone(self):
        self.q.write("odd.json", body("What?", model="claude-nonesuch-9"))
        self.q.write("b.jsonl", lines(20))
        self.assert_exit(FAILED, self.q.run())
        odd = self.q.json("odd")
        self.assertEqual("bad_request", odd["outcome"])
        self.assertEqual("model: claude-nonesuch-9", odd["error"]["message"])
        self.assert_jobs(self.q, done=20, failed=1)
        self.assertEqual(21, self.s.requests())

    def test_a_tier_s_refused_model_closes_its_lane_and_the_rest_goes_on(self):
        for kind in ("404", "403"):
            with self.subTest(kind):
                q = self.queue(self.s)
                q.write("d.jsonl", lines(30, model="deep"))
                q.write("s.jsonl", lines(30))
                self.s.fault(kind, match=OPUS, name="denied",
                             message=f"model: {OPUS}")
                before = len(self.s.log(model=OPUS))
                ended = q.run()
                self.assert_exit(AGAIN, ended)
                self.assert_jobs(q, done=30, queued=30)
                self.assertEqual(1, len(self.s.log(model=OPUS)) - before)
                self.assertRegex(ended.err, r"opus-5\.5 is closed \(model denied.*"
                                            r"fallback.*run the same command")
                self.s.clear_faults()
                self.assert_exit(DONE, q.run())
                self.assert_jobs(q, done=60)

    def test_a_refused_tier_s_jobs_take_its_fallback(self):
        self.q.write("nightmill.ini", "[tier deep]\nfallback = standard\n")
        self.q.write("d.jsonl", lines(30, model="deep"))
        self.s.fault("404", match=OPUS, message=f"model: {OPUS}")
        self.assert_exit(DONE, self.q.run())
        rows = self.q.bulk("d")
        self.assertEqual({(SONNET, "standard")}, {
            (r["nightmill"]["model"], r["nightmill"]["tier"]) for r in rows.values()})
        self.assertIn(f"fallback tier, since {OPUS} was refused",
                      rows["j29"]["nightmill"]["why"])
        self.assertEqual([(1,)], self.q.db("SELECT max(attempts) FROM job"))


class Streams(Story):
    MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET,
               "content": [{"type": "text", "text": "At n\u00edght, the m\u00efll \U0001f319 runs."},
                           {"type": "tool_use", "id": "toolu_1", "name": "turn",
                            "input": {"sails": [1, 2.5], "name": "\"x\""}},
                           {"type": "text", "text": "Done."}],
               "stop_reason": "tool_use", "stop_sequence": None,
               "usage": {"input_tokens": 11, "output_tokens": 37}}

    def events(self):
        """The message in events, as the API streams it: in pieces, with pings."""
        m = json.loads(json.dumps(self.MESSAGE))
        blocks, usage = m.pop("content"), m.pop("usage")
        reason = m["stop_reason"]
        yield {"type": "message_start", "message": {
            **m, "content": [], "stop_reason": None,
            "usage": {**usage, "output_tokens": 1}}}
        for n, block in enumerate(blocks):
            text = block.get("text") or json.dumps(block["input"])
            kind = ({"type": "text_delta", "text": ""} if "text" in block else
                    {"type": "input_json_delta", "partial_json": ""})
            key = "text" if "text" in block else "partial_json"
            empty = {**block, "text": ""} if "text" in block else {**block, "input": {}}
            yield {"type": "content_block_start", "index": n, "content_block": empty}
            yield {"type": "ping"}
            for at in range(0, len(text), 5):
                yield {"type": "content_block_delta", "index": n,
                       "delta": {**kind, key: text[at:at + 5]}}
            yield {"type": "content_block_stop", "index": n}
        yield {"type": "message_delta", "delta": {"stop_reason": reason,
                                                  "stop_sequence": None},
               "usage": {"output_tokens": usage["output_tokens"]}}
        yield {"type": "message_stop"}

    def test_a_streamed_answer_is_put_together_into_the_message_that_it_was(self):
        def answer(request):
            if not request.body.get("stream"):
                return 200, {}, json.dumps(self.MESSAGE)
            return 200, {"content-type": "text/event-stream"}, "".join(
                f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in self.events())
        q = self.queue(self.recorder(answer))
        q.write("streamed.json", body("much", max_tokens=50000))
        q.write("whole.json", body("less", max_tokens=5000))
        self.assert_exit(DONE, q.run())
        streamed, whole = q.json("streamed"), q.json("whole")
        self.assertEqual(self.MESSAGE, streamed["message"])
        self.assertEqual(self.MESSAGE, whole["message"])
        self.assertEqual("At n\u00edght, the m\u00efll \U0001f319 runs.\n\nDone.\n",
                         q.text("streamed"))
        self.assertEqual(q.text("whole"), q.text("streamed"))
        for key in ("usage", "cost_usd", "state", "outcome"):
            self.assertEqual(whole[key], streamed[key])


class Wire(Story):
    def setUp(self):
        self.api = self.recorder()
        self.q = self.queue(self.api)

    def sent(self, *args, **more):
        self.assert_exit(DONE, self.q.run(*args, **more))
        request, = self.api.requests
        return request

    def test_fields_of_the_api_pass_through_untouched(self):
        fields = ('"temperature": 0.7, "top_p":0.90, "metadata" : {"user_id": "Zo\\u00eb \\/ x"}'
                  ',\n "system": [{"type": "text", "text": "caf\u00e9 \\ud83c\\udf19"}],'
                  ' "thinking": {"type":"enabled","budget_tokens":1.0e4},'
                  ' "new_thing": {"deep": [1, 2.50, -0, null, 10000000000000000001]}')
        messages = '"messages": [ {"role":"user", "content":"1 < 2 & \\u2028"} ]'
        self.q.write("a.json", '{"model": "cheap", ' + fields + ', "max_tokens": 777'
                     ', "nightmill": {"tier": "deep"}, ' + messages + "}")
        raw = self.sent().raw.decode()
        for piece in (*fields.split(",\n "), messages, '"max_tokens": 777'):
            self.assertIn(piece.strip(), raw)
        self.assertEqual(1, raw.count("max_tokens"))
        self.assertNotIn("nightmill", raw)
        sent = json.loads(raw)
        self.assertEqual(OPUS, sent["model"])
        self.assertNotIn("stream", sent)

    def test_a_text_job_becomes_a_message_with_what_its_front_matter_says(self):
        self.q.write("_voice.txt", "Speak plainly.\n")
        self.q.write("a.md", "---\ntier: deep\neffort: high\nmax_tokens: 321\n"
                     "system_file: _voice.txt\n---\n\nWhat is a mill?\n\n")
        sent = self.sent().body
        self.assertEqual([{"role": "user", "content": "What is a mill?"}],
                         sent.pop("messages"))
        self.assertEqual("Speak plainly.", sent.pop("system").strip())
        self.assertEqual({"model": OPUS, "max_tokens": 321,
                          "output_config": {"effort": "high"}}, sent)

    def test_what_the_job_leaves_open_comes_from_its_tier(self):
        self.q.write("a.json", json.dumps({"messages": json.loads(body("x"))["messages"]}))
        sent = self.sent(sets=["tier.standard.effort=low",
                               "tier.standard.max_tokens=17"]).body
        self.assertEqual((17, {"effort": "low"}), (sent["max_tokens"], sent["output_config"]))

    def test_the_job_s_own_effort_stands_beside_other_output_settings(self):
        self.q.write("a.json", body("x", output_config={"effort": "low", "other": 1.50}))
        sent = self.sent(sets=["tier.standard.effort=high"])
        self.assertEqual({"effort": "low", "other": 1.5}, sent.body["output_config"])

    def test_a_tier_s_effort_joins_other_output_settings(self):
        self.q.write("a.json", body("x", output_config={"other": 1}))
        sent = self.sent(sets=["tier.standard.effort=high"]).body
        self.assertEqual({"effort": "high", "other": 1}, sent["output_config"])

    def test_stream_is_asked_for_where_the_job_wants_it_or_much_may_come(self):
        self.q.write("asks.json", body("asks", stream=True))
        self.q.write("much.json", body("much", max_tokens=50000))
        self.q.write("less.json", body("less", max_tokens=16000))
        self.q.write("no.json", body("no", stream=False))
        self.assert_exit(DONE, self.q.run())
        self.assertEqual({"asks": True, "much": True, "less": None, "no": None},
                         {r.body["messages"][0]["content"]: r.body.get("stream")
                          for r in self.api.requests})

    def test_the_headers_are_those_of_the_api(self):
        self.q.write("a.md", "What?")
        sent = self.sent(sets=["api.beta=one-2026,two-2026", "api.version=2026-10-21"])
        headers = {k.lower(): v for k, v in sent.headers.items()}
        self.assertEqual(("application/json", "2026-10-21", "one-2026,two-2026"), tuple(
            headers[k] for k in ("content-type", "anthropic-version", "anthropic-beta")))
        self.assertIn("gzip", headers.get("accept-encoding", ""))
        self.assertEqual("/v1/messages", sent.path)
        self.assertEqual("nightmill", headers["user-agent"].split("/")[0])



class Judged(Story):
    """`route --eval`: a table of outcomes, and how well a router would have done."""

    def table(self, rows, head="group,prompt,weak_ok,strong_ok\n"):
        q = self.queue(url="http://127.0.0.1:9")
        return q, q.write("rows.csv", head + "".join(
            f'{group},"{prompt}",{weak},{strong}\n' for group, prompt, weak, strong in rows))

    def judge(self, q, *args):
        r = Running(VALGRIND + [NIGHTMILL, "route", *args], q.env, q.base)
        return r.wait()

    def test_what_groups_tell_is_learned_and_the_figures_are_those_of_the_definition(self):
        rows = [("easy" if n % 2 else "hard", f"question {n} of these", n % 2, 1)
                for n in range(600)]
        q, path = self.table(rows)
        told = json.loads(self.judge(q, "--eval", path, "--json").out)
        text = self.judge(q, "--eval", path).out
        self.assertRegex(text, r"600 rows, 2 groups; right: weak 50\.0 %, strong 100\.0 %")
        # a router that knows closes all of the gap with half of the calls: 0.75
        self.assertRegex(text, r"(?m)^the router +0\.7[45]\d +25\.\d % +40\.\d %")
        self.assertRegex(text, r"(?m)^random +0\.500 +50\.0 % +80\.0 %")
        self.assertIsInstance(told, dict)
        self.assertEqual(text.split("a decision")[0],
                         self.judge(q, "--eval", path).out.split("a decision")[0])

    def test_a_table_that_cannot_be_read_is_named_with_its_line(self):
        for head, rows, says in (
                ("group,prompt,weak_ok\n", [], "strong_ok"),
                ("group,prompt,weak_ok,strong_ok\n", [("a", "b", "perhaps", 1)], ":2")):
            q, path = self.table(rows, head)
            ended = self.judge(q, "--eval", path)
            self.assert_exit(CONSENT, ended)
            self.assertIn("rows.csv", ended.err)
            self.assertIn(says, ended.err)


if __name__ == "__main__":
    unittest.main()
