"""What a job is: a second run does nothing, and what changed is sent, and no more."""
import os
import subprocess
import sys
import unittest

from story import (AGAIN, CONSENT, DONE, HAIKU, OPUS, SONNET, Story, body, line, lines, paced,
                   wait_until)


class Identity(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def run_sends(self, requests, *args, code=DONE, **more):
        before = self.s.requests()
        ended = self.q.run(*args, **more)
        self.assert_exit(code, ended)
        self.assertEqual(requests, self.s.requests() - before, ended.err)
        return ended

    def test_an_inserted_line_sends_one_request(self):
        self.q.write("b.jsonl", lines(30))
        self.run_sends(30)
        self.q.write("b.jsonl", lines(7) + line("new") + lines(23, first=7))
        self.run_sends(1)
        self.assertEqual(31, len(self.q.bulk("b")))

    def test_a_line_inserted_between_nameless_ones_sends_one_request(self):
        rows = [body(f"nameless {n}") + "\n" for n in range(30)]
        self.q.write("b.jsonl", "".join(rows))
        self.run_sends(30)
        rows.insert(3, body("between") + "\n")
        self.q.write("b.jsonl", "".join(rows))
        self.run_sends(1)

    def test_moving_lines_about_sends_nothing(self):
        rows = lines(30).splitlines(True)
        self.q.write("b.jsonl", "".join(rows))
        self.run_sends(30)
        self.q.write("b.jsonl", "".join(reversed(rows)))
        self.run_sends(0)

    def test_many_edited_jobs_want_consent_each_time_until_it_is_given(self):
        self.q.write("b.jsonl", lines(10))
        self.q.write("also.md", "a job beside them")
        self.run_sends(11)
        self.q.write("b.jsonl", lines(5) + "".join(
            line(f"j{n}", "edited") for n in range(5, 10)))
        for _ in range(2):
            said = self.run_sends(0, code=CONSENT).err
            self.assertIn("5 of 11 done jobs changed", said)
            self.assertIn("--accept-changes", said)
        self.assert_jobs(self.q, done=11)
        self.run_sends(5, "--accept-changes")
        self.assert_jobs(self.q, done=11)
        self.run_sends(0)

    def test_new_jobs_do_not_slip_past_the_question_of_consent(self):
        self.q.write("b.jsonl", lines(4))
        self.run_sends(4)
        self.q.write("b.jsonl", line("j0", "edited") + lines(3, first=1))
        self.q.write("new.md", "something new")
        self.run_sends(0, code=CONSENT)
        self.run_sends(2, "--accept-changes")

    def test_a_few_edited_jobs_are_sent_without_being_asked(self):
        self.q.write("b.jsonl", lines(20))
        self.run_sends(20)
        self.q.write("b.jsonl", line("j0", "edited") + lines(19, first=1))
        self.assertRegex(self.run_sends(1).err, "1 done jobs? changed")
        job, = self.q.db("SELECT revision FROM job WHERE name = 'b#j0'")
        self.assertEqual((2,), job)

    def test_an_edited_file_that_jobs_refer_to_changes_them(self):
        self.q.write("_voice.txt", "Be brief.")
        self.q.write("with.md", "---\nsystem_file: _voice.txt\n---\nWhat is a mill?")
        self.q.write("without.md", "What is a mill?")
        self.q.write("b.jsonl", lines(20))
        self.run_sends(22)
        self.q.write("_voice.txt", "Be long.")
        self.run_sends(1)
        os.utime(self.q.at("_voice.txt"))
        self.run_sends(0)

    def test_a_touched_file_is_no_changed_job(self):
        self.q.write("a.md", "one")
        self.q.write("b.jsonl", lines(3))
        self.run_sends(4)
        self.q.write("a.md", "one")
        self.q.write("b.jsonl", lines(3))
        self.run_sends(0)

    def test_a_source_that_is_removed_is_gone_and_may_come_back(self):
        self.q.write("a.md", "one")
        self.q.write("b.md", "two")
        self.q.write("c.jsonl", lines(3))
        self.run_sends(5)
        self.q.remove("a.md")
        self.q.remove("c.jsonl")
        self.assertIn("gone", self.run_sends(0).err)
        self.assert_jobs(self.q, done=1, gone=4)
        self.q.write("a.md", "one")
        self.q.write("c.jsonl", lines(3))
        self.run_sends(0)
        self.assert_jobs(self.q, done=5)

    def test_a_line_that_is_removed_is_gone_and_its_answer_kept(self):
        self.q.write("b.jsonl", lines(3))
        self.run_sends(3)
        self.q.write("b.jsonl", lines(2))
        self.run_sends(0)
        self.assert_jobs(self.q, done=2, gone=1)
        self.q.write("b.jsonl", lines(3))
        self.run_sends(0)
        self.assert_jobs(self.q, done=3)

    def run_without_credit(self):
        """Everything that was written waits."""
        self.s.credit(set=0)
        self.assert_exit(AGAIN, self.q.run())
        self.s.credit(infinite=True)

    def test_a_waiting_job_whose_source_is_gone_is_not_run(self):
        for n in "ab":
            self.q.write(f"{n}.md", f"job {n}")
        self.run_without_credit()
        self.q.remove("a.md")
        self.run_sends(1)
        self.assert_jobs(self.q, done=1, gone=1)

    def test_a_renamed_extension_is_the_same_job(self):
        self.q.write("a.md", "one")
        self.run_sends(1)
        os.rename(self.q.at("a.md"), self.q.at("a.txt"))
        self.run_sends(0)
        self.assert_jobs(self.q, done=1)
        self.run_sends(0)

    def test_another_model_for_a_tier_sends_nothing_again(self):
        self.q.write("nightmill.ini", f"[tier deep]\nmodel = {OPUS}\n")
        self.q.write("a.md", "---\ntier: deep\n---\nWhat?")
        self.run_sends(1)
        self.q.write("nightmill.ini", f"[tier deep]\nmodel = {SONNET}\neffort = high\n"
                     "[jobs]\nmax_tokens = 100\n")
        self.run_sends(0)

    def test_waiting_jobs_follow_a_tier_to_its_new_model(self):
        self.q.write("a.md", "---\ntier: deep\n---\nWhat?")
        self.q.write("b.md", "What else?")
        self.run_without_credit()
        self.q.write("nightmill.ini", f"[tier deep]\nmodel = {HAIKU}\n")
        self.run_sends(2)
        self.assertEqual((HAIKU, SONNET),
                         (self.q.json("a")["model"], self.q.json("b")["model"]))

    def test_waiting_jobs_follow_new_rules(self):
        self.q.write("legal/a.md", "What?")
        self.q.write("b.md", "What else?")
        self.run_without_credit()
        self.q.write("nightmill.ini", "[route law]\nmatch = legal/*\ntier = deep\n")
        self.run_sends(2)
        self.assertEqual((OPUS, SONNET),
                         (self.q.json("legal/a")["model"], self.q.json("b")["model"]))

    def test_a_known_queue_that_is_found_empty_wants_consent(self):
        self.q.write("a.md", "one")
        self.run_sends(1)
        self.q.remove("a.md")
        for _ in range(2):
            self.assertIn("--accept-empty", self.run_sends(0, code=CONSENT).err)
        self.assert_jobs(self.q, done=1)
        self.run_sends(0, "--accept-empty")
        self.assert_jobs(self.q, gone=1)

    def test_a_queue_that_was_always_empty_is_simply_done(self):
        self.run_sends(0)

    def test_a_bulk_file_that_is_replaced_while_it_is_read_is_read_again(self):
        big = "".join(line(f"j{n}", "x" * 2000) for n in range(3000))
        self.q.write("b.jsonl", big)
        new = self.q.at(".new")
        with open(new, "w") as f:
            f.write(line("j0", "x" * 2000) + line("late"))
        self.s.set(latency_ttft="20ms")
        r = self.start(self.q, sets=["intake.settle=100ms"])
        wait_until(lambda: self.s.requests() > 0, why="the first request")
        os.rename(new, self.q.at("b.jsonl"))
        ended = r.wait()
        self.assert_exit(DONE, ended)
        self.assertIn("changed while it was read", ended.err)
        jobs = self.q.status()["jobs"]
        # What had been taken in of the old file and was not yet sent is gone now.
        self.assertEqual(0, jobs["queued"])
        self.assertEqual(("accepted", "accepted"),
                         tuple(self.q.outcomes()[f"b#{n}"] for n in ("j0", "late")))
        gone, = self.q.db("SELECT count(*) FROM job WHERE gone")
        self.assertEqual(gone[0], jobs["gone"])
        self.assertGreater(gone[0], 0)
        requests = self.s.requests()
        self.assert_exit(DONE, self.q.run())
        self.assertEqual(requests, self.s.requests())

    def test_a_file_that_has_just_changed_is_waited_for_and_that_is_said(self):
        self.q.write("a.md", "one")
        old = self.q.write("b.md", "two")
        os.utime(old, (1, 1))
        ended = self.run_sends(2, sets=[f"intake.settle={paced(1, 8)}s"])
        self.assertRegex(ended.err, r"changed just now; waiting until")
        self.assertEqual(2, len({r["job"] for r in self.s.log()}))

    def test_a_bulk_file_that_is_still_written_is_taken_when_it_rests(self):
        pause = paced(.1, .5)
        writer = subprocess.Popen(
            [sys.executable, "-c",
             "import sys, time\n"
             "for n in range(12):\n"
             "    with open(sys.argv[1], 'a') as f:\n"
             "        text = sys.stdin.readline()\n"
             "        f.write(text[:40]); f.flush()\n"
             "        time.sleep(float(sys.argv[2])); f.write(text[40:])\n",
             self.q.at("b.jsonl"), str(pause)], stdin=subprocess.PIPE, text=True)
        self.addCleanup(writer.wait)
        writer.stdin.write(lines(12))
        writer.stdin.close()
        wait_until(lambda: os.path.exists(self.q.at("b.jsonl")), why="the file")
        self.run_sends(12, sets=[f"intake.settle={pause * 7000:.0f}ms"])
        self.assert_jobs(self.q, done=12)


class NotItsOwnFood(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.q.write("a.md", "one")
        self.q.write("b.jsonl", lines(3))

    def twice(self, **more):
        for _ in range(2):
            self.assert_exit(DONE, self.q.run(**more))
            self.assertEqual(4, self.s.requests())
        self.assert_each_once(self.s, 4)

    def test_what_is_not_meant_as_a_job_is_none(self):
        for name in ("README.md", "README", "README.txt", ".hidden.md", "_part.md",
                     "_parts/x.md", ".git/x.md", "a.md~", "#a.md#", "a.md.swp", "b.md.bak",
                     "c.md.tmp", "d.md.orig", "old/x.md", "skip-1.md", "notes.rst",
                     "photo.png", "nightmill.ini", "sub/README.md"):
            self.q.write(name, "" if name.endswith(".ini") else "not a job")
        self.twice(sets=["intake.ignore=old/* skip-*"])

    def test_results_in_the_queue_under_any_name_are_no_jobs(self):
        self.twice()
        os.rename(self.q.at("results"), self.q.at("answers of last night"))
        self.twice()
        self.assertEqual(3, len(self.q.bulk("b")))

    def test_a_results_directory_chosen_by_option_is_no_source_of_jobs(self):
        self.twice(sets=["results.dir=out/of/this"])
        self.assertTrue(os.path.exists(self.q.at("out/of/this/a.md")))
        self.twice()
        self.assertTrue(os.path.exists(self.q.at("results/b.jsonl")))

    def test_results_may_lie_outside_of_the_queue(self):
        out = os.path.join(self.q.base, "elsewhere")
        self.twice(sets=[f"results.dir={out}"])
        self.assertTrue(os.path.exists(os.path.join(out, "a.json")))
        self.assertFalse(os.path.exists(self.q.at("results")))

    def test_a_state_directory_chosen_by_option_is_no_source_of_jobs(self):
        self.twice(sets=["store.dir=state of things"])
        self.assertFalse(os.path.exists(self.q.at(".nightmill")))

    def test_results_that_would_swallow_the_queue_are_refused(self):
        ended = self.q.run(sets=["results.dir=."])
        self.assert_exit(2, ended)
        self.assertIn("results.dir", ended.err)
        self.assertEqual(0, self.s.requests())

    def test_a_lost_results_file_is_made_again_from_the_store(self):
        self.twice()
        text = self.q.read("results/b.jsonl")
        self.q.remove("results/b.jsonl")
        self.assert_exit(DONE, self.q.run())
        self.assertEqual(4, self.s.requests())
        self.assertEqual(sorted(text.splitlines()),
                         sorted(self.q.read("results/b.jsonl").splitlines()))

    def test_a_results_file_that_somebody_wrote_to_is_made_again(self):
        self.twice()
        text = self.q.read("results/b.jsonl")
        self.q.append("results/b.jsonl", "half a li")
        self.q.append("b.jsonl", line("j3"))
        self.assert_exit(DONE, self.q.run())
        rows = self.q.read("results/b.jsonl").splitlines()
        self.assertEqual(4, len(self.q.bulk("b")))
        self.assertLessEqual(set(text.splitlines()), set(rows))


if __name__ == "__main__":
    unittest.main()
