"""Stopped dead at every store, file and network effect in turn, and started again, a
queue ends as if nothing had happened; the simulator's own books are the judge."""
import functools
import os
import random
import unittest

import crash

PAIRS = int(os.environ.get("CRASH_PAIRS", "0"))  # 0: some


@functools.lru_cache(1)
def expected():
    return crash.uninterrupted()


class CrashPoints(unittest.TestCase):
    maxDiff = None

    def test_the_uninterrupted_run_has_every_kind_of_effect(self):
        kinds = {what for _, _, what, _ in expected().trace}
        wanted = {"commit", "start", "send", "answered", "write result", "rename result",
                  "append results", "fsync results", "fsync dir", "account", "write answers",
                  "sync answers"}
        self.assertEqual(set(), wanted - kinds)
        self.assertEqual(sorted(n for n, *_ in expected().trace),
                         list(range(1, len(expected().trace) + 1)))

    def test_a_stop_at_any_effect_loses_nothing_and_doubles_nothing(self):
        e = expected()
        # Threads take turns in other orders: a run may have a few effects more.
        todo = {f"stop at {n} ({crash.where(e, n)})":
                functools.partial(crash.stop_and_go_on, e, n)
                for n in range(1, len(e.trace) + 5)}
        died = crash.try_all(todo)
        self.assertGreater(sum(died.values()), len(e.trace) * 9 // 10)

    def test_a_stop_while_a_known_results_file_grows_neither_cuts_nor_doubles_a_line(self):
        e, trace = expected(), crash.second_run()
        first = next(n for n, _, what, _ in trace if what == "append results")
        crash.try_all({f"behind a canary, stop at {n} ({crash.where(trace, n)})":
                       functools.partial(crash.stop_and_go_on, e, n, canary=True)
                       for n in range(first, len(trace) + 1)})

    def test_the_accounts_bill_holds_what_dead_runs_spent(self):
        e = expected()
        last = len(e.trace)
        crash.try_all({f"stop at {n} ({crash.where(e, n)})":
                       functools.partial(crash.stop_and_go_on, e, n, bill=True)
                       for n in [*range(last // 3, last - 12, 16),
                                 *range(last - 8, last + 1)]})

    def test_a_second_stop_while_the_first_is_being_repaired_does_no_harm(self):
        e, rng = expected(), random.Random(crash.SEED)
        last = len(e.trace)
        print(f"CRASH_SEED={crash.SEED}", flush=True)
        pairs = [(rng.randint(1, last), rng.randint(1, last // 2))
                 for _ in range(PAIRS or 24)]
        # A stop in the middle of recovery is the hard one.
        pairs += [(rng.randint(last // 3, last), m) for m in range(1, 9)]
        crash.try_all({f"stop at {n} ({crash.where(e, n)}), then at {m}":
                       functools.partial(crash.stop_and_go_on, e, n, m)
                       for n, m in pairs})


if __name__ == "__main__":
    unittest.main()
