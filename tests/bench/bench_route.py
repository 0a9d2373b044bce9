"""What routing saves, on nights whose truth is known.

    bench_route.py BUILD_DIR --rows FILE.csv [--rows FILE.csv ...] [--runs 3]

FILE.csv has the columns group,prompt,weak_ok,strong_ok: jobs, and which of two models
answers them right. The simulator answers accordingly, for a fifth of the price on the
weak one; each answer says whether it passes its check, which errs for one answer in ten.
Each policy runs the whole night with the real program; several files are one night
together, which is held to the aim, and then one each. Accuracy is counted by the answer
that a job ended with, cost by the bill; both beside the strong model alone.
"""
import argparse
import csv
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

WEAK, STRONG = "claude-haiku-4-5-20251001", "claude-opus-5"  # 1/5 and 5/25 dollars
CHECK = "regex:Check: pass"

POLICIES = {
    "always strong": dict(tier="deep"),
    "always weak": dict(tier="cheap"),
    "random half": dict(random=True),
    "learned": dict(tier="deep", route="learn", check=CHECK, explore=True),
    "cascade": dict(tier="cheap", route="cascade", check=CHECK),
}


def fnv(text):
    h = 14695981039346656037
    for byte in text:
        h = (h ^ byte) * 1099511628211 % 2 ** 64
    return h


def night(build, rows, errs, policy, seed):
    top = tempfile.mkdtemp(prefix="nightmill-route-")
    sim = None
    try:
        queue = f"{top}/q"
        os.mkdir(queue)
        rng = random.Random(seed)
        order = list(rows)
        rng.shuffle(order)
        with open(f"{top}/truth", "w") as truth, open(f"{queue}/b.jsonl", "w") as jobs:
            for n, row in enumerate(order):
                text = json.dumps(row["prompt"])[1:-1]
                truth.write(f"{fnv(text.encode()):016x} {row['weak_ok']} {row['strong_ok']}\n")
                hints = {"tags": [re.sub("[^A-Za-z0-9]", "-", row["group"])]}
                if policy.get("random"):
                    hints["tier"] = rng.choice(("cheap", "deep"))
                jobs.write(json.dumps({
                    "custom_id": f"j{n}", "nightmill": hints, "params": {
                        "max_tokens": 300,
                        "messages": [{"role": "user", "content": row["prompt"]}]}}) + "\n")
        sim = subprocess.Popen(
            [f"{build}/sim/nightmill-sim", "--port", "0", "--set", f"truth.file={top}/truth",
             "--set", "truth.weak=haiku", "--set", f"truth.errs={errs}",
             "--set", f"output.seed={seed}", "--set", "output.median=60", "--set", "output.sigma=0",
             "--set", "log.max=0"],
            stdout=subprocess.PIPE, text=True)
        url = sim.stdout.readline().strip()
        sets = {"intake.settle": "0s",
                "tier.cheap.model": WEAK, "tier.deep.model": STRONG,
                "tier.standard.model": STRONG, "jobs.ladder": "cheap,deep",
                "jobs.tier": policy.get("tier", "deep"),
                "jobs.route": policy.get("route", "tier"),
                "jobs.check": policy.get("check", ""), "limits.mass_failure": "1000000",
                "limits.in_flight": "32"}
        argv = [f"{build}/runner/nightmill", "run", queue, "--quiet"]
        for key, value in sets.items():
            argv += ["--set", f"{key}={value}"]
        env = dict(os.environ, ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="sk-bench",
                   XDG_STATE_HOME=f"{top}/state")
        said = subprocess.run(argv, env=env, capture_output=True, text=True)
        if said.returncode not in (0, 1):
            sys.exit(f"nightmill ended with {said.returncode}: {said.stderr[-2000:]}")
        status = json.loads(subprocess.run(
            [f"{build}/runner/nightmill", "status", queue, "--json"], env=env,
            capture_output=True, text=True, check=True).stdout)
        right = weak = 0
        with open(f"{queue}/results/b.jsonl") as f:
            for line in f:
                result = json.loads(line)
                message = result["result"].get("message")
                right += bool(message) and "answer is right" in message["content"][0]["text"]
                weak += result["nightmill"]["tier"] == "cheap"
        return right / len(rows), float(status["spent_usd"]), weak / len(rows)
    finally:
        if sim:
            sim.terminate()
            sim.wait()
        shutil.rmtree(top, ignore_errors=True)


def spread(values):
    return (f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--rows", action="append", required=True)
    args.add_argument("--runs", type=int, default=3)
    args.add_argument("--errs", type=float, default=0.1)
    args = args.parse_args()
    good = True
    nights = {}
    for path in args.rows:
        with open(path, newline="") as f:
            nights[os.path.basename(path)] = list(csv.DictReader(f))
    if len(nights) > 1:
        nights = {"all together": sum(nights.values(), []), **nights}
    for title, rows in nights.items():
        judged = title == next(iter(nights))
        print(f"{title}: {len(rows)} jobs; the check errs for "
              f"{100 * args.errs:.0f} % of the answers; seeds 1 to {args.runs}; median (range)")
        print(f"{'':16}{'right, %':>20}{'cost, % of strong':>22}{'ended weak, %':>20}")
        strong = {}
        for name, policy in POLICIES.items():
            right, cost, weak = [], [], []
            for seed in range(1, args.runs + 1):
                r, c, w = night(args.build, rows, args.errs, policy, seed)
                if name == "always strong":
                    strong[seed] = r, c
                right.append(100 * r)
                cost.append(100 * c / strong[seed][1])
                weak.append(100 * w)
                if name == "cascade" and judged:
                    good = good and r >= strong[seed][0] and c <= 0.6 * strong[seed][1]
            print(f"{name:16}{spread(right):>20}{spread(cost):>22}{spread(weak):>20}",
                  flush=True)
        print()
    print("the cascade is at least as right as the strong model alone, for at most 60 % of its "
          "cost" if good else "THE CASCADE MISSED ITS AIM")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
