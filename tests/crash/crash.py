"""What the crash tests share: a queue that has one of everything, a way to stop the
program dead at its n-th effect, and the invariants that must hold afterwards.

The test build counts its effects (runner/effect.h): NIGHTMILL_STOP_AT=n kills it at the
n-th, NIGHTMILL_TRACE tells which they were. With SHIM (unsynced.c) the stop is also a
power cut: what was not synced is gone.
"""
import concurrent.futures
import glob
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from decimal import Decimal

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "stories"))
from story import Queue, Sim, line, wait_until  # noqa: E402,F401

SHIM = os.environ.get("SHIM", "")
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
AT_ONCE = int(os.environ.get("CRASH_AT_ONCE", "0")) or 6  # runs mostly wait for a backoff
DIED = -signal.SIGKILL
OUT, ANSWERED, IN_DOUBT = 0, 1, 2  # enum attempt_state
PICO = Decimal(10) ** 12
# The simulator's total is told in whole millionths of a dollar.
GRAIN = Decimal("0.000001")


def fill(q):
    """One of everything that has its own way through the house."""
    bulk = [line(f"c{n}", f"bulk line {n}", max_tokens=3000) for n in range(1, 7)]
    bulk[3] = '{"custom_id":"c4","params":{"max_tokens":"many"}}\n'
    q.write("bulk.jsonl", "".join(bulk))
    q.write("one.md", "say one\n")
    q.write("two.txt", "say two\n")
    q.write("sub/three.md", "say three\n")
    q.write("bad.md", "this is the bad-one\n")


# Some answers are long enough to lie apart from their rows, some are not.
FAULTS = ("fault.bad.kind=400", "fault.bad.match=bad-one",
          "fault.busy.kind=529", "fault.busy.first=1", "output.median=1000")


class Place:
    """A directory, a simulator and a queue of one's own; gone at the end of `with`."""

    def __init__(self, *sets, fill=fill):
        self.sets, self.fill = sets or FAULTS, fill

    def __enter__(self):
        self.base = tempfile.mkdtemp(prefix="nightmill-crash-")
        self.disk, self.aside = self.dir("disk"), self.dir("aside")
        self.sim = Sim(*self.sets)
        self.q = Queue(self.disk, self.sim.url)
        self.fill(self.q)
        self.traces = []
        return self

    def __exit__(self, *_):
        self.sim.stop()
        shutil.rmtree(self.base, True)

    def dir(self, name):
        path = os.path.join(self.base, name)
        os.makedirs(path)
        return path

    def run(self, stop_at=0, power_loss=None, env=None, args=()):
        """Run once; with `stop_at` to the n-th effect at most."""
        self.traces.append(os.path.join(self.base, f"trace-{len(self.traces)}"))
        env = {"NIGHTMILL_TRACE": self.traces[-1], **(env or {})}
        if stop_at:
            env["NIGHTMILL_STOP_AT"] = str(stop_at)
        if power_loss:
            env |= {"LD_PRELOAD": SHIM, "NIGHTMILL_UNSYNCED_DIR": self.disk,
                    "NIGHTMILL_UNSYNCED_KEPT": self.aside,
                    "NIGHTMILL_UNSYNCED_DROP": power_loss,
                    "NIGHTMILL_UNSYNCED_LOG": os.path.join(self.base, "dropped")}
        ended = self.q.run(*args, env=env)
        if power_loss and ended.code == DIED:
            # Shared memory does not outlive the machine.
            for path in glob.glob(self.disk + "/**/*-shm", recursive=True,
                                  include_hidden=True):
                os.remove(path)
        return ended

    def trace(self, which=-1):
        """[(n, "before" or "after", what, detail)]"""
        rows = []
        if os.path.exists(self.traces[which]):
            with open(self.traces[which]) as f:
                for row in f:
                    n, when, *what, detail = row.split()
                    rows.append((int(n), when, " ".join(what), int(detail)))
        return rows

    def out_at_stop(self):
        """The attempts that the store calls out, asked of a copy: opening the store
        itself would repair it."""
        state = self.q.at(".nightmill")
        if not os.path.exists(os.path.join(state, "queue.db")):
            return set()
        with tempfile.TemporaryDirectory(dir=self.base) as copy:
            for name in ("queue.db", "queue.db-wal"):
                if os.path.exists(os.path.join(state, name)):
                    shutil.copy(os.path.join(state, name), copy)
            c = sqlite3.connect(os.path.join(copy, "queue.db"))
            try:
                return {row[0] for row in
                        c.execute("SELECT id FROM attempt WHERE state = ?", (OUT,))}
            except sqlite3.OperationalError as e:
                if "no such table" in str(e):  # before the first commit
                    return set()
                raise
            finally:
                c.close()


def check(holds, says):
    if not holds:
        raise AssertionError(says)


# --- what users see ---

