"""What a run would send, for how much and how long, before it sends anything."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import unittest
from decimal import Decimal

from story import (AGAIN, CONSENT, DONE, FAILED, HAIKU, NIGHTMILL, OPUS, Story, body, line,
                   lines, paced, wait_until)


def looked_at(path):
    """Everything that could tell that somebody wrote there."""
    seen = {}
    for folder, _, names in os.walk(path):
        for name in [".", *names]:
            p = os.path.join(folder, name)
            st = os.lstat(p)
            content = b""
            if os.path.isfile(p):
                with open(p, "rb") as f:
                    content = f.read()
            seen[os.path.relpath(p, path)] = (st.st_mtime_ns, st.st_ctime_ns, st.st_mode,
                                              st.st_ino, content)
    return seen


class Planned(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.tmp = os.path.join(self.q.base, "tmp")
        os.mkdir(self.tmp)
        self.q.env["TMPDIR"] = self.tmp

    def plan(self, code=DONE, sets=()):
        ended = self.q.tell("plan", "--json", sets=sets)
        self.assert_exit(code, ended)
        self.assertEqual([], os.listdir(self.tmp))
        return json.loads(ended.out)

    def text(self, **more):
        ended = self.q.tell("plan", **more)
        self.assert_exit(DONE, ended)
        return ended.out

    def spent(self):
        return Decimal(self.q.status()["spent_usd"])

    def assert_holds(self, usd, bill):
        self.assertLessEqual(Decimal(usd["low"]), bill)
        self.assertLessEqual(bill, Decimal(usd["high"]))

    def ratio(self, usd):
        return float(Decimal(usd["high"]) / Decimal(usd["low"]))


class NeverRun(Planned):
    def test_nothing_is_written_and_nothing_is_sent(self):
        self.q.write("b.jsonl", lines(300))
        self.q.write("deep/dive.md", "Say hello.")
        self.q.write("bad.json", "{")
        before = looked_at(self.q.path)
        self.text()
        p = self.plan()
        self.assertEqual(before, looked_at(self.q.path))
        self.assertEqual({"queue", "tmp"}, set(os.listdir(self.q.base)))
        self.assertEqual(0, self.s.requests())
        self.assertFalse(p["known"])
        self.assertEqual({"to_send": 301, "new": 301, "changed": 0, "done": 0,
                          "failed": 1, "parked": 0, "in_flight": 0, "gone": 0,
                          "invalid": 1, "unroutable": 0}, p["jobs"])

    def test_a_queue_that_cannot_be_written_is_planned_like_any_other(self):
        self.q.write("b.jsonl", lines(20))
        self.assert_planned_read_only(20)

    def test_so_is_one_that_was_run_before_it_became_read_only(self):
        self.q.write("b.jsonl", lines(20))
        self.assert_exit(DONE, self.q.run("--first", "5"))
        self.assert_planned_read_only(15)

    def assert_planned_read_only(self, to_send):
        """As somebody who may only read; root is stopped by no mode."""
        for folder, folders, names in os.walk(self.q.path):
            for n in folders:
                os.chmod(os.path.join(folder, n), 0o555)
            for n in names:
                os.chmod(os.path.join(folder, n), 0o444)
        os.chmod(self.q.path, 0o555)
        os.chmod(self.q.base, 0o755)
        os.chmod(self.tmp, 0o777)
        who = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
        before = looked_at(self.q.path)
        env = {**self.q.env, "XDG_STATE_HOME": "/nowhere"}
        try:
            ended = subprocess.run(
                [NIGHTMILL, "plan", "--json", "--set", "intake.settle=0s", self.q.path],
                env=env, capture_output=True, text=True, timeout=60, **who)
        except PermissionError:
            self.skipTest("the program cannot be reached without root's rights")
        finally:
            for folder, folders, _ in os.walk(self.q.path):
                for n in folders:
                    os.chmod(os.path.join(folder, n), 0o755)
            os.chmod(self.q.path, 0o755)
        self.assertEqual(DONE, ended.returncode, ended.stderr)
        self.assertEqual(to_send, json.loads(ended.stdout)["jobs"]["to_send"])
        after = looked_at(self.q.path)
        self.assertEqual({k: v[0] for k, v in before.items()},
                         {k: v[0] for k, v in after.items()})
        self.assertEqual([], os.listdir(self.tmp))

    def test_invalid_jobs_are_named_with_file_and_line(self):
        good = lines(30)
        self.q.write("b.jsonl", good + "{\n" + line("x", max_tokens="many") + "\n" +
                     line("j3"))
        self.q.write("sub/bad.json", "[1]")
        p = self.plan()
        self.assertEqual(4, p["jobs"]["invalid"])
        self.assertEqual(30, p["jobs"]["to_send"])
        self.assertEqual({("b.jsonl", 31), ("b.jsonl", 32), ("b.jsonl", 34),
                          ("sub/bad.json", 1)},
                         {(i["file"], i["line"]) for i in p["invalid"]})
        for i in p["invalid"]:
            self.assertTrue(i["says"].startswith(f"{i['file']}:{i['line']}:"), i["says"])
        self.assertRegex(self.text(), r"(?m)^invalid, and not sent:\n(  \S+:\d+: .*\n){4}")

    def test_of_many_invalid_ones_the_first_ten_are_named(self):
        self.q.write("b.jsonl", "{\n" * 25 + lines(2))
        p = self.plan()
        self.assertEqual(25, p["jobs"]["invalid"])
        self.assertEqual(list(range(1, 11)), [i["line"] for i in p["invalid"]])
        self.assertIn("... and 15 more", self.text())

    def test_each_rung_has_its_line_and_the_total_is_their_sum(self):
        self.q.write("b.jsonl", lines(40, model=HAIKU))
        self.q.write("c.jsonl", lines(30))
        self.q.write("deep.md", "---\ntier: deep\n---\nThink.")
        p = self.plan()
        rows = {(r["tier"], r["lane"]): r for r in p["rows"]}
        self.assertEqual({(None, "haiku-5.5"), ("standard", "sonnet-5.5"),
                          ("deep", "opus-5.5")}, set(rows))
        self.assertEqual(40, rows[None, "haiku-5.5"]["jobs"])
        self.assertEqual(OPUS, rows["deep", "opus-5.5"]["model"])
        self.assertEqual(71, p["total"]["jobs"])
        self.assertEqual({"haiku-5.5", "sonnet-5.5", "opus-5.5"},
                         {lane["name"] for lane in p["lanes"]})
        for figure in ("low", "likely", "high"):
            self.assertAlmostEqual(float(p["total"]["usd"][figure]), sum(
                float(r["usd"][figure]) for r in p["rows"]), places=9)
        self.assertLessEqual(self.ratio(p["total"]["usd"]), 3)
        self.assertLess(Decimal(p["total"]["usd"]["high"]),
                        Decimal(p["total"]["usd_at_most"]))
        self.assertEqual("guess", p["total"]["basis"])
        self.assertFalse(p["duration"]["limits_known"])
        self.assertRegex(self.text(), r"(?m)^total .* 71 ")

    def test_the_shape_that_programs_rely_on(self):
        self.q.write("b.jsonl", lines(3))
        p = self.plan()
        self.assertEqual(
            {"queue", "known", "running", "jobs", "rows", "total", "duration", "lanes",
             "ceilings_usd", "invalid", "young", "consent", "in_doubt", "next"}, set(p))
        total = {"jobs", "basis", "answers", "measured", "unpriced", "tokens_in",
                 "tokens_out", "usd", "usd_cached", "usd_at_most"}
        self.assertEqual(total, set(p["total"]))
        self.assertEqual(total | {"tier", "model", "effort", "lane"}, set(p["rows"][0]))
        for usd in (p["total"]["usd"], p["total"]["usd_cached"]):
            self.assertEqual(["low", "likely", "high"], list(usd))
            self.assertEqual(sorted(usd.values(), key=Decimal), list(usd.values()))
        self.assertEqual({"low_s", "high_s", "limits_known"}, set(p["duration"]))
        self.assertIsNone(p["consent"])
        self.assertEqual({"run": None, "day": None, "month": None}, p["ceilings_usd"])

    def test_a_model_without_a_price_is_in_no_sum_and_said(self):
        self.q.write("a.json", body("hi", model="claude-of-tomorrow"))
        p = self.plan()
        self.assertEqual(1, p["total"]["unpriced"])
        self.assertEqual("0.000000", p["total"]["usd"]["high"])
        self.assertRegex("".join(p["next"]), "price of claude-of-tomorrow is not known")
        self.assertIn("price not known", self.text())

    def test_ceilings_stand_beside_the_cost(self):
        self.q.write("b.jsonl", lines(100))
        sets = ["budget.run=0.01", "budget.month=500"]
        p = self.plan(sets=sets)
        self.assertEqual({"run": "0.010000", "day": None, "month": "500.000000"},
                         p["ceilings_usd"])
        said = "".join(p["next"])
        self.assertRegex(said, r"may stop at budget\.run = \$0\.01 before")
        self.assertNotRegex(said, r"budget\.month")
        self.assertRegex(self.text(sets=sets),
                         r"cost: .*; ceiling of the run: \$0\.01.*month: \$500")

    def test_what_jobs_share_is_cheaper_with_the_cache(self):
        shared = "All of them begin with these words, which are many. " * 200
        self.q.write("b.jsonl", lines(60, system=shared, max_tokens=600))
        p = self.plan()
        with_cache, without = (p["total"][k] for k in ("usd_cached", "usd"))
        for figure in ("low", "likely", "high"):
            self.assertLess(Decimal(with_cache[figure]) * 4 / 3, Decimal(without[figure]))
        self.assertRegex(self.text(), r"without prompt caching: \$")
        self.assert_exit(DONE, self.q.run())
        self.assert_holds(with_cache, self.spent())

        self.q.write("c.jsonl", lines(60, first=60, system=shared))
        off = self.plan(sets=["jobs.cache=off"])["total"]
        self.assertEqual(off["usd"], off["usd_cached"])

    def test_files_that_changed_just_now_are_counted_and_read(self):
        self.q.write("b.jsonl", lines(3))
        p = self.plan(sets=["intake.settle=1h"])
        self.assertEqual(1, p["young"])
        self.assertEqual(3, p["jobs"]["to_send"])
        self.assertRegex("".join(p["next"]), "1 file changed just now: run waits")

    def test_an_empty_queue_has_nothing_to_send(self):
        self.assertRegex(self.text(), "0 jobs to send(.|\n)*there is nothing to send")

    def test_a_directory_that_is_none_is_wrong_usage(self):
        shutil.rmtree(self.q.path)
        self.assert_exit(CONSENT, self.q.tell("plan"))

    def test_a_signal_leaves_nothing_behind(self):
        self.q.write("b.jsonl", lines(60000))
        for number in (signal.SIGINT, signal.SIGTERM):
            planning = subprocess.Popen(self.q.command("plan"), env=self.q.env,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(planning.kill)
            wait_until(lambda: [d for d in os.listdir(self.tmp) if "queue.db" in
                                os.listdir(os.path.join(self.tmp, d))])
            planning.send_signal(number)
            out, err = planning.communicate(timeout=60)
            self.assertEqual((AGAIN, b""), (planning.returncode, out), err)
            self.assertEqual([], os.listdir(self.tmp))


class WasRun(Planned):
    def test_after_a_canary_the_range_is_measured_and_holds_the_bill(self):
        self.q.write("b.jsonl", lines(900, model=HAIKU, max_tokens=512))
        cold = self.plan()
        self.q.run("--first", "200")
        canary = self.spent()
        warm = self.plan()
        self.assertEqual("measured", warm["total"]["basis"])
        self.assertEqual(700, warm["jobs"]["to_send"])
        self.assertGreaterEqual(warm["total"]["answers"], 200)
        self.assertLessEqual(self.ratio(warm["total"]["usd"]), 1.5)
        self.q.run()
        self.assert_holds(warm["total"]["usd_cached"], self.spent() - canary)
        self.assert_holds(cold["total"]["usd_cached"], self.spent())

    def test_a_queue_that_is_done_has_nothing_to_send(self):
        self.q.write("b.jsonl", lines(30))
        self.assert_exit(DONE, self.q.run())
        p = self.plan()
        self.assertEqual(0, p["total"]["jobs"])
        self.assertEqual(30, p["jobs"]["done"])
        self.assertEqual(["there is nothing to send"], p["next"])

    def test_the_store_stays_as_it_was_and_so_do_the_results(self):
        self.q.write("b.jsonl", lines(30))
        self.assert_exit(DONE, self.q.run("--first", "10"))
        before = looked_at(self.q.path)
        self.plan()
        after = looked_at(self.q.path)
        self.assertEqual({k: v[4] for k, v in before.items()},
                         {k: v[4] for k, v in after.items()})
        self.assert_jobs(self.q, done=10, queued=20)

    def test_changed_jobs_are_told_with_the_consent_they_need(self):
        self.q.write("b.jsonl", lines(40))
        self.assert_exit(DONE, self.q.run())
        self.q.write("b.jsonl", lines(3, system="new") + lines(38, first=3))
        p = self.plan()
        self.assertIsNone(p["consent"])
        self.assertEqual((4, 1, 3), tuple(p["jobs"][k] for k in
                                          ("to_send", "new", "changed")))
        self.assertRegex("".join(p["next"]), "3 done jobs changed and will be sent again")

        self.q.write("b.jsonl", lines(20, system="new") + lines(20, first=20))
        p = self.plan()
        self.assertEqual("accept-changes", p["consent"])
        self.assertEqual(20, p["jobs"]["to_send"])
        self.assertRegex("".join(p["next"]), "20 of 40 done jobs .* --accept-changes")
        self.assertEqual("measured", p["total"]["basis"])  # by what they were before
        self.assert_exit(CONSENT, self.q.run())
        spent = self.spent()
        self.assert_exit(DONE, self.q.run("--accept-changes"))
        self.assert_holds(p["total"]["usd_cached"], self.spent() - spent)

    def test_an_empty_queue_that_had_jobs_is_told_with_the_consent_it_needs(self):
        self.q.write("b.jsonl", lines(4))
        self.assert_exit(DONE, self.q.run("--first", "1"))
        self.q.remove("b.jsonl")
        p = self.plan()
        self.assertEqual("accept-empty", p["consent"])
        self.assertEqual((0, 4), (p["jobs"]["to_send"], p["jobs"]["gone"]))

    def test_long_answers_are_learned_from_without_being_copied(self):
        self.s.set(output_median="3000", output_sigma="0.1")
        self.q.write("b.jsonl", lines(20, max_tokens=8000))
        self.q.run("--first", "10")
        self.assertGreater(os.path.getsize(self.q.at(".nightmill", "answers")), 40000)
        p = self.plan()
        self.assertEqual((10, 10), (p["jobs"]["to_send"], p["total"]["answers"]))
        self.assertEqual("", self.q.tell("plan").err)

    def test_failed_jobs_are_in_it_once_they_are_retried(self):
        self.s.fault("400", match="spoiled")
        self.q.write("a.json", body("spoiled"))
        self.assert_exit(FAILED, self.q.run())
        p = self.plan()
        self.assertEqual(0, p["jobs"]["to_send"])
        self.assertRegex("".join(p["next"]), "1 failed and 0 parked stay as they are")
        self.q.tell("retry")
        self.assertEqual(1, self.plan()["jobs"]["to_send"])

    def test_requests_that_no_runner_took_up_yet_are_reckoned_with(self):
        self.s.fault("400", match="spoiled")
        self.q.write("b.jsonl", lines(30) + line("x", prompt="spoiled"))
        self.q.run("--first", "1")
        self.assert_exit(FAILED, self.q.run("--first", "30"))
        self.q.append("b.jsonl", lines(20, first=30))
        c = sqlite3.connect(self.q.at(".nightmill", "queue.db"))
        with c:
            c.execute("INSERT INTO request (verb, job, at) VALUES ('retry', NULL, 1)")
        p = self.plan()
        self.assertEqual((21, 0), (p["jobs"]["to_send"], p["jobs"]["failed"]))
        with c:
            c.execute("INSERT INTO request (verb, job, at) VALUES ('cancel', '*#x', 1)")
        c.close()
        p = self.plan()
        self.assertEqual((20, 1), (p["jobs"]["to_send"], p["jobs"]["failed"]))

    def test_what_a_dead_run_left_out_is_in_doubt_and_sent_again(self):
        self.s.set(latency_ttft="1h")
        self.q.write("b.jsonl", lines(4))
        r = self.start(self.q)
        wait_until(lambda: self.s.requests() > 0, why="a request that is out")
        r.kill()
        p = self.plan()
        left = p["in_doubt"]["attempts"]
        self.assertGreater(left, 0)
        self.assertEqual(4, p["jobs"]["to_send"])
        self.assertRegex("".join(p["next"]), "when a run died: in doubt.*sent again")
        held = self.plan(sets=["jobs.in_doubt=hold"])
        self.assertEqual((4 - left, left), (held["jobs"]["to_send"],
                                            held["jobs"]["parked"]))
        self.assertEqual(0, self.q.status()["in_doubt"]["attempts"])  # not yet

    def test_beside_a_runner_at_work_it_tells_what_is_left(self):
        self.s.set(latency_ttft=f"{paced(30, 400)}ms")
        self.q.write("b.jsonl", lines(400))
        r = self.start(self.q, sets=["limits.in_flight=4"])
        wait_until(lambda: self.s.served() >= 20, why="some answers")
        p = self.plan()
        self.assertTrue(p["running"])
        jobs = p["jobs"]
        self.assertGreater(jobs["done"], 0)
        self.assertEqual(400, jobs["to_send"] + jobs["done"] + jobs["in_flight"])
        self.assertEqual(0, p["in_doubt"]["attempts"])
        self.assertRegex("".join(p["next"]), "a runner is at work: the [1-4] jobs? that")
        self.s.set(latency_ttft="0")
        self.assert_exit(DONE, r.wait())
        self.assert_each_once(self.s, 400)

    def test_limits_that_answers_told_make_the_time(self):
        self.s.ask("POST", "/sim/limits", {"rpm": 60, "itpm": 100000, "otpm": 200000})
        self.q.write("b.jsonl", lines(620))
        self.q.run("--first", "20", timeout=120)
        p = self.plan()
        lane = p["lanes"][0]
        self.assertEqual((60, 100000, 200000),
                         (lane["requests_per_minute"], lane["input_tokens_per_minute"],
                          lane["output_tokens_per_minute"]))
        self.assertTrue(p["duration"]["limits_known"])
        self.assertEqual("requests", lane["bound_by"])
        self.assertGreaterEqual(p["duration"]["high_s"], 600)
        self.assertGreaterEqual(p["duration"]["low_s"], 500)
        self.assertLessEqual(p["duration"]["high_s"], 900)
        self.assertRegex(self.text(), "sonnet-5.5: 60 requests a minute bind")

    def test_waiting_jobs_are_planned_by_the_configuration_of_now(self):
        self.q.write("a.md", "---\ntier: deep\n---\nThink.")
        self.s.credit(set=0)
        self.q.run()
        self.q.write("nightmill.ini", "[tier deep]\nmodel = claude-haiku-5-5\n")
        p = self.plan()
        self.assertEqual(HAIKU, p["rows"][0]["model"])
        self.assertRegex("".join(p["next"]), "the account was halted")


if __name__ == "__main__":
    unittest.main()
