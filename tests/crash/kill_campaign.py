#!/usr/bin/env python3
"""Kills `nightmill run` with SIGKILL at random moments, again and again, and starts it
again each time; then asks the simulator whether anything was lost or paid twice.

    kill_campaign.py [--kills 50] [--jobs 2000] [--seed N] [BULK.jsonl]

The queue is the bulk file and a copy of examples/; without one, lines made up here.
"""
import argparse
import functools
import os
import random
import shutil
import signal
import statistics
import sys
import time
from decimal import Decimal

import crash
from story import DONE, EXAMPLES, Running, line, wait_until

IN_FLIGHT = 64
WINDOW_WANTED = 32


def fill(bulk, jobs, q):
    if bulk:
        shutil.rmtree(q.path)
        shutil.copytree(EXAMPLES, q.path)
        shutil.copy(bulk, q.at("bulk.jsonl"))
    else:
        q.write("bulk.jsonl", "".join(
            line(f"k{n}", f"question {n} of the campaign " + "x" * (n % 97),
                 model="claude-haiku-5-5", max_tokens=4000) for n in range(jobs)))


def place(bulk, jobs):
    # Answers of half a page; or, where max_tokens lets them, many so long that they lie
    # apart from their rows.
    median, sigma, token = (120, 0.5, "200us") if bulk else (900, 0.3, "30us")
    return crash.Place("latency.ttft=60ms", f"latency.per_token={token}",
                       f"output.median={median}", f"output.sigma={sigma}",
                       fill=functools.partial(fill, bulk, jobs))


def start(p):
    return p.q.start(sets=[f"limits.in_flight={IN_FLIGHT}"])


def kill_once(p, rng, late):
    """Let the simulator serve some answers, then kill a moment later. Late kills find a
    wide window: it grows by one an answer. They must not be later than that, or the
    run would end before its last kill. Gives (in flight then by the simulator, the
    attempts out by the store), or None if the run was over first."""
    served = crash.quiet(p.sim)["served"]  # without what the last run left behind
    more = rng.randint(WINDOW_WANTED + 1, WINDOW_WANTED + 4) if late else rng.randint(0, 5)
    run = start(p)
    wait_until(lambda: p.sim.served() >= served + more
               or run.process.poll() is not None, 60, "the run to get ahead")
    time.sleep(rng.random() * (0.02 if late else 0.05))  # the moment is the point here
    there = p.sim.stats()["in_flight"]
    run.signal(signal.SIGKILL)
    if run.wait().code != crash.DIED:
        return None
    return there, p.out_at_stop()


def campaign(bulk=None, jobs=2000, kills=50, seed=crash.SEED, tell=print):
    rng = random.Random(seed)
    tell(f"seed={seed}")
    with place(bulk, jobs) as p:
        ended = start(p).wait(600)
        expected = crash.Expected(p, ended)
        crash.check(expected.code == DONE or expected.code == 1, ended.err[-2000:])
    begun = time.monotonic()
    with place(bulk, jobs) as p:
        # More than half of the kills are late ones, in any order.
        late = [i * 20 < kills * 11 for i in range(kills)]
        rng.shuffle(late)
        by_sim, by_store, left_out = [], [], set()
        for i in range(kills):
            found = kill_once(p, rng, late[i])
            crash.check(found, f"the run was over before kill {i + 1}")
            by_sim.append(found[0])
            # A run killed before it took stock leaves the last one's attempts out.
            by_store.append(len(found[1] - left_out))
            left_out |= found[1]
            crash.whole_so_far(p.q, expected.texts)
        ended = start(p).wait(600)
        seconds = time.monotonic() - begun
        crash.ends_as(p, expected, ended)
        doubt = crash.ledger(p)
        crash.check(doubt <= left_out,
                    f"in doubt, but not in flight at a kill: {doubt - left_out}")
        doubt = len(doubt)
        status, sim = p.q.status(), p.sim.stats()
        results = len(expected.results)
        crash.check(sim["served"] <= results + doubt,
                    f"served {sim['served']}, results {results}, in doubt {doubt}")
        crash.sends_nothing(p)
        spent, billed = Decimal(status["spent_usd"]), Decimal(sim["usd"])
        low, high = (Decimal(status["in_doubt"][k]) for k in ("usd_low", "usd_high"))
        figures = {
            "kills": kills, "seconds": round(seconds, 1), "results": results,
            "requests": sim["requests"], "served": sim["served"], "in_doubt": doubt,
            "in_flight_at_kills_sum": sum(by_store),
            "in_flight_median": statistics.median(by_store),
            "in_flight_median_by_sim": statistics.median(by_sim),
            "in_flight_least": min(by_store), "in_flight_most": max(by_store),
            "spent_usd": spent, "in_doubt_usd": f"{low}..{high}",
            "simulator_usd": billed}
        for name, value in figures.items():
            tell(f"{name}={value}")
        return figures


def main():
    a = argparse.ArgumentParser()
    a.add_argument("bulk", nargs="?", default=os.environ.get("BULK"))
    a.add_argument("--kills", type=int, default=50)
    a.add_argument("--jobs", type=int, default=2000)
    a.add_argument("--seed", type=int, default=crash.SEED)
    o = a.parse_args()
    try:
        figures = campaign(o.bulk, o.jobs, o.kills, o.seed)
    except AssertionError as e:
        sys.exit(f"kill campaign failed: {e}")
    if figures["in_flight_median"] < WINDOW_WANTED:
        sys.exit(f"kill campaign proves little: median in flight is "
                 f"{figures['in_flight_median']}, not {WINDOW_WANTED} or more")
    print("every promise was kept")


if __name__ == "__main__":
    main()
