"""The examples, run as a newcomer runs them."""
import json
import shutil
import unittest

from story import (DONE, EXAMPLES, FAILED, HAIKU, OPUS, SONNET, Story, body, line, lines,
                   paced)

SHAPE = {"job", "state", "outcome", "tier", "model", "why", "attempts", "usage",
         "cost_usd", "request_id", "started_at", "finished_at"}
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"


class Examples(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        shutil.rmtree(self.q.path)
        shutil.copytree(EXAMPLES, self.q.path)

    def test_they_run_to_the_end_and_a_second_run_sends_nothing(self):
        before = {n: self.q.read(n) for n in self.q.files()}
        first = self.q.run()
        self.assert_exit(DONE, first)
        self.assertEqual("", first.out)
        self.assertEqual(13, self.s.served())
        self.assert_each_once(self.s, 13)
        self.assert_jobs(self.q, done=13)

        results = {n for n in self.q.files() if n.startswith("results/")}
        self.assertEqual(
            {"results/.nightmill-own", "results/tickets.jsonl"} |
            {f"results/{n}.{e}" for e in ("md", "json")
             for n in ("hello", "night-sky", "backup-plan", "release-note",
                       "garden/beds")},
            results)
        kept = {n: self.q.read(n) for n in results}

        second = self.q.run()
        self.assert_exit(DONE, second)
        self.assertEqual(13, self.s.requests())
        self.assertEqual(kept, {n: self.q.read(n) for n in results})
        self.assertEqual(before, {n: self.q.read(n) for n in before})

    def test_a_single_job_s_result_has_the_documented_shape(self):
        self.q.run()
        r = self.q.json("backup-plan")
        self.assertEqual(SHAPE | {"message"}, set(r))
        self.assertEqual(("backup-plan", "done", "accepted", "deep", OPUS, 1),
                         tuple(r[k] for k in ("job", "state", "outcome", "tier", "model",
                                              "attempts")))
        self.assertEqual("message", r["message"]["type"])
        self.assertRegex(r["cost_usd"], r"^0\.\d+$")
        self.assertGreater(float(r["cost_usd"]), 0)
        self.assertRegex(r["request_id"], "^req_")
        self.assertRegex(r["started_at"], TIME)
        self.assertRegex(r["finished_at"], TIME)
        self.assertLessEqual(r["started_at"], r["finished_at"])
        self.assertEqual(r["usage"]["output_tokens"],
                         r["message"]["usage"]["output_tokens"])
        said = "".join(b["text"] for b in r["message"]["content"])
        self.assertEqual(said.rstrip("\n"), self.q.text("backup-plan").rstrip("\n"))

    def test_a_bulk_line_has_the_shape_of_the_batches_api(self):
        self.q.run()
        rows = self.q.bulk("tickets")
        self.assertEqual({f"t-{n}" for n in range(1001, 1009)}, set(rows))
        for custom_id, row in rows.items():
            self.assertEqual({"custom_id", "result", "nightmill"}, set(row))
            self.assertEqual({"type", "message"}, set(row["result"]))
            self.assertEqual("succeeded", row["result"]["type"])
            self.assertEqual(SHAPE, set(row["nightmill"]))
            self.assertEqual("tickets#" + custom_id, row["nightmill"]["job"])
            self.assertEqual(HAIKU, row["nightmill"]["model"])
        self.assertIn("[route tickets]", rows["t-1008"]["nightmill"]["why"])
        self.assertEqual("the job names the tier", rows["t-1001"]["nightmill"]["why"])

    def test_with_json_standard_output_has_one_event_a_line(self):
        ended = self.q.run("--json")
        events = [json.loads(row) for row in ended.out.splitlines()]
        names = [e["event"] for e in events]
        self.assertEqual(("run_started", "run_ended"), (names[0], names[-1]))
        self.assertEqual(13, names.count("job_done"))
        self.assertEqual(13, len({e["job"] for e in events if e["event"] == "job_done"}))
        for e in events:
            self.assertRegex(e["at"], TIME)
        self.assertEqual((0, 13, 0), tuple(events[-1][k]
                                           for k in ("exit", "done", "failed")))

    def test_status_tells_the_same_to_people_and_to_programs(self):
        self.q.run()
        status = self.q.status()
        self.assertLessEqual({"jobs", "in_doubt", "spent_usd", "lanes", "halts"},
                             set(status))
        self.assertEqual({"attempts", "usd_low", "usd_high"}, set(status["in_doubt"]))
        self.assertEqual(([], []), (status["lanes"], status["halts"]))
        # To the last digit that both print.
        billed = self.s.stats()["usd"]
        self.assertAlmostEqual(float(billed), float(status["spent_usd"]), places=6)
        text = self.q.tell("status")
        self.assertIn("13 done, 0 failed, 0 parked", text.out)
        self.assertEqual("", text.err)

    def test_results_are_printed_as_jsonl_and_as_text(self):
        self.q.write("broken.json", "{")
        self.assert_exit(FAILED, self.q.run())
        rows = self.q.results()
        self.assertEqual(14, len(rows))
        self.assertEqual(SHAPE | {"message"}, set(rows["hello"]))
        self.assertEqual(SHAPE | {"error"}, set(rows["broken"]))

        text = self.q.tell("results", "--format", "text").out
        self.assertIn("== hello (accepted) ==\n" + self.q.text("hello"), text)
        self.assertIn("== broken (invalid) ==\nbroken.json:1: ", text)

        only = self.q.tell("results", "--only", "failed").out.splitlines()
        self.assertEqual(["broken"], [json.loads(r)["job"] for r in only])
        only = self.q.tell("results", "--only", "done", "--format", "text").out
        self.assertNotIn("broken", only)
        self.assertEqual(13, only.count("== "))


class Bulk(Story):
    def test_thirteen_hundred_lines_give_each_job_exactly_one_result(self):
        s = self.sim("latency.ttft=2ms")
        q = self.queue(s)
        q.write("math.jsonl", lines(1319))
        q.write("hello.txt", "Say hello.")
        self.assert_exit(DONE, q.run(sets=["limits.in_flight=64"]))
        self.assert_each_once(s, 1320)
        self.assertEqual((1320, 1320), (s.requests(), s.served()))
        self.assertEqual({f"j{n}" for n in range(1319)}, set(q.bulk("math")))
        self.assertEqual([(1320,)], q.db("SELECT count(*) FROM attempt WHERE state = 1"))
        self.assertEqual([(0,)], q.db("SELECT count(*) FROM body"))
        # It opened up, and not beyond the 64 it may; the simulator counts a request for
        # a moment longer than its client does.
        self.assertGreater(s.stats()["most_in_flight"], paced(8, 2))
        self.assertLess(s.stats()["most_in_flight"], 90)

    def test_small_files_go_before_bulk_ones(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.jsonl", lines(40, metadata={"user_id": "bulk"}))
        q.write("z.json", body("small", metadata={"user_id": "small"}))
        self.assert_exit(DONE, q.run(sets=["limits.in_flight=1"]))
        self.assertEqual("small", s.log()[0]["job"])

    def test_priority_holds_among_the_jobs_taken_in(self):
        s = self.sim()
        q = self.queue(s)
        for n in range(6):
            q.write(f"p{n}.json", body(f"p{n}", metadata={"user_id": f"p{n}"},
                                       nightmill={"priority": n}))
        self.assert_exit(DONE, q.run(sets=["limits.in_flight=1"]))
        order = [row["job"] for row in s.log()]
        self.assertEqual(sorted(order, reverse=True), order)

    def test_a_revised_line_replaces_its_result(self):
        s = self.sim()
        q = self.queue(s)
        q.write("b.jsonl", lines(30))
        q.run()
        before = q.bulk("b")
        q.write("b.jsonl", lines(29) + line("j29", "something else"))
        self.assert_exit(DONE, q.run())
        after = q.bulk("b")
        self.assertEqual(set(before), set(after))
        self.assertEqual(["j29"], [k for k in after if after[k] != before[k]])


if __name__ == "__main__":
    unittest.main()
