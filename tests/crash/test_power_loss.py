"""The crash points once more, on a disk that forgets what was not synced; and at every
request that leaves, a look at what the disk would still know of it."""
import functools
import os
import re
import sqlite3
import unittest

import crash

WHOLE = bool(os.environ.get("CRASH_WHOLE"))  # every stop under every way to forget


@functools.lru_cache(1)
def expected():
    return crash.uninterrupted()


def at(e, n, drop):
    return (f"power lost at {n} ({crash.where(e, n)}), {drop} dropped",
            functools.partial(crash.stop_and_go_on, e, n, power_loss=drop))


@unittest.skipUnless(crash.SHIM, "needs the preload shim: a build without sanitizers")
class PowerLoss(unittest.TestCase):
    maxDiff = None

    def test_the_shim_forgets_what_was_not_synced(self):
        """Else the tests below would prove nothing: at some effects there is something
        unsynced, and it is dropped."""
        e = expected()
        n = next(n for n, when, what, _ in e.trace
                 if (when, what) == ("after", "append results"))
        with crash.Place() as p:
            self.assertEqual(crash.DIED, p.run(n, "all").code)
            with open(os.path.join(p.base, "dropped")) as f:
                dropped = f.read()
        self.assertIn("results/bulk.jsonl", dropped)

    def test_power_lost_at_any_effect_loses_nothing_that_was_told(self):
        e = expected()
        todo = [at(e, n, "all") for n in range(1, len(e.trace) + 3)]
        crash.try_all(dict(todo))

    def test_names_lengths_and_bytes_may_reach_the_disk_in_any_order(self):
        e, step = expected(), 1 if WHOLE else 3
        crash.try_all(dict(at(e, n, drop) for i, drop in enumerate(
            ("data", "names", "zeros"), 1) for n in range(i, len(e.trace) + 1, step)))

    def test_power_lost_while_a_known_results_file_grows_costs_no_line(self):
        e, trace = expected(), crash.second_run()
        first = next(n for n, _, what, _ in trace if what == "append results")
        crash.try_all({
            f"behind a canary, power lost at {n} ({crash.where(trace, n)}), {drop} dropped":
            functools.partial(crash.stop_and_go_on, e, n, canary=True, power_loss=drop)
            for i, drop in enumerate(("all", "zeros"))
            for n in range(first + i, len(trace) + 1, 1 if WHOLE else 2)})


def many(q):
    """Three lanes, and more jobs than one commit admits."""
    models = ["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"]
    q.write("bulk.jsonl", "".join(
        crash.line(f"c{n:03}", f"[bulk#c{n:03}]", model=models[n % 3], max_tokens=4000)
        for n in range(210)))
    for n in range(12):
        q.write(f"single-{n}.md", f"[single-{n}]\n")


class Trace(unittest.TestCase):
    def test_no_request_starts_while_a_commit_is_open(self):
        """Starts belong to the commit that ended just before them: what it wrote has
        been synced, and nothing newer is half written."""
        with crash.Place("latency.ttft=5ms", fill=many) as p:
            self.assertEqual(0, p.run().code)
            trace = p.trace()
            rows = {row[0] for row in p.q.db("SELECT id FROM attempt")}
        commits = starts = sends = 0
        is_open = False
        for n, when, what, detail in trace:
            if what == "commit":
                is_open = when == "before"
                commits += when == "after"
            elif (when, what) == ("before", "start"):
                starts += 1
                self.assertFalse(is_open, f"effect {n} starts attempt {detail} while a "
                                          f"commit is open")
                self.assertIn(detail, rows)
            elif what == "send":
                sends += 1
                self.assertLessEqual(sends, starts)
        self.assertGreaterEqual(starts, 222)
        self.assertGreater(commits, 10)

    @unittest.skipUnless(crash.SHIM, "needs the preload shim")
    def test_each_attempt_is_on_disk_before_the_first_byte_of_its_request(self):
        """At each POST the shim photographs the store as a power cut would leave it;
        the attempt of the very job that is being sent must stand there, and be out."""
        with crash.Place("latency.ttft=5ms", fill=many) as p:
            photos = p.dir("photos")
            self.assertEqual(0, p.run(power_loss="all", env={
                "NIGHTMILL_UNSYNCED_PHOTO": photos}).code)
            self.assertEqual(p.sim.requests(), len(os.listdir(photos)))
            seen = set()
            for n in os.listdir(photos):
                with open(os.path.join(photos, n, "sent")) as f:
                    job = re.search(r"\[([a-z0-9#-]+)\]", f.read()).group(1)
                db = os.path.join(photos, n, "queue.db")
                self.assertTrue(os.path.exists(db), f"no store on disk as {job} is sent")
                c = sqlite3.connect(db)
                try:
                    rows = c.execute("SELECT a.state, j.state FROM attempt a JOIN job j"
                                     " ON j.id = a.job WHERE j.name = ?",
                                     (job,)).fetchall()
                finally:
                    c.close()
                self.assertEqual([(crash.OUT, 1)], rows, f"{job}, request {n}")
                seen.add(job)
            self.assertEqual(222, len(seen))


if __name__ == "__main__":
    unittest.main()