def essence(row):
    """What two runs must agree on; ids, times, and how often a job was sent may differ."""
    m = row.get("nightmill") or row
    message = row.get("message") or row.get("result", {}).get("message")
    return {"state": m["state"], "outcome": m["outcome"], "tier": m["tier"],
            "model": m["model"], "usage": m["usage"], "error": m.get("error"),
            "content": message and message["content"],
            "type": row.get("result", {}).get("type")}


def seen(q):
    """Every result as a user finds it: {name: essence}, {name.md: text}. Bulk files are
    whole lines of JSON, one a job; no file is there that is not a result."""
    results, texts, root = {}, {}, q.at("results")
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, root)
            if name == ".nightmill-own":
                continue
            with open(path) as f:
                text = f.read()
            if name.endswith(".json"):
                row = json.loads(text)
                check(row["job"] + ".json" == short, f"{short} tells of {row['job']}")
                results[row["job"]] = row
            elif name.endswith(".jsonl"):
                check(text.endswith("\n"), f"{short} does not end with a newline")
                for row in map(json.loads, text.splitlines()):
                    job = row["nightmill"]["job"]
                    check(job not in results, f"{job} has two results")
                    results[job] = row
            elif name.endswith(".md"):
                texts[short] = text
            else:
                check(False, f"{short} is no result")
    return results, texts


def whole_so_far(q, texts):
    """At a stop, whatever lies under a final name is whole."""
    for path in glob.glob(q.at("results", "**", "*.json"), recursive=True):
        with open(path) as f:
            text = f.read()
        try:
            json.loads(text)
        except ValueError:
            check(False, f"half a result lies in {path}: {text[:80]!r}")
    for path in glob.glob(q.at("results", "**", "*.md"), recursive=True):
        with open(path) as f:
            check(f.read() == texts[os.path.relpath(path, q.at("results"))],
                  f"half a text lies in {path}")


class Expected:
    """How an uninterrupted run ends."""

    def __init__(self, place, ended):
        self.code = ended.code
        results, self.texts = seen(place.q)
        self.results = {job: essence(row) for job, row in results.items()}
        self.files = place.q.files()
        self.usd = Decimal(place.sim.stats()["usd"])
        self.requests = place.sim.requests()
        self.trace = place.trace() if place.traces else []


# --- the invariants ---

def quiet(sim):
    """The simulator's numbers once nothing is under way in it. A request whose client
    died before its body came may stand there longer; nobody is billed for it."""
    before = {}

    def still():
        nonlocal before
        was, before = before, sim.stats()
        half = before["started"] - before["requests"]
        return before["in_flight"] <= half and before if was and all(
            was[k] == before[k] for k in ("started", "requests", "served", "usd")) else 0

    try:
        return wait_until(still, 5)
    except AssertionError:
        raise AssertionError(f"the simulator never comes to rest: {before}") from None


def ledger(place):
    """The store's own account against the simulator's. Gives the attempts in doubt."""
    q, sim = place.q, quiet(place.sim)
    attempts = q.db("SELECT id, job, state, status, cost, worst FROM attempt")
    doubt = [a for a in attempts if a[2] == IN_DOUBT]
    check(not [a for a in attempts if a[2] == OUT], "an attempt is out for ever")
    check(len(attempts) >= sim["requests"],
          f"the simulator saw {sim['requests']} requests, {len(attempts)} have a row")
    stored = sum(1 for a in attempts if a[2] == ANSWERED and a[3] == 200)
    check(sim["served"] <= stored + len(doubt),
          f"served {sim['served']}, stored {stored}, in doubt {len(doubt)}")

    spent = Decimal(sum(a[4] for a in attempts if a[2] == ANSWERED)) / PICO
    runs = Decimal(q.db("SELECT COALESCE(SUM(spent), 0) FROM run")[0][0]) / PICO
    jobs = Decimal(q.db("SELECT COALESCE(SUM(cost), 0) FROM job")[0][0]) / PICO
    billed = Decimal(sim["usd"])
    check(spent == runs == jobs, f"attempts cost {spent}, runs {runs}, jobs {jobs}")
    status = q.status()
    said = status["in_doubt"]
    low, high = Decimal(said["usd_low"]), Decimal(said["usd_high"])
    check(said["attempts"] == len(doubt),
          f"status says {said['attempts']} in doubt, the store {len(doubt)}")
    check(abs(Decimal(status["spent_usd"]) - spent) <= GRAIN,
          f"status says {status['spent_usd']} spent, the store {spent}")
    check(spent + low - GRAIN <= billed <= spent + high + GRAIN,
          f"billed {billed}, spent {spent}, in doubt {low} to {high}")
    if not doubt:
        check(abs(billed - spent) <= GRAIN, f"billed {billed}, spent {spent}")
    told = sum(Decimal(row["cost_usd"]) for row in q.results().values())
    check(abs(told - spent) <= GRAIN * max(1, len(status)),
          f"results tell of {told}, spent {spent}")
    return {a[0] for a in doubt}


