"""What the stories share: a simulator, a queue, and ways to look at both.

A story is a test that runs the real program against nightmill-sim and asks both sides
what happened: the results and the store on one, the simulator's own log on the other.
Nothing sleeps to be in time; whoever waits, waits for a condition.

The programs are named by NIGHTMILL and NIGHTMILL_SIM. With STORY_VALGRIND=1 nightmill
runs under valgrind (build it without sanitizers for that).
"""
import collections
import glob
import http.client
import http.server
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

NIGHTMILL = os.environ.get("NIGHTMILL", "nightmill")
NIGHTMILL_SIM = os.environ.get("NIGHTMILL_SIM", "nightmill-sim")
EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "examples")
KEY = "sk-ant-api03-a-story-told-to-nobody-0123456789"

VALGRIND = []
SLOWER = 1
if os.environ.get("STORY_VALGRIND"):
    VALGRIND = ["valgrind", "--vgdb=no", "--error-exitcode=99", "--leak-check=full", "-q"]
    SLOWER = 15

DONE, FAILED, CONSENT, STORE, AGAIN, KEY_REFUSED = 0, 1, 2, 74, 75, 77
EXITS = {DONE, FAILED, CONSENT, STORE, AGAIN, KEY_REFUSED}

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"

Ended = collections.namedtuple("Ended", "code out err")


def paced(usual, under_valgrind):
    """A figure of the story's own clock: how long an answer takes, how long a hold lasts.
    Under valgrind a program alone takes seconds to begin, so what should still go on when
    it has begun must last longer there."""
    return usual if SLOWER == 1 else under_valgrind


def wait_until(condition, seconds=20, why="the condition"):
    """What `condition` gives once that is true; an AssertionError if it never is."""
    end = time.monotonic() + seconds * SLOWER
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds * SLOWER} s in vain for {why}")
        time.sleep(0.01)


def line(custom_id, prompt=None, **more):
    """One line of a bulk file, in the shape of the Message Batches API."""
    params = {"max_tokens": 4000,
              "messages": [{"role": "user", "content": prompt or f"job {custom_id}"}]}
    hints = more.pop("nightmill", None)
    params.update(more)
    whole = {"custom_id": custom_id, "params": params}
    if hints is not None:
        whole["nightmill"] = hints
    return json.dumps(whole) + "\n"


def lines(count, first=0, **more):
    return "".join(line(f"j{n}", **more) for n in range(first, first + count))


def body(prompt, **more):
    """A Messages body, as a .json job holds it."""
    return json.dumps({"max_tokens": 4000,
                       "messages": [{"role": "user", "content": prompt}], **more})


