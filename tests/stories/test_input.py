"""What cannot be read as a job is told by file and line, and harms nobody else."""
import json
import os
import unittest

from story import DONE, FAILED, Story, body, line


class BadInput(Story):
    def setUp(self):
        self.s = self.sim()
        self.q = self.queue(self.s)
        self.q.write("good.md", "What is a good job?")

    def invalid(self, **wanted):
        """Runs; exactly these jobs are invalid, each with words that match."""
        self.assert_exit(FAILED, self.q.run())
        results = self.q.results()
        found = {n: r["error"]["message"] for n, r in results.items()
                 if r["state"] == "failed"}
        self.assertEqual(set(wanted), set(found))
        for name, words in wanted.items():
            self.assertRegex(found[name], words)
            self.assertEqual(("invalid", 0, None), tuple(
                results[name][k] for k in ("outcome", "attempts", "request_id")))
        good = [n for n, r in results.items() if r["state"] == "done"]
        self.assertIn("good", good)
        self.assert_each_once(self.s, len(good))
        return found

    def test_each_way_to_be_wrong_is_told_by_file_and_line(self):
        q = self.q
        q.write("cut.json", '{"messages": [')
        q.write("array.json", "[1, 2]")
        q.write("number.json", '{"max_tokens": "many", "messages": [{}]}')
        q.write("nomsg.json", '{"max_tokens": 5}')
        q.write("hint.json", '{\n"messages": [{"role": "user", "content": "x"}],\n'
                             '"nightmill": {"teir": "cheap"}}')
        q.write("tier.md", "---\ntier: colossal\n---\nWhat?")
        q.write("key.md", "---\ntier: cheap\ncolour: red\n---\nWhat?")
        q.write("prio.md", "---\npriority: high\n---\nWhat?")
        q.write("open.md", "---\ntier: cheap\nWhat?")
        q.write("latin.md", "caf\xe9".encode("latin-1"))
        q.write("empty.md", "")
        q.write("blank.txt", " \n\n")
        q.write("nothing.json", "")
        self.invalid(**{
            "cut": r"^cut\.json:1: .*JSON", "array": r"^array\.json:1: .*want",
            "number": r"^number\.json:1: max_tokens.*want a whole number",
            "nomsg": r"^nomsg\.json:1: .*messages",
            "hint": r"^hint\.json:3: .*teir.*want tier, priority, tags, max_cost, cache, check or route",
            "tier": r"^tier\.md:\d: tier = colossal: no such tier.*cheap, standard, deep",
            "key": r"^key\.md:3: unknown key colour; want tier",
            "prio": r"^prio\.md:2: priority = high: want",
            "open": r"^open\.md:1: the front matter does not end",
            "latin": r"^latin\.md:1: .*UTF-8", "empty": r"^empty\.md:1: .*want a prompt",
            "blank": r"^blank\.txt:\d: .*want a prompt",
            "nothing": r"^nothing\.json:1: .*want"})

    def test_files_that_jobs_refer_to_stay_in_the_queue(self):
        q = self.q
        secret = os.path.join(q.base, "secret.txt")
        with open(secret, "w") as f:
            f.write("not for the API")
        job = "---\nsystem_file: {}\n---\nWhat?"
        os.symlink(secret, q.at("_link.txt"))
        os.symlink(secret, q.at("out.md"))
        q.write("missing.md", job.format("_gone.txt"))
        q.write("up.md", job.format("../secret.txt"))
        q.write("sub/up.md", job.format("../../secret.txt"))
        q.write("abs.md", job.format(secret))
        q.write("link.md", job.format("_link.txt"))
        self.invalid(**{
            "missing": r"^missing\.md:\d: system_file = _gone\.txt: .*No such file",
            "up": r"^up\.md:\d: system_file = \.\./secret\.txt: want a path inside",
            "sub/up": r"^sub/up\.md:\d: system_file = .*want a path inside",
            "abs": r"^abs\.md:\d: system_file = .*want a path inside",
            "link": r"^link\.md:\d: system_file = _link\.txt: leads out",
            "out": r"^out\.md:1: a link that leads out"})

    def test_too_much_in_one_file_or_line_is_refused_and_the_rest_is_read(self):
        self.q.sets.append("intake.max_bytes=64KiB")
        self.q.write("big.md", "x" * 70000)
        self.q.write("b.jsonl", line("before") + line("huge", "y" * 200000) +
                     line("after"))
        found = self.invalid_by_words()
        self.assertRegex(found.pop("big"), r"^big\.md:1: 70000 bytes; want at most 65536")
        self.assertEqual(1, len(found), found)
        self.assertRegex(*found.values(), r"^b\.jsonl:2: a line of more than 65536 bytes")
        self.assertLessEqual({"before", "after"}, set(self.q.bulk("b")))

    def invalid_by_words(self):
        self.assert_exit(FAILED, self.q.run())
        return {n: r["error"]["message"] for n, r in self.q.results().items()
                if r["state"] == "failed"}

    def test_bulk_lines_that_are_wrong_have_result_lines_and_the_others_run(self):
        self.q.write("b.jsonl", line("one") +
                     '{"custom_id": "cut", "params": {"messages": [\n' +
                     line("two") +
                     '{"custom_id": "odd", "parms": {}}\n' +
                     line("hint", nightmill={"colour": 1}) +
                     line("one", "the name is taken") +
                     "not json at all\n" + line("three"))
        found = self.invalid_by_words()
        for text, wanted in zip(sorted(found.values()),
                                (r"^b\.jsonl:2: .*JSON", r"^b\.jsonl:4: ",
                                 r"^b\.jsonl:5: .*colour", r"^b\.jsonl:6: .*one",
                                 r"^b\.jsonl:7: .*JSON"), strict=True):
            self.assertRegex(text, wanted)
        rows = [json.loads(r) for r in self.q.read("results/b.jsonl").splitlines()]
        good = [r["custom_id"] for r in rows if r["result"]["type"] == "succeeded"]
        self.assertEqual(["one", "three", "two"], sorted(good))
        bad = [r for r in rows if r["result"]["type"] == "errored"]
        self.assertEqual(5, len(bad))
        for r in bad:
            self.assertEqual("error", r["result"]["error"]["type"])
            self.assertEqual("invalid", r["nightmill"]["outcome"])
        self.assertLessEqual({"cut", "odd", "hint"}, {r["custom_id"] for r in bad})
        self.assert_each_once(self.s, 4)

    def test_of_two_files_with_one_name_the_second_is_invalid_and_the_first_stands(self):
        self.q.write("twin.md", "the first")
        self.q.write("twin.txt", "the second")
        found = self.invalid_by_words()
        self.assertEqual(1, len(found), found)
        (name, words), = found.items()
        self.assertRegex(words, r"^twin\.(md|txt):1: the name twin is taken")
        self.assertNotEqual("twin", name)
        self.assertEqual("done", self.q.json("twin")["state"])
        # And so it stays.
        requests = self.s.requests()
        self.assert_exit(FAILED, self.q.run())
        self.assertEqual(requests, self.s.requests())
        self.assertEqual(found, self.invalid_by_words())

    def test_line_ends_and_marks_of_other_systems_are_read(self):
        q = self.q
        q.write("dos.md", "---\r\ntier: cheap\r\nmax_tokens: 4000\r\n---\r\nWhat?\r\n")
        q.write("bom.md", b"\xef\xbb\xbf---\ntier: deep\n---\nWhat?")
        q.write("bomb.json", b"\xef\xbb\xbf" + body("What?").encode())
        q.write("b.jsonl", b"\xef\xbb\xbf" + line("a").replace("\n", "\r\n").encode() +
                b"\r\n\n   \n" + line("b").rstrip("\n").encode())
        self.assert_exit(DONE, q.run())
        self.assertEqual({"a", "b"}, set(q.bulk("b")))
        self.assertEqual(("cheap", "deep"), (q.json("dos")["tier"], q.json("bom")["tier"]))
        self.assert_jobs(q, done=6)

    def test_identical_lines_without_a_name_are_two_jobs(self):
        nameless = json.dumps({"params": json.loads(body("again"))}) + "\n"
        self.q.write("b.jsonl", nameless * 2 + body("bare") + "\n")
        self.assert_exit(DONE, self.q.run())
        names = [n for n in self.q.results() if n.startswith("b#")]
        self.assertEqual(3, len(names))
        self.assertEqual(4, self.s.served())
        rows = self.q.read("results/b.jsonl").splitlines()
        self.assertEqual([None] * 3, [json.loads(r)["custom_id"] for r in rows])

    def test_a_mended_job_runs_without_being_asked_for(self):
        self.q.write("late.json", "{")
        self.q.write("ref.md", "---\nsystem_file: _s.txt\n---\nWhat?")
        self.assertEqual({"late", "ref"}, set(self.invalid_by_words()))
        self.q.write("late.json", body("whole"))
        self.q.write("_s.txt", "Be brief.")
        self.assert_exit(DONE, self.q.run())
        self.assert_each_once(self.s, 3)


if __name__ == "__main__":
    unittest.main()