def account_bill(place):
    """The bill that all queues share holds what was spent, dead runs' part included."""
    path = glob.glob(place.disk + "/state/**/account.db", recursive=True)
    c = sqlite3.connect(f"file:{path[0]}?mode=ro", uri=True)
    try:
        billed = c.execute("SELECT COALESCE(SUM(spent), 0) FROM bill").fetchone()[0]
    finally:
        c.close()
    spent = place.q.db("SELECT COALESCE(SUM(spent), 0) FROM run")[0][0]
    check(billed == spent, f"the account's bill says {billed / 1e12}, the queue's runs "
                           f"spent {spent / 1e12}")


def ends_as(place, expected, ended):
    """The same results as without the stop, each once, and nothing left over."""
    check(ended.code == expected.code,
          f"exit {ended.code}, not {expected.code}: {ended.err[-1500:]}")
    files = place.q.files()  # first: to look into the store is to leave files, too
    check(files == expected.files, f"left over: {files - expected.files}, missing: "
                                   f"{expected.files - files}")
    results, texts = seen(place.q)
    now = {job: essence(row) for job, row in results.items()}
    for job in expected.results.keys() | now.keys():
        check(expected.results.get(job) == now.get(job),
              f"{job} is {now.get(job)}, not {expected.results.get(job)}")
    check(texts == expected.texts, f"texts differ: {texts.keys()}")
    for job, sent in place.q.db(
            "SELECT j.name, COUNT(a.id) FROM job j LEFT JOIN attempt a ON a.job = j.id"
            " AND a.state <> 3 GROUP BY j.id"):
        row = results[job]
        check((row.get("nightmill") or row)["attempts"] == sent,
              f"{job}: the result tells of other sendings than the {sent} in the store")


def sends_nothing(place):
    """Like make: the same command again does nothing."""
    before, was = place.sim.requests(), seen(place.q)
    place.run()
    check(place.sim.requests() == before, "the next run sent something again")
    check(seen(place.q) == was, "the next run changed results")


def settled_before_stop(trace):
    """Attempts whose answer must be in the store: two commits ended after it came (the
    first of them may have been on its way already)."""
    settled, answered = set(), {}
    for _, when, what, detail in trace:
        if when == "after" and what == "answered":
            answered[detail] = 0
        elif when == "after" and what == "commit":
            for attempt in answered:
                answered[attempt] += 1
                if answered[attempt] == 2:
                    settled.add(attempt)
    return settled


CANARY = ("--first", "6")


def stop_and_go_on(expected, *stops, power_loss=None, bill=False, canary=False):
    """Stop at each of `stops` in turn, then go on to the end, and look. With `canary` an
    earlier run has already left some results. Gives whether a stop came at all."""
    with Place() as p:
        left_out, died = set(), False
        if canary:
            p.run(args=CANARY)
        for n in stops:
            ended = p.run(n, power_loss)
            if ended.code != DIED:
                break
            died = True
            whole_so_far(p.q, expected.texts)
            out = p.out_at_stop()
            check(not out & settled_before_stop(p.trace()),
                  "an answer that was stored is in doubt again")
            left_out |= out
        ended = p.run()
        ends_as(p, expected, ended)
        doubt = ledger(p)
        check(doubt <= left_out, f"in doubt, but not out at a stop: {doubt - left_out}")
        if bill:
            account_bill(p)
        sends_nothing(p)
        return died


def uninterrupted():
    with Place() as p:
        ended = p.run()
        expected = Expected(p, ended)
        check(not ledger(p), "an uninterrupted run left doubt")
        account_bill(p)
        return expected


def second_run():
    """The trace of an uninterrupted run behind a canary."""
    with Place() as p:
        p.run(args=CANARY)
        check(os.path.getsize(p.q.at("results", "bulk.jsonl")) > 0, "the canary is mute")
        p.run()
        return p.trace()


def where(expected, n):
    """What the n-th effect was in the uninterrupted run; threads may swap neighbours."""
    for row in getattr(expected, "trace", expected):
        if row[0] == n:
            return " ".join(map(str, row[1:]))
    return "behind the end"


def try_all(todo):
    """Each of {name: call} at once, a few at a time. Gives {name: what it gave}; fails
    with all that failed."""
    gave, wrong = {}, {}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(call): name for name, call in todo.items()}
        for f in concurrent.futures.as_completed(running):
            try:
                gave[running[f]] = f.result()
            except Exception as e:  # the list of all failures tells more than the first
                brief = str(e) if isinstance(e, AssertionError) else \
                    traceback.format_exc()[-1500:]
                wrong[running[f]] = brief
    if wrong:
        lines = [f"{name}: {says}" for name, says in sorted(wrong.items(), key=str)]
        raise AssertionError(f"{len(wrong)} of {len(todo)} broke a promise:\n"
                             + "\n".join(lines[:40]))
    return gave
