"""What a person sees of a run: a live view on a terminal, plain lines elsewhere. The
terminal is tmux's, which tells what it shows."""
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

from story import AGAIN, DONE, FAILED, Story, body, lines, paced, wait_until


class Terminal:
    """A tmux of one's own, with one window of that size."""

    def __init__(self, base, env, columns, rows, term="screen-256color"):
        self.socket = os.path.join(base, "tmux")
        self.env = {**env, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        self.conf = os.path.join(base, "tmux.conf")
        with open(self.conf, "w") as f:
            f.write(f"set -g status off\nset -g history-limit 5000\n"
                    f"set -g default-terminal {term}\nset -g remain-on-exit on\n")
        self.columns, self.rows = columns, rows

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, "-f", self.conf, *args],
                              env=self.env, capture_output=True, text=True, check=True,
                              timeout=30).stdout

    def begin(self, command):
        # As in use, something was said before; a terminal that makes more rows of wide
        # lines pushes what stands at its top out of reach.
        script = "trap : INT; seq -f 'before %g' 60; " + shlex.join(command) + "; echo exit=$?; exec cat"
        self.tmux("new-session", "-d", "-x", str(self.columns), "-y", str(self.rows),
                  "sh", "-c", script)

    def shows(self):
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")

    def all(self):
        """With what has scrolled away; lines that the terminal broke are whole again."""
        said = self.tmux("capture-pane", "-p", "-J", "-S", "-").rstrip().split("\n")
        return [row for row in said if not row.startswith("before ")]

    def wait(self, pattern, seconds=30):
        """The screen that first shows it."""
        found = []

        def look():
            found[:] = self.shows()
            return re.search(pattern, "\n".join(found))
        try:
            wait_until(look, seconds=seconds, why=pattern)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in\n" + "\n".join(self.all())) from None
        return list(found)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def told(self):
        """The size that the program in it can ask for."""
        fd = os.open(self.tmux("display", "-p", "#{pane_tty}").strip(),
                     os.O_RDWR | os.O_NOCTTY)
        try:
            size = os.get_terminal_size(fd)
        finally:
            os.close(fd)
        return size.columns, size.lines

    def still(self, yes):
        """The program stands, or goes on."""
        shell = self.tmux("display", "-p", "#{pane_pid}").strip()
        with open(f"/proc/{shell}/task/{shell}/children") as f:
            for pid in f.read().split():
                os.kill(int(pid), signal.SIGSTOP if yes else signal.SIGCONT)

    def type(self, *keys):
        self.tmux("send-keys", *keys)

    def stop(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True,
                       check=False)


BAR = re.compile(r"^\[=*\.*\] +\d+ %  [\d,]+ of [\d,]+ done(, \d+ failed)?  \d+:\d\d"
                 r"(, .* to (go|\.\.\.))?")
LANE = re.compile(r"^\S+ +[\d,]+ done +\d+ out .*\$\d+\.\d+$")
MONEY = re.compile(r"^spent \$\d+\.\d+")


