"""The report as a picture: narrow and wide, light and dark, looked over by a browser.

Not part of the suite: `make report-shots` runs it, where the browser is. Pictures go to
SHOTS (or a directory that is told). What a program can see is asserted: nothing runs out of
its box or over another, nothing is empty or hidden, every word stands out from what is
behind it. Whether it is beautiful, a person says.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from story import AGAIN, FAILED, HAIKU, OPUS, SONNET, Story, body, line, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS, THEMES = (390, 1280), {"light": 1, "dark": 0}

LOOK = r"""
const found = [];
const name = e => e.tagName.toLowerCase() + (e.className.baseVal ?? e.className ?? "") + ": " +
  e.textContent.trim().slice(0, 40);
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth)
  found.push(`the page is ${root.scrollWidth} wide, the window ${root.clientWidth}`);
for (const e of document.querySelectorAll("section, header, footer, figure, svg, .tiles div, " +
                                          ".why, .hold, tbody tr")) {
  const r = e.getBoundingClientRect();
  if (r.width < 20 || r.height < 12 || (e.tagName !== "svg" && !e.textContent.trim()))
    found.push(`empty: ${name(e)}`);
}
for (const e of document.querySelectorAll(".bar i, .range i")) {
  const r = e.getBoundingClientRect();
  if (r.width < 1 || r.height < 4) found.push(`cannot be seen: ${e.className}`);
}
for (const e of document.querySelectorAll(".box"))
  if (e.scrollWidth > e.clientWidth + 1)
    found.push(`cut at the side: ${e.getAttribute("aria-label")}`);
for (const e of document.querySelectorAll("*")) {
  const s = getComputedStyle(e);
  if (s.overflowX === "visible" && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 &&
      s.display !== "inline" && !e.closest(".box") && !e.closest("svg"))
    found.push(`runs out of its box: ${name(e)}`);
}
// words: where each stands, and how it stands out
const rgb = s => s.match(/[\d.]+/g).map(Number);
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 :
  ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const behind = e => { for (; e; e = e.parentElement) {
  const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > .99) return c; }
  return [255, 255, 255]; };
const words = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let n; (n = walk.nextNode());) {
  const e = n.parentElement;
  if (!n.data.trim() || e.closest("script, svg")) continue;
  const range = document.createRange();
  range.selectNodeContents(n);
  const box = e.closest(".box")?.getBoundingClientRect();
  for (const r of range.getClientRects()) {
    if (r.width < 1) continue;
    if (box && (r.right > box.right || r.left < box.left)) continue;  // scrolled to the side
    if (r.right > root.clientWidth + 1 || r.left < -1)
      found.push(`cut at the edge: ${n.data.trim().slice(0, 40)}`);
    words.push({r, n});
  }
  const [a, b] = [rgb(getComputedStyle(e).color), behind(e)].map(c => light(c.slice(0, 3)));
  const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (contrast < 4.5)
    found.push(`pale (${contrast.toFixed(1)}): ${n.data.trim().slice(0, 40)}`);
}
for (let i = 0; i < words.length; i++)
  for (let k = i + 1; k < words.length; k++) {
    const a = words[i], b = words[k];
    if (a.n !== b.n &&
        Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left) > 1.5 &&
        Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top) > 3)
      found.push(`over each other: ${a.n.data.trim().slice(0, 30)} | ${b.n.data.trim().slice(0, 30)}`);
  }
parent.postMessage(JSON.stringify({width: innerWidth, words: words.length,
  height: root.scrollHeight, dark: matchMedia("(prefers-color-scheme: dark)").matches,
  found: [...new Set(found)].slice(0, 20)}), "*");
"""

# A window is never narrower than a browser wants it; a frame is as narrow as it is told.
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><body>
<iframe src="spied.html" style="border:0;width:%dpx;height:900px"></iframe><script>
addEventListener("message", e => { const out = document.createElement("pre");
  out.id = "looked"; out.textContent = e.data; document.body.append(out); });
</script>"""


