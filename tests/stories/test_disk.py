"""A full disk: the run stops, says so, and no answer that was paid for is lost."""
import errno
import json
import os
import shutil
import subprocess
import tempfile
import unittest

from story import DONE, STORE, Story, lines, wait_until


class FullDisk(Story):
    def small_disk(self, size):
        """A file system of its own, as small as that."""
        where = tempfile.mkdtemp(prefix="nightmill-story-disk-")
        self.addCleanup(shutil.rmtree, where, True)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "story",
                               where], capture_output=True, check=False)
        if made.returncode != 0:
            self.skipTest("no right to mount")
        self.addCleanup(subprocess.run, ["umount", where], check=True)
        return where

    def grow(self, where, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", where], check=True)

    def fill(self, where, leave):
        fs = os.statvfs(where)
        with open(os.path.join(where, "filler"), "wb", buffering=0) as f:
            try:
                f.write(b"x" * (fs.f_bavail * fs.f_frsize - leave))
            except OSError as e:  # the runner took some of it meanwhile
                if e.errno != errno.ENOSPC:
                    raise

    def assert_nothing_half_written(self, q):
        for folder, _, names in os.walk(q.at("results")):
            for name in names:
                self.assertFalse(name.endswith(".tmp"), name)
                path = os.path.join(folder, name)
                if name.endswith(".json"):
                    with open(path) as f:
                        json.load(f)
                if name.endswith(".jsonl"):
                    with open(path) as f:
                        for row in f:
                            self.assertTrue(row.endswith("\n"))
                            json.loads(row)

    def queue_on(self, where, s):
        q = self.queue(s)
        shutil.rmtree(q.path)
        q.path = os.path.join(where, "queue")
        os.makedirs(q.path)
        return q

    def test_before_the_disk_is_full_nothing_more_is_sent(self):
        s = self.sim("output.bytes=20000", "output.sigma=0", "latency.ttft=5ms")
        where = self.small_disk("24m")
        q = self.queue_on(where, s)
        q.write("b.jsonl", lines(1500, max_tokens=8000))
        ended = q.run(sets=["store.patience=2s"])
        self.assert_exit(STORE, ended)
        self.assertRegex(ended.err, r"MiB left, \d+ are wanted to go on\. Nothing is lost; make room")
        jobs = q.status()["jobs"]
        self.assertEqual(s.served(), jobs["done"])
        self.assertGreater(jobs["done"], 50)
        self.assertEqual(0, q.status()["in_doubt"]["attempts"])
        self.assert_nothing_half_written(q)
        self.grow(where, "200m")
        self.assert_exit(DONE, q.run())
        self.assert_each_once(s, 1500)
        self.assertEqual(1500, len(q.bulk("b")))

    def test_a_disk_that_fills_at_once_costs_no_answer_that_can_still_be_stored(self):
        s = self.sim("latency.ttft=500ms")
        where = self.small_disk("64m")
        q = self.queue_on(where, s)
        q.write("b.jsonl", lines(60))
        r = self.start(q, sets=["store.reserve=1MiB"])
        wait_until(lambda: s.stats()["in_flight"] >= 4, why="requests in flight")
        self.fill(where, 0)
        wait_until(lambda: "kept in memory" in r.so_far() or "wanted" in r.so_far() or
                   "given back" in r.so_far() or r.process.poll() is not None,
                   why="the full disk to be noticed")
        self.assertLess(s.requests(), 60)
        os.remove(os.path.join(where, "filler"))
        ended = r.wait()
        if ended.code != DONE:
            self.assert_exit(STORE, ended)
            self.assert_exit(DONE, q.run())
        self.assert_each_once(s, 60)
        self.assertEqual(60, len(q.bulk("b")))
        self.assertEqual(0, q.status()["in_doubt"]["attempts"])
        self.assert_nothing_half_written(q)

    def test_a_disk_that_stays_full_stops_the_run_and_names_what_is_in_doubt(self):
        s = self.sim("latency.ttft=500ms")
        where = self.small_disk("64m")
        q = self.queue_on(where, s)
        q.write("b.jsonl", lines(60))
        r = self.start(q, sets=["store.patience=1s"])
        wait_until(lambda: s.stats()["in_flight"] >= 4, why="requests in flight")
        self.fill(where, 0)
        ended = r.wait()
        self.assert_exit(STORE, ended)
        self.assertRegex(ended.err, r"[Mm]ake room")
        served = s.served()
        os.remove(os.path.join(where, "filler"))
        s.set(latency_ttft="5ms")
        self.assert_exit(DONE, q.run())
        self.assertEqual(60, len(q.bulk("b")))
        doubt = q.status()["in_doubt"]["attempts"]
        self.assertLessEqual(s.served(), 60 + doubt)
        self.assertLessEqual(doubt, served)
        self.assert_nothing_half_written(q)


if __name__ == "__main__":
    unittest.main()
