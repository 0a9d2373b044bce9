"""Who wants to hear of a run hears of it, and can neither delay it nor make it fail."""
import http.server
import os
import re
import threading
import unittest

from story import AGAIN, DONE, FAILED, Story, lines


class Ears:
    """A server that is told things."""

    def __init__(self, status=200):
        self.heard = []
        ears = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                ears.heard.append((self.path, body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping/secret-uuid"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Notify(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.q.write("b.jsonl", lines(3))

    def ears(self, **how):
        e = Ears(**how)
        self.addCleanup(e.stop)
        return e

    def test_a_url_hears_of_the_beginning_and_the_end(self):
        e = self.ears()
        self.assert_exit(DONE, self.q.run(sets=[f"notify.url={e.url}/"]))
        (start, nothing), (end, says) = e.heard
        self.assertRegex(start, r"^/ping/secret-uuid/start\?rid=[0-9a-f-]{36}$")
        self.assertEqual(start.replace("start", "0"), end)
        self.assertEqual("", nothing)
        self.assertRegex(says, r"^exit 0: 3 done, 0 failed, 0 parked, 0 waiting; this run cost "
                               r"\$0\.\d+$")
        self.s.credit(set=0)
        self.q.write("c.jsonl", lines(2))
        self.assert_exit(AGAIN, self.q.run(sets=[f"notify.url={e.url}"]))
        self.assertIn("/75?rid=", e.heard[-1][0])
        self.assertIn("credit balance", e.heard[-1][1])

    def test_a_deaf_url_is_a_warning_that_keeps_its_secret(self):
        e = self.ears(status=500)
        for url in (e.url, "http://127.0.0.1:1/ping/secret-uuid"):
            ended = self.q.run(sets=[f"notify.url={url}"])
            self.assert_exit(DONE, ended)
            self.assertIn("notify.url: 127.0.0.1:", ended.err)
            self.assertNotIn("secret-uuid", ended.err)

    def test_a_command_is_run_with_the_figures_and_without_the_key(self):
        out = os.path.join(self.q.base, "told")
        self.s.fault("400", count=1)
        self.assert_exit(FAILED, self.q.run(sets=[
            "notify.shell=yes", f"notify.on_finish=env > {out}; cat >> {out}"]))
        with open(out) as f:
            told = f.read()
        for word in ("NIGHTMILL_EXIT=1", "NIGHTMILL_DONE=2", "NIGHTMILL_FAILED=1",
                     "NIGHTMILL_PARKED=0", "NIGHTMILL_WAITING=0",
                     f"NIGHTMILL_DIR={os.path.realpath(self.q.path)}"):
            self.assertIn(word + "\n", told)
        self.assertRegex(told, r"(?m)^NIGHTMILL_SPENT_USD=0\.\d+$")
        self.assertTrue(told.endswith(re.search(r"(?m)^NIGHTMILL_SAYS=(.*)$", told)[1]))
        self.assertNotIn("ANTHROPIC_API_KEY", told)

    def test_a_command_that_fails_changes_nothing_but_says_so(self):
        ended = self.q.run(sets=["notify.on_finish=/no/such/program"])
        self.assert_exit(DONE, ended)
        self.assertIn("notify.on_finish: ", ended.err)

    def test_a_file_for_prometheus_is_written_whole(self):
        path = os.path.join(self.q.base, "nightmill.prom")
        self.q.path += "/../queue"  # one label, from wherever it is named
        self.assert_exit(DONE, self.q.run(sets=[f"notify.textfile={path}"]))
        self.assertEqual([], [n for n in os.listdir(self.q.base) if n.endswith(".tmp")])
        with open(path) as f:
            text = f.read()
        helped, typed, values = set(), {}, {}
        for row in text.splitlines():
            if m := re.fullmatch(r"# HELP (\w+) .+", row):
                helped.add(m[1])
            elif m := re.fullmatch(r"# TYPE (\w+) (gauge|counter)", row):
                typed[m[1]] = m[2]
            else:
                m = re.fullmatch(r'(\w+)\{queue="((?:[^"\\]|\\.)*)"(,state="(\w+)")?\} ([\d.]+)',
                                 row)
                self.assertTrue(m, row)
                self.assertIn(m[1], typed)
                self.assertEqual(os.path.realpath(self.q.path), m[2])
                values[m[1], m[4]] = float(m[5])
        self.assertEqual(helped, set(typed))
        self.assertEqual(3, values["nightmill_jobs", "done"])
        self.assertEqual(0, values["nightmill_last_exit_code", None])
        self.assertAlmostEqual(float(self.q.status()["spent_usd"]),
                               values["nightmill_spent_dollars_total", None])
        ended = self.q.run(sets=["notify.textfile=/no/such/dir/x.prom"])
        self.assert_exit(DONE, ended)
        self.assertIn("notify.textfile", ended.err)


if __name__ == "__main__":
    unittest.main()
