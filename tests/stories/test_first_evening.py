"""The errors of the first evening: each ends in a sentence that says what to do. And
`nightmill check`, which finds them before the night."""
import contextlib
import email.utils
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from story import (AGAIN, CONSENT, DONE, FAILED, KEY, KEY_REFUSED, STORE, Story, lines, wait_until)


class Evening(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.q.write("a.md", "What is new?")

    def last(self, ended, code, says):
        """It ended so, and said so."""
        self.assert_exit(code, ended)
        self.assertRegex(ended.err, says)

    def check(self, *args, **more):
        """`check`, as a dictionary of what was found, by what was looked at."""
        ended = self.q.tell("check", "--json", *args, **more)
        told = json.loads(ended.out)
        self.assertEqual(ended.code, told["exit"])
        self.assertEqual("", ended.err)
        for row in told["checks"]:
            if row["level"] != "ok":
                self.assertTrue(row["do"], f"it does not say what to do: {row}")
        return ended.code, told["checks"]

    def assert_found(self, found, code, level, what, says, do):
        self.assertEqual(code, found[0], found[1])
        rows = [r for r in found[1] if (r["level"], r["what"]) == (level, what)]
        self.assertTrue(any(says in r["found"] and do in (r["do"] or "") for r in rows),
                        found[1])


class FirstErrors(Evening):
    def test_without_a_key_both_say_where_one_may_come_from(self):
        env = {"ANTHROPIC_API_KEY": ""}
        self.last(self.q.run(env=env), CONSENT,
                  r"no API key; export ANTHROPIC_API_KEY, or set api\.key_file to a file "
                  r"with it\n$")
        self.assert_found(self.check(env=env), CONSENT, "FAIL", "key", "no API key",
                          "export ANTHROPIC_API_KEY")
        self.assertEqual(0, self.s.requests())

    def test_a_wrong_key_is_refused_and_where_to_look_is_said(self):
        env = {"ANTHROPIC_API_KEY": "sk-ant-wrong"}
        s = self.sim("auth.keys=" + KEY)
        env["ANTHROPIC_BASE_URL"] = s.url
        self.last(self.q.run(env=env), KEY_REFUSED,
                  r"the key was refused .*Check ANTHROPIC_API_KEY")
        self.assert_found(self.check(env=env), KEY_REFUSED, "FAIL", "key",
                          "the API refuses it", "a valid key")

    def test_a_key_file_that_others_can_read_is_not_used(self):
        path = os.path.join(self.q.base, "key")
        with open(path, "w") as f:
            f.write("sk-ant-in-a-file\n")
        os.chmod(path, 0o644)
        env, sets = {"ANTHROPIC_API_KEY": ""}, ["api.key_file=" + path]
        self.last(self.q.run(env=env, sets=sets), CONSENT,
                  r"others can read it; chmod 600 it\n$")
        self.assert_found(self.check(env=env, sets=sets), CONSENT, "FAIL", "key",
                          "others can read it; chmod 600 it", "put it right")
        os.chmod(path, 0o600)
        self.assert_found(self.check(env=env, sets=sets), DONE, "ok", "key",
                          "api.key_file, accepted", "")

    def test_a_key_file_that_is_not_as_it_should_be_says_how_it_should(self):
        path = os.path.join(self.q.base, "key")
        env, whole = {"ANTHROPIC_API_KEY": ""}, "want the key and nothing else"
        for text, name, says in (
                (None, path, "No such file or directory; put the key there, or name the "
                             "file that holds it"),
                (None, "~/key", "want the whole path, without ~"),
                (None, self.q.base, "a directory; name the file in it"),
                ("", path, "no key in it; " + whole),
                ("export ANTHROPIC_API_KEY=" + KEY, path, whole),
                (KEY + "\n" + KEY + "\n", path, whole)):
            if text is not None:
                with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600),
                          "w") as f:
                    f.write(text)
            for args in ((), ("--quiet",)):
                self.last(self.q.run(*args, env=env, sets=["api.key_file=" + name]),
                          CONSENT, says + r"\n$")
            self.assert_found(self.check(env=env, sets=["api.key_file=" + name]), CONSENT,
                              "FAIL", "key", says, "put it right")
        self.assertEqual(0, self.s.requests())
        os.remove(path)

    def test_a_command_that_gives_no_key_is_to_be_run_by_hand(self):
        env, sets = {"ANTHROPIC_API_KEY": ""}, ["api.key_command=false"]
        says = "it failed; run it by hand to see why"
        self.last(self.q.run(env=env, sets=sets), CONSENT, says + r"\n$")
        self.assert_found(self.check(env=env, sets=sets), CONSENT, "FAIL", "key", says,
                          "put it right")

    def test_an_address_that_is_not_the_api_s_is_said_to_be_one(self):
        env = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
        for args in ((), ("--quiet",)):
            self.last(self.q.run(*args, env=env, sets=["limits.outage=1s"]), AGAIN,
                      r"unreachable: .*Check the network and api\.base_url; the same command "
                      r"goes on with the 1 waiting job\.\n")
        env = {"ANTHROPIC_BASE_URL": "http://example.com"}
        self.last(self.q.run(env=env), CONSENT, r"want https://HOST, or http:// to 127\.0\.0\.1")

    def test_a_wrong_model_is_named_with_the_tier_that_wants_it(self):
        sets = ["tier.standard.model=claude-zebra"]
        self.last(self.q.run(sets=sets), AGAIN,
                  r"claude-zebra.* is closed .*Change the tier's model or give it a fallback")
        found = self.check(sets=sets)
        self.assert_found(found, AGAIN, "FAIL", "model",
                          "claude-zebra (tier standard): the API does not know it",
                          "name a model")
        # The other models are there, and one of them is what credit is asked about with.
        self.assert_found(found, AGAIN, "ok", "credit", "probably some", "")

    def test_a_wrong_model_under_a_ceiling_is_named_as_well(self):
        sets = ["tier.standard.model=claude-zebra", "budget.run=1"]
        ended = self.q.run(sets=sets)
        self.last(ended, AGAIN, r"job=a waits: the price of claude-zebra is not known, and "
                                r"there is a ceiling; name a model of the catalogue, or")
        self.last(ended, AGAIN, r"nightmill: 1 job waits: .* or mend the model's name or price "
                                r"\(`nightmill check /.*`\), then run the same command\.\n")
        self.assertEqual(AGAIN, self.check(sets=sets)[0])
        self.assertEqual(0, self.s.stats()["served"])

    def test_every_mistake_of_an_ini_is_told_at_once_with_its_line(self):
        self.q.write("nightmill.ini",
                     "[limits]\nin_flight = 0\njust words\n[jobs]\ntyer = deep\n")
        ended = self.q.run()
        self.assert_exit(CONSENT, ended)
        for says in (r"ini:2: limits\.in_flight = 0: want a number from 1 to 1000\n",
                     r"ini:3: want \[section\], name = value, or a comment\n",
                     r"ini:5: jobs\.tyer: no such option; `nightmill options` has all\n",
                     r"3 mistakes in the configuration; mend them, then say it again\n$"):
            self.assertRegex(ended.err, says)
        found = self.check()
        self.assertEqual(3, sum(r["what"] == "configuration" for r in found[1]))
        self.assert_found(found, CONSENT, "FAIL", "configuration",
                          "ini:5: jobs.tyer: no such option", "mend that line")
        self.assertEqual(0, self.s.requests())

    def test_an_ini_that_is_not_there_is_named(self):
        says = r"none\.ini: No such file or directory; name an INI that you can read"
        self.last(self.q.run("--conf", "none.ini"), CONSENT, says + r"\n$")
        self.assert_found(self.check("--conf", "none.ini"), CONSENT, "FAIL",
                          "configuration", "name an INI that you can read", "mend")

    def test_an_ini_that_others_can_write_may_not_say_where_the_key_is(self):
        os.chmod(self.q.write("nightmill.ini", "[api]\nkey_file = /tmp/key\n"), 0o666)
        self.last(self.q.run(), CONSENT,
                  r"ini:2: api\.key_file: not taken from a file that others can write or "
                  r"own; chown it to yourself, chmod go-w, or use --conf\n$")
        self.assert_found(self.check(), CONSENT, "FAIL", "configuration",
                          "chmod go-w, or use --conf", "mend that line")

    def test_a_word_that_is_no_command_or_option_points_to_the_help(self):
        self.last(self.q.tell("rnu"), CONSENT, r"no such command: rnu; see nightmill --help\n$")
        for args in (["--frist"], ["--first", "x"], ["--until", "25:00"], ["more"]):
            self.last(self.q.run(*args), CONSENT, r"; see nightmill run --help\n$")

    def test_an_empty_directory_is_said_to_be_one(self):
        self.q.remove("a.md")
        self.last(self.q.run(), DONE, r"no job files in .*; put \.md, \.txt, \.json or "
                                      r"\.jsonl files there, then run the same command\n")
        self.assert_found(self.check(), DONE, "warn", "jobs", "no job files in",
                          "put .md, .txt, .json or .jsonl files there")
        self.assertEqual("", self.q.run("--quiet").err)

    def test_a_directory_that_is_not_there_is_named(self):
        shutil.rmtree(self.q.path)
        ended = self.q.run()
        self.assert_exit(CONSENT, ended)
        self.assertRegex(ended.err, r"queue: No such file or directory; name the directory "
                                    r"of your job files\n$")
        self.assert_found(self.check(), CONSENT, "FAIL", "queue", "No such file",
                          "name the directory")
        os.makedirs(self.q.path)

    def test_a_file_is_not_taken_for_a_directory(self):
        self.q.path = self.q.at("a.md")
        says = "a.md: not a directory; name the directory of your job files"
        self.last(self.q.run(), CONSENT, says + r"\n$")
        self.assert_found(self.check(), CONSENT, "FAIL", "queue", "not a directory",
                          "name the directory")

    def test_a_job_that_cannot_be_read_says_where_and_cron_hears_where_to_look(self):
        self.q.write("b.json", '{"a": 1}')
        self.last(self.q.run(), FAILED, r"b\.json:1: neither messages nor params; want a "
                                        r"Messages body")
        ended = self.q.run("--quiet")
        self.last(ended, FAILED, rf"why jobs failed: `nightmill status {self.q.path}`; to send "
                                 rf"them again: `nightmill retry {self.q.path}`\n$")
        self.assertNotIn("results are in", ended.err)

    def test_without_credit_both_say_so(self):
        self.s.credit(set=0)
        self.last(self.q.run("--quiet"), AGAIN, r"Add credit, then run the same command: it "
                  r"sends one request, and goes on with the 1 waiting job if")
        self.last(self.q.run(), AGAIN, r"out of credit .*Add credit, then run the same command")
        self.assert_found(self.check(), AGAIN, "FAIL", "credit", "none is left", "add credit")
        found = self.check()
        self.assert_found(found, AGAIN, "warn", "account", "no credit", "sends one request")

    def test_a_second_runner_is_sent_away(self):
        go = threading.Event()
        api = self.recorder(lambda _: go.wait() and None)
        self.addCleanup(go.set)
        r = self.start(self.q, env={"ANTHROPIC_BASE_URL": api.url})
        wait_until(lambda: api.requests, why="the first runner")
        self.last(self.q.run(), AGAIN, r"another nightmill is at work on .*; let it end, or "
                                       r"look with `nightmill status`\n$")
        self.assert_found(self.check(), AGAIN, "FAIL", "queue", "at work", "let it end")
        # The night before is still at work: cron need not wake anybody.
        self.assertEqual((AGAIN, "", ""), tuple(self.q.run("--quiet")))
        go.set()
        self.assert_exit(DONE, r.wait())

    def small_disk(self, size):
        where = tempfile.mkdtemp(prefix="nightmill-story-disk-")
        self.addCleanup(shutil.rmtree, where, True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "story", where],
                          capture_output=True, check=False).returncode != 0:
            self.skipTest("no right to mount")
        self.addCleanup(subprocess.run, ["umount", where], check=True)
        return where

    def test_a_full_disk_is_found_before_and_during(self):
        where = self.small_disk("3m")
        sets = [f"store.dir={where}/state"]
        self.last(self.q.run(sets=sets + ["store.patience=1s"]), STORE,
                  r"Nothing is lost; make room, then run the same command")
        self.assert_found(self.check(sets=sets), STORE, "FAIL", "disk: state", "MiB free",
                          "make room")

    def test_a_disk_that_is_full_to_the_brim_is_named_as_the_cause(self):
        where = self.small_disk("2m")
        with open(where + "/else", "wb") as f, contextlib.suppress(OSError):
            f.write(bytes(2 << 20))
        for args in ({"sets": [f"store.dir={where}/state"]},
                     {"env": {"XDG_STATE_HOME": where}}):
            self.last(self.q.run(**args), STORE, r"^nightmill: .*; the disk is full: make room, "
                                                 r"then run the same command\n$")

    def test_a_state_that_has_no_place_to_lie_in_is_not_begun_elsewhere(self):
        self.last(self.q.run(sets=[f"store.dir={self.q.base}/not/mounted"]), STORE,
                  r"not/mounted cannot be made: the directory that is to hold it is not there; "
                  r"make that, or change store\.dir\n$")

    def test_a_place_that_nobody_may_write_is_found(self):
        with open(os.path.join(self.q.base, "file"), "w") as f:
            f.write("no directory")
        sets = [f"results.dir={self.q.base}/file/results"]
        self.last(self.q.run(sets=sets), STORE,
                  r"file/results cannot be made: .*; make it yourself, or name another place")
        self.assert_found(self.check(sets=sets), STORE, "FAIL", "disk: results",
                          "cannot be written", "set another directory")


