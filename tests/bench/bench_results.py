"""Peak memory and speed of `nightmill results`, for few jobs and for many.

    bench_results.py BUILD_DIR [--few 10000] [--many 1000000] [--allow 4] [--keep DIR]

A real run against nightmill-sim fills a store; its rows are then copied, in SQLite, to as
many finished jobs as are wanted, in an order of finishing that is not that of the jobs. The
last columns say how many MiB the many take above the few, and exits with 1 where that is
more than --allow: what is printed must not be held.
"""
import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

from bench import Sim

TEMPLATE = 200
READ = 1 << 20
CASES = [[]] + [["--format", f] for f in ("csv", "text")] + [
    ["--order", "finished"], ["--format", "csv", "--order", "finished"],
    ["--format", "text", "--order", "finished"], ["--only", "failed"],
    ["--field", "job,cost_usd,text"], ["--since", "1h"]]


def environment(top, sim=None):
    return dict(os.environ, ANTHROPIC_BASE_URL=sim.url if sim else "http://127.0.0.1:1",
                ANTHROPIC_API_KEY="sk-bench", XDG_STATE_HOME=f"{top}/state")


def template(build, top):
    """A queue that was run: most jobs done, every tenth cut and failed."""
    sim = Sim(build, 0)
    try:
        sim.set({"output.median": "60", "output.sigma": "0.5"})
        os.makedirs(f"{top}/few")
        with open(f"{top}/few/b.jsonl", "w") as f:
            for n in range(TEMPLATE):
                params = {"max_tokens": 4000 if n % 10 else 5,
                          "messages": [{"role": "user", "content": f"Ticket {n}: what now?"}]}
                f.write(json.dumps({"custom_id": f"t{n}", "params": params}) + "\n")
        r = subprocess.run([f"{build}/runner/nightmill", "run", f"{top}/few", "--quiet",
                            "--set", "intake.settle=0s"], env=environment(top, sim),
                           stderr=subprocess.PIPE, text=True, check=False)
        if r.returncode != 1:
            sys.exit(f"the run ended with {r.returncode}: {r.stderr}")
    finally:
        sim.stop()


def columns(db, table, changed):
    """The table's columns, those of `changed` by their expression."""
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    return ", ".join(names), ", ".join(changed.get(n, n) for n in names)


def multiply(path, count):
    """Copies the template's rows, with numbers and names of their own, until they are so
    many jobs. What a result is made of: job, sending, ending."""
    db = sqlite3.connect(path)
    db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                     " PRAGMA cache_size = -200000")
    jobs = db.execute("SELECT COUNT(*), MAX(id) FROM job").fetchone()
    sent = db.execute("SELECT MAX(id) FROM sending").fetchone()[0]
    assert jobs[0] == TEMPLATE, jobs
    job, attempt = f"+ k.n * {jobs[1]}", f"+ k.n * {sent}"
    tables = {
        # A seq of its own each, scattered: 48271 is a generator modulo this prime.
        "job": {"id": f"id {job}", "name": "name || ':' || k.n",
                "custom_id": "custom_id || ':' || k.n", "last_attempt": f"last_attempt {attempt}",
                "seq": f"((id {job}) * 48271) % 2147483647"},
        "sending": {"id": f"id {attempt}", "job": f"job {job}"},
        "ending": {"attempt": f"attempt {attempt}"},
    }
    db.execute("CREATE TEMP TABLE k (n INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO k VALUES (?)", ((n,) for n in range(1, count // TEMPLATE)))
    with db:
        for table, changed in tables.items():
            into, values = columns(db, table, changed)
            last = db.execute(f"SELECT MAX(rowid) FROM {table}").fetchone()[0]
            db.execute(f"INSERT INTO {table} ({into}) SELECT {values} FROM k CROSS JOIN {table} t"
                       f" WHERE t.rowid <= {last}")
    found = db.execute("SELECT COUNT(*), COUNT(DISTINCT seq) FROM job WHERE seq > 0").fetchone()
    assert found[0] == found[1] == count, (found, count)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def one(build, queue, env, args):
    """Peak KiB, seconds, rows and bytes of one `nightmill results`.

    By time(1): a child of Python would be counted from Python's own size on.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        start = time.monotonic()
        p = subprocess.Popen(["time", "-o", told.name, "-f", "%M",
                              f"{build}/runner/nightmill", "results", queue, *args], env=env,
                             stdout=subprocess.PIPE)
        size = 0
        while block := p.stdout.read(READ):
            size += len(block)
        if p.wait() != 0:
            sys.exit(f"results {' '.join(args)} ended with {p.returncode}")
        return int(told.read()), time.monotonic() - start, size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--few", type=int, default=10000)
    parser.add_argument("--many", type=int, default=1000000)
    parser.add_argument("--allow", type=float, default=4, help="MiB that the many may take more")
    parser.add_argument("--keep", help="make the stores there, and leave them")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    top = args.keep or tempfile.mkdtemp(prefix="nightmill-results-")
    worst = 0
    try:
        env = environment(top)
        if not os.path.exists(f"{top}/many"):
            template(build, top)
            start = time.monotonic()
            shutil.copytree(f"{top}/few", f"{top}/many")
            for queue, count in (("few", args.few), ("many", args.many)):
                multiply(f"{top}/{queue}/.nightmill/queue.db", count)
            print(f"made in {time.monotonic() - start:.0f} s; the store of {args.many} jobs has "
                  f"{os.path.getsize(f'{top}/many/.nightmill/queue.db') >> 20} MiB")
        print(f"{'results':40} {'few MiB':>8} {'many MiB':>9} {'ratio':>6} {'more MiB':>9}"
              f" {'s':>6} {'jobs/s':>8} {'MB/s':>6}")
        for case in CASES:
            few = one(build, f"{top}/few", env, case)
            many = one(build, f"{top}/many", env, case)
            more = (many[0] - few[0]) / 1024
            worst = max(worst, more)
            print(f"{' '.join(case) or '(jsonl, by input)':40} {few[0] / 1024:8.1f}"
                  f" {many[0] / 1024:9.1f} {many[0] / few[0]:6.2f} {more:9.1f} {many[1]:6.1f}"
                  f" {args.many / many[1]:8.0f} {many[2] / many[1] / 1e6:6.1f}", flush=True)
    finally:
        if not args.keep:
            shutil.rmtree(top, True)
    print(f"at most {worst:.1f} MiB more; {args.allow:g} are allowed")
    return worst > args.allow


if __name__ == "__main__":
    sys.exit(main())