class Sim:
    """A nightmill-sim of one's own, on a free port."""

    def __init__(self, *sets, port=0):
        args = [NIGHTMILL_SIM, "--port", str(port)]
        for s in sets:
            args += ["--set", s]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[0]
        self.port = int(self.url.rsplit(":", 1)[1])

    def ask(self, method, path, value=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWER)
        try:
            c.request(method, path, None if value is None else json.dumps(value))
            answer = c.getresponse()
            text = answer.read().decode()
        finally:
            c.close()
        if answer.status != 200:
            raise AssertionError(f"the simulator refused {path}: {text}")
        return text

    def stats(self, jobs=False):
        return json.loads(self.ask("GET", "/sim/stats" + ("?jobs=1" if jobs else "")))

    def requests(self):
        return self.stats()["requests"]

    def served(self):
        return self.stats()["served"]

    def log(self, **only):
        """The log's rows, those alone whose members are as given."""
        rows = map(json.loads, self.ask("GET", "/sim/log").splitlines())
        return [r for r in rows if all(r[k] == v for k, v in only.items())]

    def fault(self, kind, **how):
        self.ask("POST", "/sim/fault", {"kind": kind, **how})

    def clear_faults(self):
        self.ask("POST", "/sim/fault", {"clear": True})

    def credit(self, **how):
        self.ask("POST", "/sim/credit", how)

    def set(self, **values):
        """latency_ttft="1s" sets latency.ttft."""
        self.ask("POST", "/sim/set",
                 {k.replace("_", ".", 1): v for k, v in values.items()})

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Recorder:
    """A server that keeps what it is sent, byte for byte. `answer(request)` may return
    (status, headers, body); without it each request gets a short message."""

    Request = collections.namedtuple("Request", "path headers raw body")
    MESSAGE = {"id": "msg_story", "type": "message", "role": "assistant",
               "content": [{"type": "text", "text": "Yes."}], "stop_reason": "end_turn",
               "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2}}

    def __init__(self, answer=None):
        self.requests = []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["content-length"]))
                rq = Recorder.Request(self.path, dict(self.headers), raw,
                                      json.loads(raw))
                recorder.requests.append(rq)
                status, headers, text = (answer and answer(rq)) or (
                    200, {}, json.dumps({**Recorder.MESSAGE, "model": rq.body["model"]}))
                self.send_response(status)
                for name, value in {"content-type": "application/json",
                                    "request-id": "req_story", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,),
                         daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Running:
    """A nightmill that is at work."""

    def __init__(self, args, env, base):
        self.out = tempfile.TemporaryFile("w+", dir=base)
        self.err = tempfile.TemporaryFile("w+", dir=base)
        self.process = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.err)
        self.pid = self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def terminate(self):
        self.signal(signal.SIGTERM)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def so_far(self):
        """What it has said on standard error until now."""
        fd = self.err.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def wait(self, timeout=60):
        try:
            self.process.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            said = self.so_far()[-4000:]
            self.out.close()
            self.err.close()
            raise AssertionError(f"nightmill did not end in {timeout * SLOWER} s; it "
                                 f"said:\n{said}") from None
        ended = []
        for f in (self.out, self.err):
            f.seek(0)
            ended.append(f.read())
            f.close()
        code = self.process.returncode
        if code not in EXITS and code != -signal.SIGKILL:
            raise AssertionError(f"exit {code} has no meaning:\n{ended[1][-6000:]}")
        if "runtime error:" in ended[1] or "Sanitizer" in ended[1]:
            raise AssertionError(f"a sanitizer spoke:\n{ended[1][-6000:]}")
        if VALGRIND and f"=={self.pid}==" in ended[1]:  # its exit code is lost in a kill
            raise AssertionError(f"valgrind spoke:\n{ended[1][-6000:]}")
        return Ended(code, *ended)


