"""A queue that is watched: jobs come, change and go while the runner is at work."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

from story import (AGAIN, DONE, FAILED, OPUS, SLOWER, SONNET, Running, Story, body,
                   line, lines, paced, wait_until)


class Watching(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)

    def has(self, *names):
        """Waits until these jobs have results."""
        for name in names:
            wait_until(lambda: os.path.exists(self.q.at("results", name + ".json")),
                       why=f"the result of {name}")

    def ready(self, *args, **more):
        """A watch whose first scan is over: it has taken in `first.md`."""
        self.q.write("first.md", "The first one.")
        r = self.watch(self.q, *args, **more)
        self.has("first")
        return r

    def ended(self, r, code=DONE):
        r.terminate()
        ended = r.wait()
        self.assert_exit(code, ended)
        return ended

    def states(self):
        return dict(self.q.db("SELECT name, state FROM job"))


class Files(Watching):
    def test_new_files_are_taken_as_they_come_also_in_new_directories(self):
        r = self.ready()
        self.q.write("b.md", "The second one.")
        self.q.write("deep/er/c.md", "The third one.")
        self.has("b", "deep/er/c")
        self.q.write("deep/er/d.md", "In a directory that is known by now.")
        os.rename(self.q.write("_tmp", "Renamed into place."), self.q.at("e.md"))
        self.has("deep/er/d", "e")
        self.q.write("bulk.jsonl", lines(40))
        wait_until(lambda: self.q.status()["jobs"]["done"] == 45)
        self.ended(r)
        self.assert_each_once(self.s, 45)

    def test_a_queue_may_be_empty_at_first(self):
        r = self.watch(self.q)
        wait_until(lambda: "taken as they come" in r.so_far())
        self.q.write("a.md", "At last.")
        self.has("a")
        self.ended(r)

    def test_a_file_that_somebody_still_writes_is_not_read(self):
        told = self.recorder()
        self.q = self.queue(url=told.url)
        r = self.ready(sets=["intake.settle=400ms"])
        with open(self.q.at("slow.md"), "w") as slow:
            slow.write("It begins, ")
            slow.flush()
            # Two more come and are done: scans have passed that saw the half file, and it
            # has been still for longer than is asked of others.
            self.q.write("b.md", "b")
            self.has("b")
            self.q.write("c.md", "c")
            self.has("c")
            self.assertNotIn("slow", self.states())
            slow.write("and it ends.")
        self.has("slow")
        self.ended(r)
        sent = [x.body["messages"][0]["content"] for x in told.requests]
        self.assertEqual(["It begins, and it ends."], [x for x in sent if "begins" in x])

    def test_a_last_line_that_somebody_still_writes_is_not_read(self):
        r = self.ready(sets=["intake.settle=400ms"])
        whole = line("j1")
        with open(self.q.at("bulk.jsonl"), "w") as slow:
            slow.write(line("j0") + whole[:20])
            slow.flush()
            wait_until(lambda: "bulk#j0" in self.states())
            self.q.write("b.md", "b")
            self.has("b")
            self.assertEqual({"first", "b", "bulk#j0"}, set(self.states()))
            slow.write(whole[20:])
        wait_until(lambda: self.q.status()["jobs"]["done"] == 4)
        self.ended(r)
        self.assertEqual({"j0", "j1"}, set(self.q.bulk("bulk")))

    def test_what_changes_is_sent_again_and_what_is_gone_is_told(self):
        r = self.ready()
        self.q.write("a.json", body("before"))
        self.q.write("b.md", "to be removed")
        self.has("a", "b")
        self.q.write("a.json", body("after"))
        wait_until(lambda: self.s.requests() == 4)
        self.q.remove("b.md")
        wait_until(lambda: self.q.status()["jobs"]["gone"] == 1)
        self.q.write("b.md", "to be removed")  # as it was: nothing is to be done
        wait_until(lambda: self.q.status()["jobs"]["gone"] == 0)
        wait_until(lambda: self.q.status()["jobs"]["done"] == 3)
        self.ended(r)
        self.assertEqual(4, self.s.requests())

    def test_a_file_that_is_mended_is_tried_again(self):
        r = self.ready()
        self.q.write("a.json", "{ not yet")
        self.has("a")
        self.assertEqual("invalid", self.q.json("a")["outcome"])
        self.q.write("a.json", body("now it is"))
        wait_until(lambda: self.q.status()["jobs"]["done"] == 2)
        self.ended(r)

    def test_a_parked_bulk_file_that_changes_is_taken_up_again(self):
        self.s.fault("400", match="spoiled")
        r = self.ready()
        self.q.write("b.jsonl", lines(60, system="spoiled"))
        wait_until(lambda: "is parked after 20 like failures" in r.so_far())
        wait_until(lambda: self.q.status()["jobs"]["parked"] > 0 and
                   self.q.status()["jobs"]["queued"] == 0)
        self.q.write("b.jsonl", lines(60, system="fine"))
        wait_until(lambda: self.q.status()["jobs"]["done"] == 61)
        self.ended(r)

    def test_many_changes_at_once_wait_for_a_person(self):
        self.q.write("bulk.jsonl", lines(40))
        r = self.ready()
        wait_until(lambda: self.q.status()["jobs"]["done"] == 41)
        self.q.write("bulk.jsonl", lines(40, system="another"))
        wait_until(lambda: "resume --accept-changes" in r.so_far())
        self.q.write("b.md", "New ones go on.")
        self.has("b")
        self.assertEqual(42, self.s.requests())
        r.signal(signal.SIGHUP)  # which is no consent
        wait_until(lambda: "settings are read again" in r.so_far())
        self.q.write("c.md", "And still do.")
        self.has("c")
        self.assertEqual(43, self.s.requests())
        self.assert_exit(DONE, self.q.tell("resume", "--accept-changes"))
        wait_until(lambda: self.s.requests() == 83)
        wait_until(lambda: self.q.status()["jobs"]["done"] == 43)
        self.ended(r)

    def test_a_directory_that_was_replaced_is_not_taken_for_empty(self):
        r = self.ready()
        os.rename(self.q.path, self.q.path + ".away")
        os.mkdir(self.q.path)
        ended = r.wait()
        os.rmdir(self.q.path)
        os.rename(self.q.path + ".away", self.q.path)
        self.assert_exit(AGAIN, ended)
        self.assertIn("was it unmounted or replaced?", ended.err)
        self.assert_jobs(self.q, done=1)

    def test_directories_that_come_and_go_leave_nothing_open(self):
        r = self.ready()
        fds = f"/proc/{r.pid}/fd"
        self.q.write("d0/a.md", "a")
        self.has("d0/a")
        before = len(os.listdir(fds))
        for n in range(1, 12):
            self.q.write(f"d{n}/a.md", f"number {n}")
            self.has(f"d{n}/a")
            shutil.rmtree(self.q.at(f"d{n - 1}"))
        wait_until(lambda: self.q.status()["jobs"]["gone"] == 11)
        wait_until(lambda: len(os.listdir(fds)) <= before)
        self.q.write("d0/b.md", "A directory that is there once more.")
        self.has("d0/b")
        self.ended(r)


    def test_where_the_kernel_watches_no_more_it_looks_by_itself(self):
        few = ["unshare", "--user", "--map-root-user", "sh", "-c",
               'echo 2 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh"]
        if subprocess.run([*few, "true"], capture_output=True, check=False).returncode:
            self.skipTest("no user namespaces here")
        for n in range(4):
            self.q.write(f"d{n}/a.md", f"number {n}")
        r = Running(few + self.q.command("watch"), self.q.env, self.q.base)
        self.addCleanup(lambda: r.process.poll() is None and r.process.kill())
        self.has(*(f"d{n}/a" for n in range(4)))
        wait_until(lambda: re.search(r"d\d cannot be watched .* looked through every 5 s instead\. "
                                     r"Raise fs\.inotify\.max_user_watches", r.so_far()))
        for n in range(4):
            self.q.write(f"d{n}/b.md", f"one more {n}")
        self.has(*(f"d{n}/b" for n in range(4)))
        self.ended(r)

    def test_while_nothing_is_to_do_no_connection_is_kept(self):
        r = self.ready()
        fds = f"/proc/{r.pid}/fd"

        def connections():
            count = 0
            for n in os.listdir(fds):
                try:
                    count += os.readlink(os.path.join(fds, n)).startswith("socket:")
                except FileNotFoundError:
                    pass  # closed since it was listed
            return count
        wait_until(lambda: connections() <= 2)  # the loop's own
        quiet = connections()
        self.q.write("bulk.jsonl", lines(200))
        wait_until(lambda: connections() > quiet + 3)
        wait_until(lambda: self.q.status()["jobs"]["done"] == 201)
        wait_until(lambda: connections() == quiet)
        self.q.write("b.md", "And again.")
        self.has("b")
        self.ended(r)


class People(Watching):
    def test_pause_keeps_everything_and_resume_goes_on(self):
        r = self.ready()
        self.assert_exit(DONE, self.q.tell("pause"))
        wait_until(lambda: self.q.status()["paused"])
        self.q.write("b.md", "Not now.")
        wait_until(lambda: self.q.status()["jobs"]["queued"] == 1)
        self.assertIn("paused on request; to go on: nightmill resume",
                      self.q.tell("status").out)
        self.ended(r, AGAIN)
        self.assertEqual(1, self.s.requests())

        # It stays paused for whoever comes next, until somebody says otherwise.
        ended = self.q.run()
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, "nothing was sent: .* is paused; `nightmill resume")
        again = self.watch(self.q)
        wait_until(lambda: self.q.status()["running"])
        self.assertEqual(1, self.s.requests())
        self.assert_exit(DONE, self.q.tell("resume"))
        self.has("b")
        self.ended(again)

    def test_pause_and_resume_work_where_nobody_runs(self):
        self.q.write("a.md", "a")
        self.assert_exit(DONE, self.q.run())
        self.q.write("b.md", "b")
        self.assertIn("is paused: nothing of it is sent", self.q.tell("pause").err)
        self.assert_exit(AGAIN, self.q.run())
        self.assertIn("is not paused any more", self.q.tell("resume").err)
        self.assert_exit(DONE, self.q.run())
        self.assertEqual(2, self.s.requests())

    def test_a_run_at_work_can_be_paused_as_well(self):
        self.s.set(latency_ttft="0.2s")
        self.q.write("bulk.jsonl", lines(400))
        r = self.start(self.q, sets=["limits.in_flight=4"])
        wait_until(lambda: self.s.served() > 4)
        self.q.tell("pause")
        wait_until(lambda: "paused on request" in r.so_far())
        wait_until(lambda: self.q.status()["jobs"]["in_flight"] == 0)
        sent = self.s.requests()
        self.s.set(latency_ttft="0s")
        self.q.tell("resume")
        self.assert_exit(DONE, r.wait())
        self.assertLess(sent, 400)
        self.assert_each_once(self.s, 400)

    def test_what_a_runner_did_not_live_to_take_up_the_next_one_does(self):
        r = self.ready()
        self.q.tell("pause")
        wait_until(lambda: "paused on request" in r.so_far())
        r.signal(signal.SIGSTOP)
        self.q.tell("resume")
        r.kill()
        self.q.write("b.md", "b")
        self.assert_exit(DONE, self.q.run())
        self.assertTrue(self.q.text("b"))

    def test_retry_and_cancel_are_taken_up(self):
        self.s.fault("400", match="spoiled", name="spoiled")
        r = self.ready()
        self.q.write("bad.json", body("spoiled"))
        self.has("bad")
        self.s.clear_faults()
        self.assert_exit(DONE, self.q.tell("retry", "bad"))
        wait_until(lambda: self.q.json("bad")["state"] == "done")
        self.q.tell("pause")
        wait_until(lambda: self.q.status()["paused"])
        self.q.write("never.md", "Never.")
        wait_until(lambda: "never" in self.states())
        self.assert_exit(DONE, self.q.tell("cancel", "never"))
        self.has("never")
        self.assertEqual("canceled", self.q.json("never")["outcome"])
        self.ended(r, FAILED)

    def test_what_cannot_be_read_is_told_once(self):
        r = self.ready()
        deep = self.q.at(*["d"] * 70)
        os.makedirs(deep)
        wait_until(lambda: "directories lie too deep" in r.so_far())
        for n in range(4):
            self.q.write(f"n{n}.md", f"number {n}")
            self.has(f"n{n}")
        self.assertEqual(1, r.so_far().count("cannot be read"), r.so_far())
        self.ended(r, FAILED)  # as a run says it

    def test_a_second_runner_is_refused(self):
        r = self.ready()
        ended = self.q.tell("watch")
        self.assert_exit(AGAIN, ended)
        self.assert_exit(AGAIN, self.q.run())
        self.ended(r)

    def test_no_words_while_nothing_happens(self):
        r = self.ready("--quiet")
        self.q.write("b.md", "b")
        self.has("b")
        self.assertEqual("", self.ended(r).err)


class Settings(Watching):
    def ini(self, text):
        self.q.write("nightmill.ini", text)
        os.chmod(self.q.at("nightmill.ini"), 0o600)

    def test_sighup_brings_new_settings_and_keeps_what_is_out(self):
        self.ini("[tier standard]\nmodel = " + SONNET + "\n")
        r = self.ready()
        self.s.set(latency_ttft=f"{paced(0.5, 5)}s")
        self.q.write("out.md", "I am out while it happens.")
        wait_until(lambda: self.s.stats()["in_flight"] == 1)
        self.ini("[tier standard]\nmodel = " + OPUS + "\n")
        r.signal(signal.SIGHUP)
        self.has("out")
        self.s.set(latency_ttft="0s")
        self.q.write("b.md", "With another model.")
        self.has("b")
        self.assertEqual((SONNET, OPUS), (self.q.json("out")["model"],
                                          self.q.json("b")["model"]))
        ended = self.ended(r)
        self.assertIn("settings are read again: 1 request still out", ended.err)
        self.assert_each_once(self.s, 3)

    def test_settings_that_are_wrong_leave_the_old_ones_in_force(self):
        r = self.ready()
        for wrong, says in (("[limits]\nin_flight = many\n", "in_flight"),
                            ("[limits]\nno_such = 1\n", "no_such"),
                            ("[jobs]\ncheck = regex:(\n", "regex")):
            self.ini(wrong)
            said = len(r.so_far())
            r.signal(signal.SIGHUP)
            wait_until(lambda: "the settings stay as they were" in r.so_far()[said:],
                       why=wrong)
            self.assertIn(says, r.so_far()[said:])
        self.ini("")
        self.q.write("b.md", "It goes on.")
        self.has("b")
        self.ended(r)

    def test_a_signal_that_ends_it_counts_more_than_new_settings(self):
        r = self.ready()
        self.s.set(latency_ttft=f"{paced(1, 8)}s")
        self.q.write("out.md", "I am out while it happens.")
        wait_until(lambda: self.s.stats()["in_flight"] == 1)
        r.signal(signal.SIGHUP)
        wait_until(lambda: "settings are read again" in r.so_far())
        self.ended(r)
        self.assert_jobs(self.q, done=2)


class Waiting(Watching):
    def test_a_model_that_is_refused_is_told_at_once_and_status_knows(self):
        self.q.write("nightmill.ini", "[tier standard]\nmodel = claude-zebra\n")
        os.chmod(self.q.at("nightmill.ini"), 0o600)
        self.q.write("a.md", "Who is there?")
        r = self.watch(self.q, "--quiet")
        wait_until(lambda: re.search(r"^nightmill: claude-zebra is closed \(model denied: .*\): its "
                                     r"jobs take their tier's fallback, or wait\. Name a model "
                                     r"that the key may use, then reload", r.so_far(), re.M))
        wait_until(lambda: "claude-zebra: closed (model denied" in self.q.tell("status").out)
        lane, = self.q.status()["lanes"]
        self.assertEqual(("claude-zebra", "closed"), (lane["name"], lane["state"]))
        self.q.remove("nightmill.ini")
        r.signal(signal.SIGHUP)
        self.has("a")
        self.ended(r)

    def test_out_of_credit_it_waits_and_goes_on_by_itself(self):
        r = self.ready(sets=["limits.credit_probe=1s"])
        self.s.credit(set=0)
        self.q.write("b.md", "Who pays?")
        wait_until(lambda: "waiting, and trying one request" in r.so_far())
        self.s.credit(add=10)
        self.has("b")
        self.ended(r)

    def test_a_ceiling_makes_it_wait_until_it_is_raised(self):
        self.q.write("nightmill.ini", "[budget]\nday = 0.0425\n[jobs]\nmax_tokens = 4000\n")
        os.chmod(self.q.at("nightmill.ini"), 0o600)
        r = self.ready()
        for n in range(5):
            self.q.write(f"n{n}.json", body(f"number {n}"))
        wait_until(lambda: "the ceiling budget.day" in r.so_far())
        self.assertIsNone(r.process.poll())
        self.assertLess(self.s.requests(), 6)
        self.q.write("nightmill.ini", "[budget]\nday = 100\n")
        r.signal(signal.SIGHUP)
        self.has(*(f"n{n}" for n in range(5)))
        self.ended(r)

    def test_outside_of_its_hours_it_takes_in_and_sends_nothing(self):
        hour = time.localtime(time.time() + 6 * 3600).tm_hour
        self.q.write("nightmill.ini", f"[window]\nopen = {hour:02}:00-{hour:02}:30\n")
        os.chmod(self.q.at("nightmill.ini"), 0o600)
        self.q.write("a.md", "Later.")
        r = self.watch(self.q)
        wait_until(lambda: re.search(rf"outside of window\.open: jobs are taken in, and sent "
                                     rf"from \w+ {hour:02}:00 on\n", r.so_far()))
        wait_until(lambda: self.q.status()["jobs"]["queued"] == 1)
        self.assertEqual(0, self.s.requests())
        self.q.write("nightmill.ini", "[window]\nopen = 00:00-24:00\n")
        r.signal(signal.SIGHUP)
        self.has("a")
        self.ended(r)

    def test_an_outage_does_not_end_it(self):
        r = self.ready(sets=["limits.outage=1s"])
        port = self.s.port
        self.s.stop()
        self.q.write("b.md", "Anybody there?")
        wait_until(lambda: "endpoint unreachable" in r.so_far())
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1.5)
        self.assertIsNone(r.process.poll())
        self.s = self.sim(port=port)
        self.has("b")
        self.ended(r)


class Service(Watching):
    def test_the_service_manager_hears_ready_status_and_the_watchdog(self):
        path = os.path.join(self.q.base, "notify")
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(told.close)
        told.bind(path)
        told.settimeout(20 * SLOWER)
        r = self.ready(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"})
        heard = []

        def hears(word):
            while not any(word in x for x in heard):
                heard.append(told.recv(4096).decode())
        hears("READY=1")
        hears("WATCHDOG=1")
        self.q.write("b.md", "b")
        hears("STATUS=2 done")
        self.assert_exit(DONE, self.q.tell("pause"))
        hears("0 waiting; paused")
        self.assert_exit(DONE, self.q.tell("resume"))
        # A reload is no end: a manager that heard STOPPING would kill it in a while.
        heard.clear()
        r.signal(signal.SIGHUP)
        hears("RELOADING=1\nMONOTONIC_USEC=")
        hears("READY=1")
        self.assertNotIn("STOPPING=1", heard)
        r.terminate()
        hears("STOPPING=1")
        self.assert_exit(DONE, r.wait())

    def test_killed_it_begins_where_it_was(self):
        self.s.set(latency_ttft="0.1s")
        self.q.write("bulk.jsonl", lines(200))
        r = self.watch(self.q, sets=["limits.in_flight=8"])
        wait_until(lambda: self.s.served() > 20)
        r.kill()
        self.s.set(latency_ttft="0s")
        again = self.watch(self.q)
        wait_until(lambda: self.q.status()["jobs"]["done"] == 200)
        self.ended(again)
        self.assertEqual(200, len(self.q.bulk("bulk")))

    def test_the_store_forgets_what_it_need_not_keep(self):
        r = self.ready(sets=["store.keep=1s"])
        self.q.write("gone.jsonl", lines(30))
        self.q.write("doc.md", "I stay.")
        wait_until(lambda: self.q.status()["jobs"]["done"] == 32)
        spent = self.q.status()["spent_usd"]
        costs = self.q.tell("costs").out
        self.q.remove("gone.jsonl")
        wait_until(lambda: self.q.status()["jobs"]["gone"] == 30)
        self.ended(r)
        wait_until(lambda: time.time() * 1000 - self.q.db(
            "SELECT MAX(finished) FROM job")[0][0] > 1000)

        # At its end a run tidies up as well.
        self.q.write("last.md", "I came last.")
        self.assert_exit(DONE, self.q.run(sets=["store.keep=1s"]))
        self.assertEqual([("doc",), ("first",), ("last",)],
                         self.q.db("SELECT name FROM job ORDER BY name"))
        self.assertEqual([(1,)], self.q.db(
            "SELECT COUNT(*) FROM ending WHERE message IS NOT NULL"))
        self.assertEqual(30, len(self.q.bulk("gone")))
        self.assertTrue(self.q.text("doc"))

        # What was spent is known as before, and what is there is not sent again.
        self.assertGreater(float(self.q.status()["spent_usd"]), float(spent))
        self.assertEqual(costs.splitlines()[0], self.q.tell("costs").out.splitlines()[0])
        rows = {n: a for n, a in self.q.db("SELECT model, attempts FROM pruned")}
        self.assertEqual(30, sum(rows.values()))
        self.assert_exit(DONE, self.q.run(sets=["store.keep=1s"]))
        self.assertEqual(33, self.s.requests())


del Watching
if __name__ == "__main__":
    unittest.main()