@unittest.skipUnless(CHROMIUM, "there is no chromium here: apt install chromium")
class Shots(Story):
    @classmethod
    def setUpClass(cls):
        cls.shots = os.environ.get("SHOTS") or tempfile.mkdtemp(prefix="nightmill-shots-")
        os.makedirs(cls.shots, exist_ok=True)
        print(f"pictures go to {cls.shots}")

    def browser(self, theme, width, height, *args):
        base = tempfile.mkdtemp(prefix="nightmill-browser-")
        self.addCleanup(shutil.rmtree, base, True)
        return subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={base}", f"--window-size={width},{height}",
             f"--blink-settings=preferredColorScheme={THEMES[theme]}", *args],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120,
            check=True).stdout

    def look(self, name, page, words=100):
        """Everything but the picture's beauty, in every size and colour."""
        with open(page) as f:
            source = f.read()
        folder = os.path.dirname(page)
        with open(os.path.join(folder, "spied.html"), "w") as f:  # the page's own policy lets no script run
            f.write(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
                    .replace("</body>", f"<script>{LOOK}</script></body>"))
        for theme in THEMES:
            for width in WIDTHS:
                with self.subTest(theme=theme, width=width):
                    frame = os.path.join(folder, "frame.html")
                    with open(frame, "w") as f:
                        f.write(FRAME % width)
                    dom = self.browser(theme, 1600, 1000, "--virtual-time-budget=3000",
                                       "--dump-dom", "file://" + frame)
                    looked = re.search(r'<pre id="looked">(.*?)</pre>', dom, re.S)[1]
                    looked = json.loads(looked.replace("&amp;", "&").replace("&lt;", "<")
                                        .replace("&gt;", ">"))
                    self.assertEqual((width, theme == "dark"),
                                     (looked["width"], looked["dark"]))
                    self.assertGreater(looked["words"], words)
                    picture = os.path.join(self.shots, f"{name}-{theme}-{width}.png")
                    self.browser(theme, width, looked["height"], f"--screenshot={picture}",
                                 "file://" + page)
                    self.assertGreater(os.path.getsize(picture), 10000)
                    self.assertEqual([], looked["found"])

    def test_a_night_in_four_pictures(self):
        s = self.sim("limits.rpm=400", "limits.itpm=90000", "limits.otpm=24000",
                     "limits.burst=15s", "latency.ttft=150ms", "latency.per_token=2ms",
                     "credit.balance=0.27")
        q = self.queue(s)
        shared = "You read contracts with care, and quote what you rely on. " * 600
        for n in range(40):
            q.write(f"legal/contract-{n}.json", json.dumps({
                "params": json.loads(body(f"Clause {n}?", system=shared)),
                "nightmill": {"tier": "deep", "tags": ["legal", "night"]}}))
        for n in range(25):
            q.write(f"notes/{n}.md", f"---\ntags: notes\n---\nSum up note {n}.")
        for n in range(6):
            q.write(f"checked/{n}.md",
                    f"---\ncheck: json\nroute: cascade\ntags: checked\n---\nAs JSON: {n}")
        q.write("broken.json", '{"params": {"max_tokens": 10}}')
        q.write("a job whose name is far longer than anybody would like to read at once "
                "and goes on and on " + "x" * 80 + ".md", "refuse me")
        q.write("<img src=x onerror=alert(1)>.md", "refuse me")
        q.write("tickets.jsonl", "".join(
            line(f"t{n}", f"Ticket {n}: what is it about?", model=HAIKU,
                 nightmill={"tags": ["tickets"]}) for n in range(60)))
        q.write("questions.jsonl", "".join(line(f"q{n}", f"Question {n}?") for n in range(90)))
        q.write("rows.jsonl", "".join(line(f"r{n}", f"bad row {n}") for n in range(60)))
        s.fault("400", match="bad row",
                message="messages: text content blocks must be non-empty")
        s.fault("400", match="refuse me", message="prompt is too long: 214000 tokens > 200000")
        s.fault("429", from_s=4, to_s=4.3, retry_after=3)
        s.fault("429", from_s=14, to_s=14.3, retry_after=5)
        ended = q.run(sets=["jobs.ladder=cheap,deep", f"tier.cheap.model={HAIKU}",
                            f"tier.deep.model={OPUS}", "limits.in_flight=12",
                            "limits.mass_failure=20"], timeout=180)
        self.assertIn(ended.code, (AGAIN, FAILED), ended.err[-2000:])
        self.assertEqual(0, q.tell("report").code)
        self.look("night", q.at("results", "report.html"))

    def test_a_rough_week_in_four_pictures(self):
        # Runs that died, were stopped and were short; parked files, failures of many kinds,
        # cascades, doubt, letters from everywhere.
        s = self.sim("limits.rpm=900", "limits.itpm=60000", "limits.otpm=60000",
                     "limits.burst=10s", "latency.ttft=100ms", "latency.per_token=1ms")
        q = self.queue(s, name="Мои задания & 夜の仕事")
        for n in range(30):
            q.write(f"checked/{n}.md", f"---\ncheck: json\nroute: cascade\ntags: checked\n"
                                       f"---\nAs JSON: {n}")
        for n in range(40):
            q.write(f"notes/заметка-{n}.md",
                    f"---\ntags: t{n % 17}-{'long-' * (n % 5)}tag, 日本語\n---\nNote {n}.")
        q.write("refused.jsonl", "".join(line(f"x{n}", f"decline {n}") for n in range(6)))
        q.write("rows.jsonl", "".join(line(f"r{n}", f"bad row {n}") for n in range(60)))
        q.write("cut.md", "---\nmax_tokens: 5\n---\nAt length.")
        q.write("many.jsonl", "".join(
            line(f"m{n}", f"Many {n}?", model=(HAIKU, SONNET, OPUS)[n % 3])
            for n in range(150)))
        for n in range(15):
            s.fault("400", match=f"\"Note {n}.\"", message=f"messages.{n}: reason "
                    f"{chr(65 + n)} of many, " + "and a very long explanation of it " * n)
        s.fault("400", match="bad row", message="messages: content must be non-empty")
        s.fault("refusal", match="decline")
        sets = ["jobs.ladder=cheap,deep", f"tier.cheap.model={HAIKU}",
                f"tier.deep.model={OPUS}", "limits.in_flight=8", "budget.run=0.9"]
        died = self.start(q, sets=sets)
        wait_until(lambda: s.served() > 20, why="answers")
        died.kill()
        for n in range(6):
            q.run("--first", str(n + 1), sets=sets)
        served = s.served()
        stopped = self.start(q, sets=sets)
        wait_until(lambda: s.served() > served + 20, why="more answers")
        stopped.terminate()
        self.assert_exit(AGAIN, stopped.wait())
        self.assertEqual(0, q.tell("report").code)
        self.look("stopped", q.at("results", "report.html"))
        s.fault("529", count=12)
        s.fault("reset", match="Many 1", count=8)
        ended = q.run(sets=sets, timeout=180)
        self.assertIn(ended.code, (AGAIN, FAILED), ended.err[-2000:])
        self.assertEqual(0, q.tell("report").code)
        self.look("rough", q.at("results", "report.html"))

    def test_an_empty_queue_in_four_pictures(self):
        q = self.queue(self.sim())
        self.assertEqual(0, q.run().code)
        self.assertEqual(0, q.tell("report").code)
        self.look("empty", q.at("results", "report.html"), words=20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
