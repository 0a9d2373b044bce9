"""How close to an account's limits nightmill runs, and how often it runs into them.

    bench_pace.py BUILD_DIR [--runs 5] [--cases rpm,small,...] [--parallel 5] [--others]

Each case is a simulated account, a queue with more jobs than it can take, and real time:
a run lasts a minute or three. Used and allowed come from the simulator's own books
(GET /sim/pace): allowed is what its buckets held at the first request and what flowed
into them since, less what the co-tenant took. Utilisation is that of the bucket that
binds, from the second in which the first answer came. Every run must be within the case's aim; the seeds are printed, and the same seed
is the same queue and the same answers. With --others, two other ways to pace meet the
same account: a fixed window of 200 that waits as retry-after says, and an adaptive
window (AIMD) without any knowledge of limits.
"""
import argparse
import concurrent.futures
import dataclasses
import http.client
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

MODEL = "claude-haiku-5-5"
WORDS = ("the lighthouse stands where the river meets the sea and nobody knows who built it but on "
         "quiet evenings people come by with their children to look at it for a while ").split()


MANY = 10 ** 9


@dataclasses.dataclass
class Case:
    name: str
    limits: dict                # the simulator's settings
    rate: float                 # jobs a second that it lets through, about
    binds: str = "requests"     # the bucket that is to be used up
    seconds: int = 120
    util: float = 0.99
    refused: float = 1          # a thousand requests, after the first minute
    tokens: int = 250           # median input of a job
    runners: int = 1
    stream: bool = True
    aim: bool = True            # or only for the record
    early: int = 5              # refusals in the first twenty seconds
    conf: dict = dataclasses.field(default_factory=dict)


def account(rpm=MANY, itpm=MANY, otpm=MANY, **more):
    s = {"limits.rpm": rpm, "limits.itpm": itpm, "limits.otpm": otpm, "limits.burst": "60s",
         "input.jitter": "0.1", "latency.ttft": "300ms", "latency.per_token": "2ms",
         "output.median": "150", "output.sigma": "0.6"}
    s.update({k.replace("__", "."): v for k, v in more.items()})
    return s


RPM = dict(rpm=6000)
ITPM = dict(itpm=100 * 60 * 280)
OTPM = dict(otpm=60 * 60 * 180)
BOUND = {"rpm": (RPM, 100, "requests"), "itpm": (ITPM, 100, "input"), "otpm": (OTPM, 60, "output")}

CASES = []
for _kind, (_limits, _rate, _binds) in BOUND.items():
    for _burst in ("1s", "5s", "60s"):
        CASES.append(Case(f"{_kind}-bound, burst {_burst}",
                          account(**_limits, limits__burst=_burst), _rate, _binds))
    CASES.append(Case(f"{_kind}-bound, answers not streamed",
                      account(**_limits, limits__burst="5s"), _rate, _binds, stream=False, aim=False))
    CASES.append(Case(f"{_kind}-bound, co-tenant 25 %",
                      account(**_limits, limits__burst="5s", tenant__share="0.25",
                              tenant__period="60s"), _rate, _binds, seconds=150, util=0.98,
                      refused=3, early=MANY))
CASES += [
    Case("rpm by the second", account(**RPM, limits__rpm_enforced="second"), 100),
    Case("small account", account(rpm=50, itpm=30000, otpm=8000, latency__per_token="12ms",
                                  output__median="140"), 0.8, "any", seconds=180, util=0.90,
         refused=20, tokens=450),
    Case("limit halves, returns", account(**ITPM, limits__burst="5s", limits__change_at="40s",
                                          limits__change_factor="0.5",
                                          limits__change_back_at="80s"), 100, "input",
         seconds=120, util=0.95, refused=1000),
    Case("two runners", account(**ITPM, limits__burst="5s"), 100, "input", runners=2),
    Case("four runners", account(**ITPM, limits__burst="5s"), 100, "input", runners=4),
    Case("larger than a bucket", account(itpm=30000, limits__burst="5s"), 10, seconds=0),
]


def slug(case):
    return case.name.replace(",", "").replace(" %", "").replace(" ", "-")


# --- the two sides ---

