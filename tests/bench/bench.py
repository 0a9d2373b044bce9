"""CPU and memory of `nightmill run`, beside a bare libcurl and libuv loop.

    bench.py BUILD_DIR [--runs 5] [--jobs 20000] [--lines 200000]

Everything runs against nightmill-sim without limits, on this machine. CPU is user and
system time of the measured process alone, as the kernel accounts it when it ends. The
runs of the things compared take turns, so that a machine that slows down slows all of
them. Printed: median and range.
"""
import argparse
import http.client
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

SUBJECTS = ["the lighthouse", "a river in spring", "an old clock", "the night train",
            "a loaf of bread", "the harbour", "a garden wall", "the winter market"]


def request(n):
    subject = SUBJECTS[n % len(SUBJECTS)]
    text = (f"Question {n}. Somebody wrote three sentences about {subject}, and wants to know "
            f"in one word whether their tone is glad, sober or sad. The sentences: it stands "
            f"there since {1700 + n % 300}, nobody knows who made it, and on quiet evenings "
            f"people come by with their children to look at it for a while.")
    return {"model": "claude-haiku-5-5", "max_tokens": 8192, "system": "Answer in one word.",
            "messages": [{"role": "user", "content": text}]}


class Sim:
    """Answers of so many bytes and no log; 0: of so many tokens as it is told, and a log."""

    def __init__(self, build, answer_bytes):
        size = ["--set", f"output.bytes={answer_bytes}", "--set", "log.max=0"] if answer_bytes else []
        self.process = subprocess.Popen([f"{build}/sim/nightmill-sim", "--port", "0", *size],
                                        stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection(self.url.split("//")[1], timeout=30)
        c.request(method, path, None if body is None else json.dumps(body))
        text = c.getresponse().read().decode()
        c.close()
        return text

    def set(self, values):
        self.ask("POST", "/sim/set", values)

    def stats(self):
        return json.loads(self.ask("GET", "/sim/stats"))

    def log(self):
        return [json.loads(line) for line in self.ask("GET", "/sim/log").splitlines()]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def measure(argv, env=None):
    """The command's CPU seconds, wall seconds and peak memory in KiB."""
    start = time.monotonic()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{argv[0]} ended with {process.returncode}: {said}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss


def run_nightmill(build, sim, queue, state):
    for path in (f"{queue}/.nightmill", f"{queue}/results", state):
        shutil.rmtree(path, ignore_errors=True)
    env = dict(os.environ, ANTHROPIC_BASE_URL=sim.url, ANTHROPIC_API_KEY="sk-bench",
               XDG_STATE_HOME=state)
    return measure([f"{build}/runner/nightmill", "run", queue, "--quiet", "--set",
                    "intake.settle=0s"], env)


def spread(values, form="{:.1f}"):
    return (f"{form.format(statistics.median(values))} "
            f"({form.format(min(values))} to {form.format(max(values))})")


def write_bulk(path, count):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        for n in range(count):
            f.write(json.dumps({"custom_id": f"job-{n:07d}", "params": request(n)}) + "\n")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--runs", type=int, default=5)
    args.add_argument("--jobs", type=int, default=20000)
    args.add_argument("--lines", type=int, default=200000)
    args = args.parse_args()
    top = tempfile.mkdtemp(prefix="nightmill-bench-")
    bulk, singles, state = f"{top}/bulk", f"{top}/singles", f"{top}/state"
    write_bulk(f"{bulk}/b.jsonl", args.jobs)
    os.makedirs(singles)
    with open(f"{top}/bodies", "w") as bodies:
        for n in range(args.jobs):
            text = json.dumps(request(n))
            bodies.write(text + "\n")
            with open(f"{singles}/job-{n:07d}.json", "w") as f:
                f.write(text)
    print(f"{args.jobs} jobs, {args.runs} runs in turns, 256 in flight, synchronous=FULL; "
          f"median (range)")
    try:
        for size in (1024, 20480):
            sim = Sim(args.build, size)
            cpu, wall = {"bare": [], "bulk": [], "single": []}, {"bulk": [], "single": [], "bare": []}
            for _ in range(args.runs):
                for name, run in (
                        ("bare", lambda: measure([f"{args.build}/tests/bench/bench_bare",
                                                  f"{sim.url}/v1/messages", f"{top}/bodies", "256"])),
                        ("bulk", lambda: run_nightmill(args.build, sim, bulk, state)),
                        ("single", lambda: run_nightmill(args.build, sim, singles, state))):
                    c, w, _ = run()
                    cpu[name].append(c * 1e6 / args.jobs)
                    wall[name].append(args.jobs / w)
            sim.stop()
            print(f"\nanswers of {size // 1024} KB")
            for name, what in (("bare", "bare loop, keeps nothing"), ("bulk", "nightmill, one bulk file"),
                               ("single", f"nightmill, {args.jobs} files")):
                print(f"  {what:28} {spread(cpu[name])} us CPU a job, "
                      f"{spread(wall[name], '{:.0f}')} jobs/s")
            for name in ("bulk", "single"):
                ratios = [a / b for a, b in zip(cpu[name], cpu["bare"])]
                print(f"  {name:6} / bare, run by run      {spread(ratios, '{:.2f}')}")
        write_bulk(f"{top}/large/b.jsonl", args.lines)
        sim = Sim(args.build, 1024)
        _, wall, peak = run_nightmill(args.build, sim, f"{top}/large", state)
        sim.stop()
        print(f"\n{args.lines} lines in one file: peak {peak / 1024:.1f} MiB, {args.lines / wall:.0f} jobs/s")
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()
