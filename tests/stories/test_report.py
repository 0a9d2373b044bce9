"""The page for the morning after: what the night did, what it cost, what to do next."""
import html.parser
import json
import os
import re
import signal
import unittest

from story import (AGAIN, CONSENT, DONE, FAILED, HAIKU, NIGHTMILL, OPUS, STORE, Story, body,
                   lines, wait_until)

HOSTILE = "<img src=x onerror=alert('1')>&\u202e"
WORSE = HOSTILE + "\x1b[2J"
LADDER = ["jobs.ladder=cheap,deep", "tier.cheap.model=" + HAIKU, "tier.deep.model=" + OPUS]


class Page(html.parser.HTMLParser):
    """What a reader sees of a page; anything that is not well-formed is an error."""

    VOID = {"meta", "br", "link", "img", "input"}
    BREAKS = {"p", "li", "tr", "td", "th", "h1", "h2", "h3", "dt", "dd", "div", "section",
              "small", "figcaption", "span", "title", "b"}

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source, self.open, self.tags, self.attributes = source, [], [], []
        self.sections, self.heading, self.words = {"": []}, "", []
        self.feed(source)
        self.close()
        if self.open:
            raise AssertionError(f"left open: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            raise AssertionError(f"<{tag}> has an attribute twice")
        self.attributes += [(tag, *a) for a in attrs]
        if tag == "h2":
            self.heading = None
        if tag in self.BREAKS:
            self.words.append(" ")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing, line {self.getpos()}")

    def handle_data(self, data):
        if "style" in self.open:
            return
        if self.heading is None:
            self.heading = data
            self.sections.setdefault(data, [])
        self.sections[self.heading].append(data)
        self.words.append(data)

    def text(self, section=None):
        words = self.words if section is None else self.sections[section]
        return re.sub(r"\s+", " ", ("" if section is None else " ").join(words)).strip()


class Reporting(Story):
    def page(self, q, *args, code=DONE):
        ended = q.tell("report", *args)
        self.assert_exit(code, ended)
        if "--out" in args:
            return self.sound(ended.out)
        self.assertEqual(q.at("results", "report.html"), ended.out.strip())
        return self.sound(q.read("results/report.html"))

    def sound(self, source):
        """Well-formed, of one piece, and nothing in it runs or leads anywhere."""
        page = Page(source)
        for tag in ("script", "link", "img", "iframe", "object", "a", "form", "base"):
            self.assertNotIn(tag, page.tags)
        for tag, name, value in page.attributes:
            self.assertFalse(name.startswith("on"), f"<{tag} {name}={value}>")
            self.assertNotIn(name, ("src", "href", "action", "srcset", "xlink:href"))
        style = source[source.index("<style>"):source.index("</style>")]
        self.assertNotRegex(style, r"url\(|@import|https?:")
        self.assertIn("prefers-color-scheme: dark", style)
        self.assertIn("default-src 'none'", source)
        controls = [c for c in source if ord(c) < 32 and c != "\n"]
        self.assertEqual([], controls)
        return page


class Nights(Reporting):
    def test_a_night_with_everything_in_it(self):
        s = self.sim("limits.rpm=6000", "limits.itpm=900000", "limits.otpm=900000",
                     "output.sigma=0")
        q = self.queue(s)
        shared = "You read contracts with care, and quote what you rely on. " * 600
        for n in range(12):
            q.write(f"legal/c{n}.json", json.dumps({
                "params": json.loads(body(f"Clause {n}?", system=shared)),
                "nightmill": {"tier": "deep", "tags": ["legal", "night"]}}))
        q.write("plain.md", "What is two and two?")
        q.write("rules/one.md", "By a rule.")
        q.write("climbs.md", "---\ncheck: json\nroute: cascade\n---\nSay it as JSON.")
        q.write("broken.json", '{"params": {"max_tokens": 10}}')
        q.write("bad/one.md", "refuse me, please")
        q.write("bad/two.md", "refuse me, please")
        q.write(f"{WORSE}.md", "A name that no job may have.")
        q.write(f"{HOSTILE}.md", "---\ntags: x\n---\nrefuse me, too")
        s.fault("400", match="refuse me", message=f"no 17 <b>{HOSTILE}</b>")
        s.fault("429", first=1, match="two and two", retry_after=1)
        ended = q.run(sets=["route.r.match=rules/*", "route.r.tier=cheap", *LADDER])
        self.assert_exit(FAILED, ended)
        page = self.page(q)

        done = int(re.search(r"(\d+) done, 6 failed", ended.err)[1])
        self.assertEqual(14, done)
        self.assertRegex(page.text(), rf"{done} jobs done for \$[\d.]+ in ")
        self.assertRegex(page.text(), r"4 jobs failed or are parked; why is below\. To send "
                                      r"them again: nightmill retry /")
        self.assertIn("2 could not be read as jobs", page.text())
        self.assertRegex(page.text("Jobs of the queue"),
                         r"asked 20 done 14 failed 6 parked 0 waiting 0")

        why = page.text("Why jobs failed")
        self.assertRegex(why, r"3 no 17 <b><img.*failed, bad_request, invalid_request_error: "
                              r".*bad/one")
        self.assertRegex(why, r"1 no messages; want an array of them failed, invalid: broken")
        self.assertRegex(why, r"1 [^$]*not JSON.* failed, check_failed")
        named = re.search(r"invalid_request_error: (.*?&\ufffd|.*?bad/\w+) 1 ", why)[1]
        self.assertEqual({"bad/one", "bad/two", HOSTILE.replace("\u202e", "\ufffd")},
                         set(named.split(", ")))
        self.assertIn("invalid: <img src=x onerror=alert('1')>&\ufffd␛[2J", why)

        cost = page.text("Cost")
        self.assertRegex(cost, r"the cache saved \$0\.\d+ \d+ % of what was read came from it")
        self.assertRegex(cost, r"in doubt none")
        for by in ("deep", "cheap", "claude-haiku-5-5", "legal", "night", "(none)"):
            self.assertIn(by, cost)
        self.assertRegex(cost, r"forecast \$[\d.]+ to \$[\d.]+ likely \$[\d.]+ came to \$")
        self.assertIn("so it is a guess", cost)

        flow = page.text("Throughput and limits")
        self.assertRegex(flow, r"at most \d+ of 6,000")
        self.assertRegex(flow, r"rate limited: .*held for [\d.]+ s, at \d\d:\d\d:\d\d")
        self.assertEqual(page.tags.count("svg"), 3 * len(q.db(
            "SELECT DISTINCT lane FROM sending")))
        self.assertIn(("rect", "class", "held"), page.attributes)

        routing = page.text("Routing")
        self.assertRegex(routing, r"own word rule too little learned yet default climbed all")
        self.assertIn("legal/c", page.text("Slowest answers"))
        self.assertRegex(page.text("Dearest jobs"), r"^Dearest jobs job sent cost legal/c")
        self.assertRegex(page.text("Runs"), r"came to its end")

        # Where a page is narrow its tables fold, and each figure names its own column.
        heads = set(re.findall(r"<th[^>]*>([^<]+)</th>", page.source))
        named = {value for _, name, value in page.attributes if name == "data-of"}
        self.assertEqual({"runs"}, named - heads)
        self.assertEqual(set(), {"cost", "tokens out", "own word", "climbed", "took"} - named)

    def test_a_halt_is_told_in_the_words_of_the_run(self):
        s = self.sim("credit.balance=0.02")
        q = self.queue(s)
        q.write("b.jsonl", lines(60))
        ended = q.run()
        self.assert_exit(AGAIN, ended)
        page = self.page(q)
        words = re.search(r"nightmill: stopped: (out of credit .*)", ended.err)[1]
        self.assertIn("Stopped: " + words, page.text())
        self.assertRegex(page.text(), r"\d+ jobs wait\. To go on: nightmill run /")
        self.assertRegex(page.text("Throughput and limits"), r"All lanes .*stopped, at \d\d:")
        self.assertIn(("path", "class", "halt"), page.attributes)
        self.assertRegex(page.source, r"<title>\d+ done, 0 failed: ")

        # A run that sent nothing has the last word; the figures are of the one that did.
        os.rename(q.at("b.jsonl"), q.at("b.jsonl.away"))
        ended = q.run()
        self.assert_exit(CONSENT, ended)
        page = self.page(q)
        self.assertIn("Nothing was sent: no job files were found", page.text())
        self.assertRegex(page.text(), r"The last run, 2 at .*, sent nothing\. The figures "
                                      r"below are of run 1, the last that did")
        self.assertRegex(page.text("Throughput and limits"), "stopped, at")

    def test_a_forecast_rests_on_what_was_known_before_the_run(self):
        s = self.sim()
        q = self.queue(s)
        q.write("b.jsonl", lines(80))
        self.assert_exit(DONE, q.run("--first", "30"))
        self.assertIn("so it is a guess", self.page(q).text("Cost"))
        ended = q.run()
        self.assert_exit(DONE, ended)
        # The run itself says it in a line, and the page has the same figures.
        beside = re.search(r"nightmill: forecast of the 50 jobs that came to rest: "
                           r"\$([\d.]+) to \$([\d.]+); they cost \$([\d.]+)\n", ended.err)
        low, high, cost = map(float, beside.groups())
        self.assertTrue(low < cost < high, ended.err)
        self.assertAlmostEqual(cost, sum(float(r["cost_usd"]) for r in q.results().values())
                               - float(re.search(r"for \$([\d.]+) in", q.said[0].err)[1]), 6)
        self.assertRegex(self.page(q).text("Cost"), rf"forecast \${beside[1][:5]}")
        cost = self.page(q).text("Cost")
        self.assertRegex(cost, r"Within what was to be expected\. .* for the 50 jobs that it "
                               r"brought to rest; all of them are of kinds that had "
                               r"been measured by then, by 30 answers")
        self.assertRegex(cost, r"the queue, all runs \$[\d.]+ 2 runs")
        self.assertIn("all runs requests", cost)  # beside what the run alone cost
        first = self.page(q, "--run", "1", "--out", "-").text("Cost")
        self.assertIn("for the 30 jobs that it brought to rest", first)
        part = self.page(q, "--since", "1h", "--out", "-")  # all of it is younger
        self.assertIn("for the 50 jobs", part.text("Cost"))
        past = q.tell("report", "--since", "2100-01-01")
        self.assert_exit(CONSENT, past)
        self.assertIn("run 2, the last that sent anything, had ended by then", past.err)
        wrong = q.tell("report", "--since", "yesterday")
        self.assert_exit(CONSENT, wrong)
        self.assertIn("--since yesterday: want 8h", wrong.err)
        refused = q.tell("report", "--run", "9")
        self.assert_exit(CONSENT, refused)
        self.assertIn("there is no run 9; the last one was 2", refused.err)
        idle = q.run()
        self.assertIn("80 done, 0 failed, 0 parked, 0 waiting; this run sent nothing\n", idle.err)
        self.assertNotIn("forecast", idle.err)

    def test_like_failures_are_one_line_and_parked_sources_are_told(self):
        n = [0]

        def answer(request):
            n[0] += 1
            return 400, {}, json.dumps({"type": "error", "error": {
                "type": "invalid_request_error", "message": f"row {n[0]} is 'x{n[0]}'"}})
        q = self.queue(url=self.recorder(answer).url)
        q.write("b.jsonl", lines(50, model=HAIKU))
        self.assert_exit(FAILED, q.run(sets=["limits.in_flight=1"]))
        page = self.page(q)
        why = page.text("Why jobs failed")
        self.assertRegex(why, r"^Why jobs failed 30 20 like failures in a row.* parked, "
                              r"mass_failure: .* and 27 more 20 row 1 is 'x1' failed")
        self.assertRegex(page.text(), r"b\.jsonl is parked \(20 like failures")

    def test_whatever_kept_a_lane_is_told(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.jsonl", lines(12, model=HAIKU))
        q.write("deep.md", "---\ntier: deep\n---\nWhat?")
        s.fault("529", first=4, match="job j")
        s.fault("404", match="What?")
        self.assert_exit(AGAIN, q.run())
        flow = self.page(q).text("Throughput and limits")
        self.assertRegex(flow, r"haiku-5\.5 .*overloaded: .* one probe at a time for [\d.]+ s, at")
        self.assertRegex(flow, r"opus-5\.5 .*model denied: .* closed for [\d.]+ s, at")
        self.assertNotIn("stopped", flow)

    def test_waiting_for_credit_and_being_out_of_reach_hold_all_lanes(self):
        s = self.sim("credit.balance=0")
        q = self.queue(s)
        q.write("a.jsonl", lines(3))
        r = self.start(q, "--wait-for-credit")
        wait_until(lambda: "out of credit" in r.so_far(), why="the end of the money")
        r.terminate()
        self.assert_exit(AGAIN, r.wait())
        page = self.page(q)
        self.assertRegex(page.text("Throughput and limits"),
                         r"All lanes out of credit; one request goes in \d+ s to see the "
                         r"account, held for [\d.]+ s, at .* SIGTERM asked for it stopped, at")
        self.assertIn("Stopped: SIGTERM asked for it. 3 jobs wait; the same command goes on.",
                      page.text())
        s.credit(infinite=True)
        s.fault("reset", first=3)
        self.assert_exit(DONE, q.run())
        self.assertRegex(self.page(q).text("Throughput and limits"),
                         r"All lanes unreachable: .* out of reach for [\d.]+ s, at")

    def test_what_a_run_left_out_when_it_died_is_in_doubt(self):
        s = self.sim("latency.ttft=30s")
        q = self.queue(s)
        q.write("b.jsonl", lines(3))
        r = self.start(q)
        wait_until(lambda: s.requests() >= 1, why="a request")
        r.kill()
        page = self.page(q)
        self.assertIn("The run died before its end", page.text())
        self.assertRegex(page.text("Cost"), r"in doubt \$[\d.]+ to \$[\d.]+ 1 attempt without "
                                            r"an answer")
        self.assertIn("died", page.text("Runs"))

    def test_it_reads_beside_a_runner_that_is_at_work(self):
        s = self.sim()
        q = self.queue(s)
        q.write("a.md", "one")
        q.write("slow.md", "slow")
        s.fault("stall", match="slow")
        r = self.start(q)
        wait_until(lambda: os.path.exists(q.at("results", "a.json")), why="a result")
        page = self.page(q)
        self.assertIn("A runner is at work: these are its figures so far. 1 request is out",
                      page.text())
        self.assertIn("1 job done so far for", page.text())
        self.assertIn("in doubt none", page.text("Cost"))
        since = self.page(q, "--since", "0m", "--out", "-")
        self.assertIn("0 requests", since.text("Cost"))
        self.assertIn("No jobs done so far", since.text())
        r.signal(signal.SIGKILL)
        r.wait()


class Corners(Reporting):
    def test_an_empty_queue_has_an_empty_page(self):
        q = self.queue(self.sim())
        self.assert_exit(DONE, q.run())
        page = self.page(q)
        self.assertIn("There is nothing to send.", page.text())
        self.assertEqual(["", "Jobs of the queue", "Runs"], list(page.sections))

    def test_a_queue_that_was_never_run_says_so(self):
        q = self.queue(self.sim())
        q.write("a.md", "x")
        told = q.tell("report")
        self.assert_exit(CONSENT, told)
        self.assertIn("was never run; nightmill run", told.err)
        self.assertEqual({"a.md"}, q.files())

    def test_jobs_that_were_never_sent_are_told_without_figures_of_a_run(self):
        s = self.sim("auth.keys=sk-another-key")
        q = self.queue(s)
        q.write("broken.json", "{")
        self.assert_exit(FAILED, q.run())
        page = self.page(q)
        self.assertIn("Nothing was sent yet.", page.text())
        self.assertIn("failed, invalid: broken", page.text("Why jobs failed"))
        self.assertNotIn("Cost", page.sections)

    def test_it_goes_where_it_is_told_and_whole_or_not_at_all(self):
        q = self.queue(self.sim())
        q.write("a.md", "x")
        self.assert_exit(DONE, q.run())
        there = os.path.join(q.base, "page.html")
        self.assertEqual(there + "\n", q.tell("report", "--out", there).out)
        with open(there) as f:
            self.sound(f.read())
        self.assertEqual("", q.tell("report", "--out", there, "--quiet").out)
        self.sound(q.tell("report", "--out", "-").out)
        self.assertFalse(os.path.exists(there + ".tmp"))
        self.assertNotIn("results/report.html", q.files())
        told = q.tell("report", "--out", os.path.join(q.base, "none", "page.html"))
        self.assert_exit(STORE, told)
        self.assertEqual(1, len(told.err.splitlines()))
        self.assertRegex(told.err, r"page\.html.*: cannot be written: No such file")
        full = q.tell("report", "--out", "/dev/full")
        self.assert_exit(STORE, full)
        self.assertRegex(full.err, r"/dev/full: cannot be written: No space left on device")

    def test_a_run_can_leave_its_own_page_when_it_ends(self):
        q = self.queue(self.sim())
        q.write("a.md", "x")
        self.assert_exit(DONE, q.run(sets=[f"notify.on_finish={NIGHTMILL} report {q.path}"]))
        page = self.sound(q.read("results/report.html"))
        self.assertIn("all done", page.text())
        self.assertIn("It came to its end: nothing waits.", page.text())

    def test_the_page_is_no_job(self):
        q = self.queue(self.sim())
        q.write("a.md", "x")
        self.assert_exit(DONE, q.run())
        self.page(q)
        self.assert_exit(DONE, q.run())
        self.assert_jobs(q, done=1)

    def test_a_directory_with_odd_letters_is_quoted_for_the_shell(self):
        s = self.sim("credit.balance=0")
        q = self.queue(s, name="it's <mine>")
        q.write("a.md", "x")
        self.assert_exit(AGAIN, q.run())
        self.assertIn("nightmill run '" + q.path.replace("'", "'\\''") + "'",
                      self.page(q).text())


if __name__ == "__main__":
    unittest.main()
