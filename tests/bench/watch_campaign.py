"""Drops 20,000 files into a queue that is watched, half of them written slowly, and looks
whether each was sent once and whole, and what the runner took of memory and descriptors
on the way.

usage: watch_campaign.py BUILD [--files N] [--slow-at-once N]
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
import urllib.request

a = argparse.ArgumentParser()
a.add_argument("build")
a.add_argument("--files", type=int, default=20000)
a.add_argument("--slow-at-once", type=int, default=500)
a = a.parse_args()

base = tempfile.mkdtemp(prefix="nightmill-watch-")
queue = os.path.join(base, "queue")
os.mkdir(queue)
sim = subprocess.Popen([f"{a.build}/sim/nightmill-sim", "--port", "0", "--set", "latency.ttft=5ms"],
                       stdout=subprocess.PIPE, text=True)
url = sim.stdout.readline().split()[0]
env = {**os.environ, "XDG_STATE_HOME": base, "ANTHROPIC_API_KEY": "sk-ant-campaign",
       "ANTHROPIC_BASE_URL": url}
runner = subprocess.Popen([f"{a.build}/runner/nightmill", "watch", queue], env=env,
                          stderr=open(f"{base}/said", "w"))


def stats():
    return json.load(urllib.request.urlopen(url + "/sim/stats"))


def memory():
    fields = dict(line.split(":", 1) for line in open(f"/proc/{runner.pid}/status"))
    fds = len(os.listdir(f"/proc/{runner.pid}/fd"))
    return {k: int(fields[k].split()[0]) for k in ("VmRSS", "VmHWM")} | {"fds": fds}


def text(n):
    return f"File number {n}. " + " ".join(f"word{n % 97}-{i}" for i in range(60)) + "\n"


def drop(first, last):
    """Every second one at once; the others in three parts, the pauses between them longer
    than what is asked of a file to be trusted, many of them open at a time."""
    slow = []
    for n in range(first, last):
        path = f"{queue}/d{n % 40}/f{n}.md"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        whole = text(n)
        if n % 2:
            with open(path, "w") as f:
                f.write(whole)
            continue
        f = open(path, "w")
        f.write(whole[:100])
        f.flush()
        slow.append((f, whole))
        if len(slow) == a.slow_at_once:
            finish(slow)
    finish(slow)


def finish(slow):
    time.sleep(2.5)
    for f, whole in slow:
        f.write(whole[100:200])
        f.flush()
    time.sleep(2.5)
    for f, whole in slow:
        f.write(whole[200:])
        f.close()
    slow.clear()


def wait_for(count):
    end = time.monotonic() + 300
    while stats()["served"] < count:
        if time.monotonic() > end or runner.poll() is not None:
            sys.exit(f"only {stats()['served']} of {count} were answered; see {base}/said")
        time.sleep(0.2)
    time.sleep(3)  # the last scan, the last sync


began = time.monotonic()
seen = []
mark = 0
for upto in (a.files // 4, a.files // 2, a.files * 3 // 4, a.files):
    drop(mark, upto)
    wait_for(upto)
    mark = upto
    seen.append((upto, memory()))
took = time.monotonic() - began
runner.terminate()
code = runner.wait()
requests = stats()["requests"]
sim.kill()
sim.wait()

db = sqlite3.connect(f"{queue}/.nightmill/queue.db")
rows = db.execute("SELECT j.name, j.state, j.revision, j.sendings, s.stamp FROM job j JOIN source s"
                  " ON s.id = j.source").fetchall()
torn = sum(int(stamp.split(":")[0]) != len(text(int(name.split("/f")[1])))
           or revision != 1 or sendings != 1 for name, _, revision, sendings, stamp in rows)
done = sum(state == 2 for _, state, *_ in rows)

print(f"{'files':>8} {'resident KiB':>13} {'peak KiB':>9} {'descriptors':>12}")
for upto, m in seen:
    print(f"{upto:>8} {m['VmRSS']:>13} {m['VmHWM']:>9} {m['fds']:>12}")
first, last = seen[0][1], seen[-1][1]
print(f"{done} of {a.files} done, {requests} requests, {torn} torn or sent twice; exit {code}; "
      f"{took:.0f} s")
print(f"from {seen[0][0]} to {seen[-1][0]} files: resident {last['VmRSS'] - first['VmRSS']:+} KiB, "
      f"peak {last['VmHWM'] - first['VmHWM']:+} KiB, descriptors {last['fds'] - first['fds']:+}")
fine = (done == a.files == requests and torn == 0 and code == 0 and last["fds"] <= first["fds"] and
        last["VmRSS"] <= first["VmRSS"] + 1024)
if fine:
    shutil.rmtree(base)
print("as it should be" if fine else f"NOT as it should be; see {base}")
sys.exit(not fine)