class Queue:
    """A directory of job files, and a home for nightmill's own state beside it."""

    def __init__(self, base, url, name="queue"):
        self.base = base
        self.path = os.path.join(base, name)
        self.sets = ["intake.settle=0s", "store.reserve=0B"]
        self.env = {"PATH": os.environ["PATH"], "HOME": base, "LANG": "C.UTF-8",
                    "XDG_STATE_HOME": os.path.join(base, "state"),
                    "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
        for watch in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            self.env[watch] = os.environ.get(watch, "") + ":exitcode=99"
        os.makedirs(self.path)
        self.said = []

    # --- files ---

    def at(self, *parts):
        return os.path.join(self.path, *parts)

    def write(self, name, text):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def append(self, name, text):
        with open(self.at(name), "a") as f:
            f.write(text)

    def remove(self, name):
        os.remove(self.at(name))

    def read(self, name):
        with open(self.at(name)) as f:
            return f.read()

    # --- the program ---

    def command(self, name, *args, sets=()):
        words = VALGRIND + [NIGHTMILL, name]
        for s in [*self.sets, *sets]:
            words += ["--set", s]
        return words + [self.path, *args]

    def start(self, *args, sets=(), env=None):
        return Running(self.command("run", *args, sets=sets), {**self.env, **(env or {})},
                       self.base)

    def start_watch(self, *args, sets=(), env=None):
        return Running(self.command("watch", *args, sets=sets),
                       {**self.env, **(env or {})}, self.base)

    def run(self, *args, sets=(), env=None, timeout=60):
        return self.tell("run", *args, sets=sets, env=env, timeout=timeout)

    def tell(self, name, *args, sets=(), env=None, timeout=60):
        """Any command on this queue, to its end."""
        r = Running(self.command(name, *args, sets=sets), {**self.env, **(env or {})},
                    self.base)
        ended = r.wait(timeout)
        self.said.append(ended)
        return ended

    def status(self):
        return json.loads(self.tell("status", "--json").out)

    # --- what came of it ---

    def json(self, name):
        return json.loads(self.read(f"results/{name}.json"))

    def text(self, name):
        return self.read(f"results/{name}.md")

    def bulk(self, name):
        """A bulk file's results by custom_id; a custom_id that comes twice is an error."""
        found = {}
        for row in self.read(f"results/{name}.jsonl").splitlines():
            row = json.loads(row)
            key = row["custom_id"] or row["nightmill"]["job"]
            if key in found:
                raise AssertionError(f"{key} has two lines")
            found[key] = row
        return found

    def results(self):
        """All results that `nightmill results` prints, by job; each job once."""
        found = {}
        for row in self.tell("results").out.splitlines():
            row = json.loads(row)
            if row["job"] in found:
                raise AssertionError(f"{row['job']} has two results")
            found[row["job"]] = row
        return found

    def outcomes(self):
        return {name: row["outcome"] for name, row in self.results().items()}

    def db(self, sql, *args):
        c = sqlite3.connect(f"file:{self.at('.nightmill', 'queue.db')}?mode=ro", uri=True)
        try:
            return c.execute(sql, args).fetchall()
        finally:
            c.close()

    def files(self):
        return {os.path.relpath(p, self.path)
                for p in glob.glob(self.path + "/**", recursive=True,
                                   include_hidden=True)
                if os.path.isfile(p)}


class Story(unittest.TestCase):
    """Gives simulators and queues, and takes them away. Behind every story it looks
    whether the key was left anywhere."""

    maxDiff = 4000

    def sim(self, *sets, port=0):
        s = Sim(*sets, port=port)
        self.addCleanup(s.stop)
        return s

    def recorder(self, answer=None):
        r = Recorder(answer)
        self.addCleanup(r.stop)
        return r

    def queue(self, sim=None, base=None, name="queue", url=None):
        """`base` of another queue: both belong to one user."""
        if base is None:
            base = tempfile.mkdtemp(prefix="nightmill-story-")
            self.addCleanup(shutil.rmtree, base, True)
        q = Queue(base, url or sim.url, name)
        self.addCleanup(self._no_key_in, q)
        return q

    def _no_key_in(self, q):
        for ended in q.said:
            self.assertNotIn(KEY, ended.out + ended.err)
        for folder, _, names in os.walk(q.base):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as f:
                        self.assertFalse(KEY.encode() in f.read(),
                                         f"the key lies in {path}")

    def start(self, q, *args, **more):
        r = q.start(*args, **more)
        self.addCleanup(lambda: r.process.poll() is None and r.process.kill())
        return r

    def watch(self, q, *args, **more):
        r = q.start_watch(*args, **more)
        self.addCleanup(lambda: r.process.poll() is None and r.process.kill())
        return r

    def assert_exit(self, code, ended):
        self.assertEqual(code, ended.code, f"it said:\n{ended.err[-3000:]}")

    def assert_jobs(self, q, **counts):
        """Counts by state; what is not named is none."""
        states = ("queued", "in_flight", "done", "failed", "parked", "gone")
        self.assertEqual({s: counts.get(s, 0) for s in states}, q.status()["jobs"])

    def assert_each_once(self, sim, count):
        """The simulator answered `count` jobs, each exactly once."""
        by_job = sim.stats(jobs=True)["by_job"]
        self.assertEqual(count, len(by_job))
        twice = {j: n for j, n in by_job.items() if n["answered"] != 1}
        self.assertEqual({}, twice)