class View(Story):
    def setUp(self):
        if shutil.which("tmux") is None:
            self.skipTest("tmux is not installed")

    def begin(self, q, columns, rows, *args, sets=(), term="screen-256color"):
        base = tempfile.mkdtemp(prefix="nightmill-story-screen-")
        self.addCleanup(shutil.rmtree, base, True)
        t = Terminal(base, q.env, columns, rows, term)
        self.addCleanup(t.stop)
        t.begin(q.command("run", *args, sets=sets))
        return t

    def assert_view(self, shown):
        """One view, whole: bar, then lanes, then money, each line as it should be."""
        bars = [i for i, row in enumerate(shown) if BAR.match(row)]
        self.assertEqual(1, len(bars), "\n".join(shown))
        at = bars[0] + 1
        lanes = 0
        while at < len(shown) and LANE.match(shown[at]):
            lanes += 1
            at += 1
        self.assertGreater(lanes, 0, "\n".join(shown))
        while at < len(shown) and re.match(r"^(failed|waiting): ", shown[at]):
            at += 1
        self.assertRegex(shown[at], MONEY, "\n".join(shown))
        return bars[0], at

    def slow(self, count=400, *sets):
        s = self.sim("latency.ttft=" + paced("150ms", "1s"), *sets)
        q = self.queue(s)
        q.write("b.jsonl", lines(count))
        return s, q

    def at_size(self, columns, rows):
        """A run with successes, a failure and two lanes on a window of that size."""
        s, q = self.slow(300)
        q.write("bad.json", body("spoiled"))
        q.write("deep.md", "---\ntier: deep\n---\nThink.")
        s.fault("400", match="spoiled")
        t = self.begin(q, columns, rows, sets=["limits.in_flight=12", "budget.run=5"])
        shown = t.wait(r"failed: bad: .*\n(?s:.)*spent \$0\.\d+ of \$5\.00")
        first, last = self.assert_view(shown)
        self.assertFalse(any(shown[last + 1:]), "\n".join(shown))
        self.assertTrue(any(r.startswith("sonnet-5.5 ") for r in shown), shown)
        self.assertTrue(any(re.match(r"\d\d:\d\d:\d\d warning: job=bad failed", r) for r in shown[:first]), shown)
        end = t.wait(r"exit=1")
        whole = t.all()
        first, last = self.assert_view(whole)
        self.assertRegex(whole[first], r"100 %  301 of 302 done, 1 failed")
        self.assertNotIn("to go", whole[first])
        self.assertTrue(any(r.startswith("nightmill: 301 done, 1 failed")
                            for r in whole[last + 1:]), "\n".join(whole))
        return end

    def test_on_80_columns_everything_is_there_and_the_summary_stays_below(self):
        self.at_size(80, 24)

    def test_on_200_columns_too(self):
        self.at_size(200, 50)

    def test_on_40_columns_the_words_that_count_are_kept(self):
        _, q = self.slow(400)
        t = self.begin(q, 40, 10, sets=["limits.in_flight=4"])
        shown = t.wait(r"(?m)^\d+ %  \d+ of 400, (about )?\S+ .*\nsonnet-5.5 .* \$\d\S+\nspent \$")
        self.assertTrue(all(len(row) < 40 for row in shown[-4:]), "\n".join(shown))
        t.type("C-c")
        t.wait(r"exit=75")

    def test_a_window_that_changes_its_size_leaves_no_torn_lines(self):
        _, q = self.slow(4000)
        t = self.begin(q, 120, 30, sets=["limits.in_flight=4"])
        t.wait(r"\n.*spent \$")
        for columns, rows in ((60, 20), (150, 40), (80, 10), (100, 30)):
            # Still while the window changes: tmux tells of the new size a little after it
            # broke the lines anew, and a drawing in between cannot know.
            t.still(True)
            t.resize(columns, rows)
            wait_until(lambda: t.told() == (columns, rows), why="the size to be told")
            t.still(False)

            def settled():
                shown = t.shows()
                return (any(BAR.match(r) for r in shown) and
                        any(MONEY.match(r) for r in shown) and
                        any(LANE.match(r) and len(r) == min(columns - 1, 120)
                            for r in shown) and shown)
            shown = wait_until(settled, why=f"a view of {columns} columns")
            self.assert_view(shown)
        t.type("C-c")
        t.wait(r"exit=75")
        self.assert_view([r for r in t.all() if r])

    def test_a_hold_is_named_with_its_end(self):
        s, q = self.slow(60)
        s.fault("429", at=[5], retry_after=30)
        t = self.begin(q, 100, 24)
        shown = t.wait(r"held until \d\d:\d\d:\d\d \(rate limited")
        self.assert_view(t.wait(r"waiting: .*held"))
        self.assertNotIn("\x1b", "\n".join(shown))
        t.type("C-c")
        t.wait(r"exit=75")

    def test_what_binds_is_named_with_its_share(self):
        _, q = self.slow(300, "limits.rpm=120", "limits.burst=2s")
        t = self.begin(q, 100, 24)
        self.assert_view(t.wait(r"sonnet-5\.5 .*\d+ % of requests"))
        self.assert_view(t.wait(r"about \d+ min to go"))
        t.type("C-c")
        t.wait(r"exit=75")

    def test_a_small_terminal_a_dumb_one_and_a_quiet_run_have_no_view(self):
        for columns, rows, term, args in ((36, 20, "screen", ()), (80, 3, "screen", ()),
                                          (80, 24, "dumb", ()),
                                          (80, 24, "screen", ("--quiet",))):
            s = self.sim()
            q = self.queue(s)
            q.write("a.md", "What?")
            t = self.begin(q, columns, rows, *args, term=term)
            t.wait(r"exit=0")
            text = "\n".join(t.all())
            self.assertNotIn(" % ", text)
            self.assertEqual("--quiet" not in args, "1 done, 0 failed" in text, text)
            if args:
                self.assertEqual("exit=0", text.strip())


class Plain(Story):
    def test_through_a_pipe_there_are_plain_lines_and_no_escape_byte(self):
        s = self.sim()
        q = self.queue(s)
        q.env["TERM"] = "xterm-256color"
        q.write("b.jsonl", lines(30))
        q.write("bad.json", body("spoiled \x1b[2J"))
        s.fault("400", match="spoiled", message="no \x1b[31m red")
        ended = q.run()
        self.assert_exit(FAILED, ended)
        for text in (ended.out, ended.err):
            self.assertNotIn("\x1b", text)
            self.assertNotIn("\r", text)
        self.assertIn("30 done, 1 failed", ended.err)

    def test_a_long_run_says_how_far_it_is_now_and_then_but_not_a_quiet_one(self):
        s = self.sim("latency.ttft=6s")
        running = []
        for args in ((), ("--quiet",)):
            q = self.queue(s)
            q.write("a.md", "What?")
            running.append(self.start(q, *args))
        said, quiet = [r.wait() for r in running]
        self.assertEqual((DONE, "", ""), tuple(quiet))
        self.assertRegex(said.err, r"(?m)^progress done=0 failed=0 parked=0 in_flight=1 ")

    def test_quiet_says_nothing_unless_a_person_is_needed(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.md", "What?")
        self.assertEqual((DONE, "", ""), tuple(q.run("--quiet")))
        s.credit(set=0)
        q.write("b.md", "What else?")
        ended = q.run("--quiet")
        self.assert_exit(AGAIN, ended)
        self.assertRegex(ended.err, r"^nightmill: .*\n(nightmill: .*\n)*$")


if __name__ == "__main__":
    unittest.main()
