"""What prompt caching saves: prefixes that many jobs share, three ways.

    bench_money.py BUILD_DIR [--prefixes 40] [--jobs 50] [--tokens 6000] [--runs 5]

One queue, its jobs shuffled, against nightmill-sim, which keeps a prefix readable from the
first byte of the answer that wrote it, for its time, from the model's shortest length on.
Uncached: cache = off. Cold fan-out: every job marks its prefix itself, and all of them go
at once. Dollars are the simulator's own bill.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile

from bench import Sim, measure

WORDS = ("the contract says that whoever holds the key to the upper gate shall keep the light in "
         "the window until the last boat is in and shall not ask for more than was agreed").split()


def write_queue(path, rng, prefixes, jobs, tokens, marked):
    os.makedirs(path)
    lines = []
    for p in range(prefixes):
        system = f"Handbook {p}. " + " ".join(rng.choices(WORDS, k=tokens * 4 // 5))
        block = {"type": "text", "text": system}
        if marked:
            block["cache_control"] = {"type": "ephemeral"}
        for n in range(jobs):
            params = {"model": "claude-sonnet-5-5", "max_tokens": 300,
                      "system": [block] if marked else system,
                      "messages": [{"role": "user", "content": f"Question {n}?"}]}
            lines.append(json.dumps({"custom_id": f"p{p}-{n}", "params": params}) + "\n")
    rng.shuffle(lines)
    with open(f"{path}/b.jsonl", "w") as f:
        f.writelines(lines)


def run(build, args, seed, how):
    top = tempfile.mkdtemp(prefix="nightmill-money-")
    sim = Sim(build, 0)
    try:
        sim.set({"latency.ttft": "400ms", "latency.per_token": "2ms", "output.median": "100"})
        write_queue(f"{top}/q", random.Random(seed), args.prefixes, args.jobs, args.tokens,
                    how == "cold fan-out")
        env = dict(os.environ, ANTHROPIC_BASE_URL=sim.url, ANTHROPIC_API_KEY="sk-bench",
                   XDG_STATE_HOME=f"{top}/state")
        measure([f"{build}/runner/nightmill", "run", f"{top}/q", "--quiet", "--set",
                 "intake.settle=0s", "--set", "limits.in_flight=100", "--set",
                 f"jobs.cache={'auto' if how == 'nightmill' else 'off'}"], env)
        stats = sim.stats()
        rows = sim.log()
        spent = json.loads(os.popen(
            f"XDG_STATE_HOME={top}/state {build}/runner/nightmill status {top}/q --json").read())
        assert spent["spent_usd"].rstrip("0") == stats["usd"].rstrip("0"), (spent, stats["usd"])
        reads = sum(1 for r in rows if r["cache_read_tokens"] > 0)
        writes = sum(1 for r in rows if r["cache_write_tokens"] > 0)
        return {"usd": float(stats["usd"]), "reads": reads, "writes": writes,
                "followers": len(rows) - args.prefixes,
                "seconds": (stats["last_request_ms"] - stats["first_request_ms"]) / 1000}
    finally:
        sim.stop()
        shutil.rmtree(top, ignore_errors=True)


def spread(values, form):
    return (f"{form.format(statistics.median(values))} ({form.format(min(values))} to "
            f"{form.format(max(values))})")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--prefixes", type=int, default=40)
    args.add_argument("--jobs", type=int, default=50)
    args.add_argument("--tokens", type=int, default=6000)
    args.add_argument("--runs", type=int, default=5)
    args = args.parse_args()
    print(f"{args.prefixes} prefixes of {args.tokens} tokens, {args.jobs} jobs each, window 100, "
          f"seeds 1 to {args.runs}; median (range)")
    got = {}
    for how in ("uncached", "cold fan-out", "nightmill"):
        got[how] = [run(args.build, args, seed, how) for seed in range(1, args.runs + 1)]
        print(f"  {how:14} ${spread([g['usd'] for g in got[how]], '{:.4f}'):28} "
              f"{spread([100 * g['reads'] / g['followers'] for g in got[how]], '{:.1f}')} % of the "
              f"followers read, {spread([g['writes'] for g in got[how]], '{:.0f}')} writes, "
              f"{spread([g['seconds'] for g in got[how]], '{:.1f}')} s")
    good = all(g["reads"] >= 0.97 * g["followers"] and g["writes"] == args.prefixes
               for g in got["nightmill"])
    ratio = [a["usd"] / b["usd"] for a, b in zip(got["nightmill"], got["uncached"])]
    print(f"  nightmill / uncached: {spread(ratio, '{:.3f}')}")
    print("at least 97 % of the followers read, one write a prefix" if good else "NOT WITHIN THE AIM")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