class Check(Evening):
    def test_when_all_is_well_it_says_so_and_leaves_no_trace(self):
        before = self.q.files()
        ended = self.q.tell("check")
        self.assert_exit(DONE, ended)
        self.assertTrue(ended.out.endswith("ready for the night\n"), ended.out)
        self.assertNotIn("warn", ended.out)
        self.assertNotIn("FAIL", ended.out)
        self.assertEqual(before, self.q.files())
        self.assertFalse(os.path.exists(os.path.join(self.q.base, "state")))
        self.assertEqual((0, 0), (self.s.requests(), self.s.served()))
        self.assertEqual((DONE, "", ""), tuple(self.q.tell("check", "--quiet")))

    def test_paid_sends_one_tiny_request_and_tells_its_price(self):
        s = self.sim("limits.rpm=50", "limits.itpm=30000", "limits.otpm=8000")
        found = self.check("--paid", env={"ANTHROPIC_BASE_URL": s.url})
        self.assert_found(found, DONE, "ok", "paid", "claude-haiku-5-5 answered; it cost $0.", "")
        self.assert_found(found, DONE, "ok", "limits",
                          "50 requests, 30000 input tokens, 8000 output tokens a minute", "")
        self.assertEqual(1, s.requests())

    def test_what_a_run_learned_is_told(self):
        s = self.sim("limits.rpm=50", "limits.itpm=30000", "limits.otpm=8000")
        env = {"ANTHROPIC_BASE_URL": s.url}
        self.assert_exit(DONE, self.q.run(env=env))
        self.assert_found(self.check(env=env), DONE, "ok", "limits",
                          "sonnet-5.5: 50 requests, 30000 input tokens", "")

    def test_models_that_retire_and_those_of_fallbacks_and_routes_are_looked_at(self):
        path = os.path.join(self.q.base, "models.ini")
        soon = time.strftime("%Y-%m-%d", time.localtime(time.time() + 9 * 86400))
        with open(path, "w") as f:
            f.write(f"[model claude-opus-4-6]\nretires = {soon}\n")
        found = self.check(sets=["catalog.file=" + path, "tier.old.model=claude-opus-4-6",
                                 "tier.deep.model=claude-none", "tier.deep.fallback=old",
                                 "route.r.match=x*", "route.r.model=claude-nobody"])
        self.assert_found(found, AGAIN, "warn", "model",
                          f"claude-opus-4-6 (tier old): by the catalogue it retires on {soon}",
                          "name its successor")
        self.assert_found(found, AGAIN, "warn", "model", "claude-none (tier deep)",
                          "its jobs take tier old")
        self.assert_found(found, AGAIN, "FAIL", "model", "claude-nobody (route r)",
                          "name a model")

    def test_a_spend_limit_names_the_day(self):
        s = self.sim("spend.limit=0")
        self.assert_found(self.check(env={"ANTHROPIC_BASE_URL": s.url}), AGAIN, "FAIL",
                          "credit", "a spend limit is reached", "wait until 20")

    def test_an_endpoint_that_is_not_there_is_said_once(self):
        found = self.check(env={"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"})
        self.assert_found(found, AGAIN, "FAIL", "endpoint", "does not answer",
                          "check the network")
        self.assertEqual(1, sum(r["level"] == "FAIL" for r in found[1]))

    def test_a_proxy_is_told_without_its_password(self):
        env = {"HTTPS_PROXY": "http://me:hush@127.0.0.1:1", "ANTHROPIC_API_KEY": "k",
               "ANTHROPIC_BASE_URL": "https://127.0.0.1:1"}
        found = self.check(env=env)
        self.assert_found(found, AGAIN, "warn", "proxy", "through 127.0.0.1:1 (HTTPS_PROXY)",
                          "unset it")
        self.assertNotIn("hush", json.dumps(found))

    def test_others_that_may_write_the_queue_are_a_warning(self):
        os.chmod(self.q.path, 0o777)
        self.assert_found(self.check(), DONE, "warn", "owner", "others can", "chmod go-w")

    def test_it_works_without_a_directory(self):
        words = [w for w in self.q.command("check") if w != self.q.path]
        ended = subprocess.run(words, env=self.q.env, capture_output=True, text=True,
                               cwd=self.q.base, check=False)
        self.assertEqual(DONE, ended.returncode, ended.stderr)
        self.assertNotIn("queue", ended.stdout)

    def test_a_clock_that_is_off_is_noticed(self):
        for off, level, says in ((3600, "warn", "behind the API's"),
                                 (-3600, "warn", "ahead of the API's"),
                                 (5, "ok", "as the API's")):
            class Late(http.server.BaseHTTPRequestHandler):
                ahead = off

                def answer(self):
                    self.rfile.read(int(self.headers.get("content-length", 0)))
                    self.send_response_only(200)
                    self.send_header("Date", email.utils.formatdate(
                        time.time() + self.ahead, usegmt=True))
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

                do_GET = do_POST = answer

                def log_message(self, *_):
                    pass
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                found = self.check(
                    env={"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}"})
            finally:
                server.shutdown()
                server.server_close()
            self.assert_found(found, DONE, level, "clock", says, "timedatectl" if
                              level == "warn" else "")


if __name__ == "__main__":
    unittest.main()
