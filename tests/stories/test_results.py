"""Results where pipelines want them, and a queue to begin with."""
import csv
import io
import json
import os
import subprocess
import unittest

from story import (CONSENT, DONE, FAILED, HAIKU, NIGHTMILL, VALGRIND, Running, Recorder, Story,
                   line)


class Formats(Story):
    def setUp(self):
        def answer(request):
            text = request.body["messages"][0]["content"]
            if "bad" in text:
                return 400, {}, json.dumps({"type": "error", "error": {
                    "type": "invalid_request_error", "message": 'no "bad", please'}})
            return 200, {}, json.dumps({**Recorder.MESSAGE, "model": HAIKU, "content": [
                {"type": "text", "text": f'He said "{text}",\nand left.'}]})
        self.api = self.recorder(answer)
        self.q = self.queue(url=self.api.url)
        self.q.write("b.jsonl", line("z", "zwei", model=HAIKU) + line("bad", "bad", model=HAIKU)
                     + line("a", "ähm", model=HAIKU, nightmill={"tags": ["x", "y"]}))
        self.assert_exit(FAILED, self.q.run(sets=["limits.in_flight=1"]))

    def told(self, *args):
        ended = self.q.tell("results", *args)
        self.assert_exit(DONE, ended)
        return ended.out

    def rows(self, *args):
        return [json.loads(row) for row in self.told(*args).splitlines()]

    def test_csv_is_read_by_others_as_it_was_meant(self):
        text = self.told("--format", "csv")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertEqual(["b#z", "b#bad", "b#a"], [r["job"] for r in rows])
        self.assertEqual('He said "zwei",\nand left.', rows[0]["text"])
        self.assertEqual('no "bad", please', rows[1]["error.message"])
        self.assertEqual("", rows[1]["text"])
        self.assertEqual(("x,y", "2"), (rows[2]["tags"], rows[2]["usage.output_tokens"]))
        self.assertNotIn("message", rows[0])

    def test_fields_are_those_asked_for_in_their_order(self):
        self.assertEqual("custom_id,text", self.told("--format", "csv", "--field",
                                                     "custom_id,text").splitlines()[0])
        self.assertEqual({"usage.input_tokens": None, "job": "b#bad", "error.type":
                          "invalid_request_error"},
                         self.rows("--field", "usage.input_tokens,job,error.type")[1])
        self.assertEqual("b#z\tdone\nb#bad\tfailed\nb#a\tdone\n",
                         self.told("--format", "text", "--field", "job,state"))
        message = self.rows("--field", "message")[0]["message"]
        self.assertEqual('He said "zwei",\nand left.', message["content"][0]["text"])
        refused = self.q.tell("results", "--field", "job,nonsense")
        self.assert_exit(CONSENT, refused)
        self.assertRegex(refused.err, r"--field nonsense: want some of job, custom_id, state")

    def test_only_and_since_choose_rows(self):
        self.assertEqual(["b#bad"], [r["job"] for r in self.rows("--only", "failed")])
        self.assertEqual(3, len(self.rows("--since", "1h")))
        self.assertEqual(3, len(self.rows("--since", "2020-01-01")))
        self.assertEqual(0, len(self.rows("--since", "2100-01-01T00:00Z")))
        self.assertEqual(0, len(self.rows("--since", "2100-01-01T00:00:00+01:00")))
        for wrong in ("yesterday", "8w", "2026-13-45", "2026-01-01T00:00+99:00", ""):
            refused = self.q.tell("results", "--since", wrong)
            self.assert_exit(CONSENT, refused)
            self.assertIn("want 8h, 2d, 2026-11-22", refused.err)

    def test_rows_come_as_the_jobs_came_or_as_they_ended(self):
        first = self.queue(url=self.api.url)
        first.write("b.jsonl", line("late", "x", model=HAIKU, nightmill={"priority": -1})
                    + line("soon", "x", model=HAIKU))
        self.assert_exit(DONE, first.run(sets=["limits.in_flight=1"]))
        for order, names in (("input", ["late", "soon"]), ("finished", ["soon", "late"])):
            told = first.tell("results", "--order", order, "--field", "custom_id").out
            self.assertEqual(names, [json.loads(r)["custom_id"] for r in told.splitlines()])

    def test_a_reader_that_goes_away_is_no_disaster(self):
        q = self.queue(self.sim())
        q.write("many.jsonl", "".join(line(f"n{n}", model=HAIKU) for n in range(1500)))
        self.assert_exit(DONE, q.run())
        p = subprocess.Popen(q.command("results"), env=q.env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.readline()
        p.stdout.close()
        said = p.stderr.read()
        p.stderr.close()
        self.assertEqual(1, p.wait(60))
        self.assertEqual("", said)


class Init(Story):
    def test_it_makes_a_queue_that_runs_and_never_touches_what_is_there(self):
        s = self.sim()
        q = self.queue(s)
        home = os.path.join(q.base, "new", "queue")

        def init():
            return Running(VALGRIND + [NIGHTMILL, "init", home], q.env, q.base).wait()
        told = init()
        self.assert_exit(DONE, told)
        self.assertEqual({"nightmill.ini", "hello.md", "tickets.jsonl"}, set(os.listdir(home)))
        self.assertIn(f"nightmill check {home}", told.out)
        q.path = home
        ended = q.run(sets=["jobs.in_doubt=again"])
        self.assert_exit(DONE, ended)
        self.assertEqual("done", q.json("hello")["state"])
        self.assertEqual(2, len(q.bulk("tickets")))

        q.write("hello.md", "Mine.")
        q.remove("tickets.jsonl")
        told = init()
        self.assertIn("kept  " + q.at("hello.md"), told.out)
        self.assertIn("made  " + q.at("tickets.jsonl"), told.out)
        self.assertEqual("Mine.", q.read("hello.md"))

    def test_where_nothing_can_be_made_it_says_so(self):
        q = self.queue(self.sim())
        q.write("file", "x")
        ended = Running(VALGRIND + [NIGHTMILL, "init", q.at("file")], q.env, q.base).wait()
        self.assertNotEqual(DONE, ended.code)
        self.assertIn("file", ended.err)


if __name__ == "__main__":
    unittest.main()