class Sim:
    def __init__(self, build, settings, seed):
        argv = [f"{build}/sim/nightmill-sim", "--port", "0", "--set", "log.max=0",
                "--set", f"output.seed={seed}"]
        for key, value in settings.items():
            if value != MANY:
                argv += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def get(self, path):
        c = http.client.HTTPConnection(self.url.split("//")[1], timeout=30)
        c.request("GET", path)
        text = c.getresponse().read().decode()
        c.close()
        return text

    def rows(self):
        return [json.loads(line) for line in self.get("/sim/pace").splitlines()]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def prompt(rng, tokens):
    size = int(4 * min(8 * tokens, max(20, rng.lognormvariate(0, 0.5) * tokens)))
    text = " ".join(rng.choices(WORDS, k=size // 5 + 1))
    return text[:size]


def write_queue(path, rng, count, tokens):
    os.makedirs(path)
    with open(f"{path}/b.jsonl", "w") as f:
        for n in range(count):
            params = {"model": MODEL, "max_tokens": 4096,
                      "messages": [{"role": "user", "content": prompt(rng, tokens)}]}
            f.write(json.dumps({"custom_id": f"j{n}", "params": params}) + "\n")


def nightmill(build, sim, queue, state, case):
    argv = [f"{build}/runner/nightmill", "run", queue, "--quiet", "--set", "intake.settle=0s",
            "--set", f"api.stream={'always' if case.stream else 'never'}"]
    for key, value in case.conf.items():
        argv += ["--set", f"{key}={value}"]
    env = dict(os.environ, ANTHROPIC_BASE_URL=sim.url, ANTHROPIC_API_KEY="sk-bench",
               XDG_STATE_HOME=state)
    return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True)


class Other:
    """A client that knows no limits: a window, fixed or adaptive, and retry-after."""

    def __init__(self, sim, queue, adaptive, streams):
        self.address = sim.url.split("//")[1]
        self.lines = open(f"{queue}/b.jsonl")
        self.lock = threading.Condition()
        self.size, self.out, self.good = (1, 0, 0) if adaptive else (200, 0, 0)
        self.adaptive, self.streams = adaptive, streams
        self.cut_at, self.over = 0.0, False
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(200)]
        for t in self.threads:
            t.start()

    def next_body(self):
        line = self.lines.readline()
        return json.dumps(dict(json.loads(line)["params"], stream=self.streams)) if line else None

    def told(self, ok, started, full):
        if not self.adaptive:
            return
        if ok and full:
            self.good += 1
            if self.cut_at == 0 or self.good >= self.size:
                self.size, self.good = min(200, self.size + 1), 0
        elif not ok and started > self.cut_at:
            self.size, self.cut_at, self.good = max(1, self.size * 4 // 5), time.monotonic(), 0

    def work(self):
        try:
            self.go_on()
        except (OSError, ValueError, http.client.HTTPException):
            if not self.over:
                raise  # at the end the simulator goes first

    def go_on(self):
        c = http.client.HTTPConnection(self.address, timeout=120)
        while not self.over:
            with self.lock:
                while self.out >= self.size and not self.over:
                    self.lock.wait(1)
                body = self.next_body()
                self.out += 1
            while body and not self.over:
                started = time.monotonic()
                c.request("POST", "/v1/messages", body, {"x-api-key": "sk-bench",
                          "anthropic-version": "2023-06-01", "content-type": "application/json"})
                answer = c.getresponse()
                answer.read()
                with self.lock:
                    self.told(answer.status == 200, started, self.out * 5 >= self.size * 4)
                if answer.status != 429:
                    break
                time.sleep(float(answer.getheader("retry-after", "1")))
            with self.lock:
                self.out -= 1
                self.lock.notify_all()
            if body is None:
                return

    def stop(self):
        self.over = True
        with self.lock:
            self.lock.notify_all()


# --- figures ---

BUCKETS = ("requests", "input", "output")


def figures(case, rows, seconds):
    """Utilisation of the binding bucket, refusals a thousand after the first minute, in all,
    and before steady state (the first twenty seconds)."""
    rows = [r for r in rows if r["s"] < seconds]
    # From the first answer on: before it one request alone is out, as it should be. What
    # lay in the buckets then is the beginning.
    opened = next((i for i, r in enumerate(rows) if r["requests"]["used"] > 1), 0)
    first, rows = rows[opened], rows[opened + 1:]

    def total(kind, what, some):
        return sum(r[kind][what] or 0 for r in some)

    def util(some):
        kinds = BUCKETS if case.binds == "any" else (case.binds,)
        begin = {k: max(0, first[k]["level"] or 0) if some is rows else 0 for k in BUCKETS}
        return max(total(k, "used", some) / max(1e-9, begin[k] + total(k, "allowed", some))
                   for k in kinds)

    def refused(some):
        return sum(r["refused_otherwise"] + sum(r[k]["refused"] for k in BUCKETS) for r in some)

    late = [r for r in rows if r["s"] >= 60]
    sent = refused(late) + total("requests", "used", late)
    f = {"util": util(rows), "late": 1000 * refused(late) / max(1, sent),
         "early": refused([first] + [r for r in rows if r["s"] < 20])}
    if "limits.change_at" in case.limits:
        def within(start, end):
            for s in range(start, min(start + 31, end - 9)):
                if all(util([r for r in rows if t <= r["s"] < t + 10]) >= case.util
                       for t in range(s, end - 10, 5)):
                    return s - start
            return 999
        f["back"] = (within(40, 80), within(80, seconds))
    return f


def measure(build, case, seed, how):
    top = tempfile.mkdtemp(prefix="nightmill-pace-")
    sim = None
    try:
        rng = random.Random(seed)
        burst = 60 if case.limits["limits.burst"] == "60s" else 5
        count = int(case.rate * (case.seconds + burst) * 1.3) + 100
        queues = []
        for n in range(case.runners if how == "nightmill" else 1):
            queues.append(f"{top}/q{n}")
            write_queue(queues[-1], rng, count, case.tokens)
        sim = Sim(build, case.limits, seed)
        if how == "nightmill":
            clients = [nightmill(build, sim, q, f"{top}/state", case) for q in queues]
        else:
            clients = [Other(sim, queues[0], how == "AIMD", case.stream)]
        begin = time.monotonic()
        while not sim.rows() and time.monotonic() - begin < 20:
            time.sleep(0.02)
        time.sleep(case.seconds)
        rows = sim.rows()
        for c in clients:
            if how == "nightmill":
                if c.poll() is not None:
                    sys.exit(f"{case.name}: nightmill ended early: {c.stderr.read()}")
                c.send_signal(signal.SIGTERM)
                c.send_signal(signal.SIGTERM)
            else:
                c.stop()
        for c in clients if how == "nightmill" else []:
            c.communicate()
        return figures(case, rows, case.seconds)
    finally:
        if sim:
            sim.stop()
        shutil.rmtree(top, ignore_errors=True)


def larger(build, case, seed):
    """One job larger than a bucket, one larger than a whole minute, and forty small ones."""
    top = tempfile.mkdtemp(prefix="nightmill-pace-")
    sim = Sim(build, case.limits, seed)
    try:
        rng = random.Random(seed)
        write_queue(f"{top}/q", rng, 40, 60)
        for name, tokens in (("large", 5000), ("huge", 45000)):
            with open(f"{top}/q/{name}.md", "w") as f:
                f.write("---\nmodel: cheap\n---\n" + " ".join(rng.choices(WORDS, k=tokens))[:4 * tokens])
        # The huge one is refused over and over: each time it counts.
        case.conf = {"limits.attempts": 2}
        c = nightmill(build, sim, f"{top}/q", f"{top}/state", case)
        said = c.communicate(timeout=300)[1]
        done = subprocess.run([f"{build}/runner/nightmill", "status", f"{top}/q", "--json"],
                              capture_output=True, text=True,
                              env=dict(os.environ, XDG_STATE_HOME=f"{top}/state")).stdout
        jobs = json.loads(done)["jobs"]
        ok = jobs["done"] == 41 and jobs["failed"] + jobs["parked"] == 1 and c.returncode == 1
        ok = ok and os.path.exists(f"{top}/q/results/large.md")
        refused = sum(r["refused_otherwise"] + sum(r[k]["refused"] for k in BUCKETS)
                      for r in sim.rows())
        return {"ok": ok, "refused": refused, "says": said}
    finally:
        sim.stop()
        shutil.rmtree(top, ignore_errors=True)


def spread(values, form):
    return (f"{form.format(statistics.median(values))} ({form.format(min(values))} to "
            f"{form.format(max(values))})")


def within(case, f):
    if "back" in f:
        return max(f["back"]) <= 30 and f["early"] <= case.early
    return (f["util"] >= case.util and f["late"] <= case.refused and
            f["early"] <= case.early)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--runs", type=int, default=5)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--cases", default="", help="words in the names of the cases wanted")
    args.add_argument("--parallel", type=int, default=5)
    args.add_argument("--seconds", type=int, default=0)
    args.add_argument("--others", action="store_true")
    args = args.parse_args()
    wanted = [c for c in CASES
              if not args.cases or any(w in slug(c) for w in args.cases.split(","))]
    seeds = range(args.seed, args.seed + args.runs)
    print(f"seeds {', '.join(map(str, seeds))}; {args.parallel} runs at a time; median (range)\n")
    print(f"{'case':34} {'how':10} {'used of allowed, %':>26} {'429 per 1,000 after 1 min':>28} "
          f"{'429 in the first 20 s':>24}")
    good = True
    with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
        jobs = []
        for case in wanted:
            if args.seconds and case.seconds:
                case.seconds = args.seconds
            hows = ["nightmill"] + (["fixed 200", "AIMD"] if args.others and case.seconds else [])
            for how in hows:
                run = measure if case.seconds else lambda b, c, s, h: larger(b, c, s)
                jobs.append((case, how, [pool.submit(run, args.build, case, s, how)
                                         for s in seeds]))
        for case, how, runs in jobs:
            got = [r.result() for r in runs]
            if case.seconds == 0:
                ok = all(f["ok"] for f in got)
                print(f"{case.name:34} {how:10} every other job done: {ok}; refusals "
                      f"{spread([f['refused'] for f in got], '{:.0f}')}")
                good = good and ok
                continue
            line = (f"{case.name:34} {how:10} "
                    f"{spread([100 * f['util'] for f in got], '{:.1f}'):>26} "
                    f"{spread([f['late'] for f in got], '{:.1f}'):>28} "
                    f"{spread([f['early'] for f in got], '{:.0f}'):>24}")
            if "back" in got[0]:
                line += "  back after s: " + "; ".join(
                    spread([f["back"][i] for f in got], "{:.0f}") for i in (0, 1))
            if how == "nightmill":
                ok = all(within(case, f) for f in got)
                good = good and (ok or not case.aim)
                line += ("  within the aim" if ok else "  NOT WITHIN THE AIM") if case.aim else ""
            print(line, flush=True)
    print("\nevery run is within its aim" if good else "\nnot every run is within its aim")
    return 0 if good else 1


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    sys.exit(main())
