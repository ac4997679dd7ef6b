# SPDX-License-Identifier: Apache-2.0
"""The plots of scripts/lib/bars.py: no text overlaps another or leaves the picture, for any figures.

    python3 -B -m unittest discover -s Tests/Scripts -p '*_test.py'

Checked with the text widths that bars.py computes, and with the boxes of a real browser where chromium is installed.
"""

import html
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
import bars  # noqa: E402 pylint: disable=wrong-import-position

SVG = "{http://www.w3.org/2000/svg}"
WORDS = "first touch since swapped out: mapped by the bypass, WWW MMM @@@ 1,234 <&>".split()
SEED = 13
# Puts a list of {"texts": [[words, left, top, right, bottom], ...], "width", "height"} into the page.
BOXES = """<script>document.body.innerText = JSON.stringify([...document.querySelectorAll("svg")].map(svg => {
    const at = svg.getBoundingClientRect();
    const box = text => {
        const b = text.getBoundingClientRect();
        return [text.textContent, b.left - at.left, b.top - at.top, b.right - at.left, b.bottom - at.top];
    };
    return {texts: [...svg.querySelectorAll("text")].map(box), width: at.width, height: at.height};
}))</script>"""


def random_figure(chance):
    kind = chance.randrange(8)
    if kind == 0:
        return chance.choice([0, 1, 5, 12_345_678, 10**12, 1e-9, 1e40])
    if kind < 4:
        return chance.randrange(1, 200_000)
    return 10 ** chance.uniform(-3, 3 + kind)


def random_plot(chance, figure=random_figure):
    def words(most):
        return " ".join(chance.choices(WORDS, k=chance.randrange(most)))

    rows = [bars.Bar(figure(chance), words(5), words(12), chance.choice(list(bars.COLOURS))) for _ in range(chance.choice([0, 1, 2, 6, 20, 50]))]
    lines = [bars.Line(figure(chance), words(6)) for _ in range(chance.choice([0, 1, 1, 2]))]
    return bars.plot(words(30), chance.choice(["ns", "ns a page", "milliseconds of a program"]), rows, lines)


def boxes(svg):
    """The boxes of all texts by the widths that bars.py computes, in the form of BOXES."""
    root = xml.etree.ElementTree.fromstring(svg)
    texts = []
    for one in root.iter(SVG + "text"):
        x, y, size = (float(one.get(name)) for name in ("x", "y", "font-size"))
        width = bars.text_width(one.text or "", size)
        left = x - {"start": 0, "middle": width / 2, "end": width}[one.get("text-anchor")]
        texts.append([one.text or "", left, y - 0.93 * size, left + width, y + 0.24 * size])
    return {"texts": texts, "width": float(root.get("width")), "height": float(root.get("height"))}


def axis_labels(svg):
    texts = xml.etree.ElementTree.fromstring(svg).iter(SVG + "text")
    return [one.text for one in texts if one.get("text-anchor") == "middle" and one.get("font-size") == "11"]


class BarsTest(unittest.TestCase):
    def assert_apart(self, picture):
        texts = [text for text in picture["texts"] if text[0].strip()]
        for words, left, top, right, bottom in texts:
            inside = left >= -0.5 and top >= -0.5 and right <= picture["width"] + 0.5 and bottom <= picture["height"] + 0.5
            self.assertTrue(inside, f"{words!r} leaves the picture")
        for (one, *a), (other, *b) in itertools.combinations(texts, 2):
            meet = a[0] < b[2] - 0.5 and b[0] < a[2] - 0.5 and a[1] < b[3] - 0.5 and b[1] < a[3] - 0.5
            self.assertFalse(meet, f"{one!r} overlaps {other!r}")

    def test_no_text_overlaps_another(self):
        chance = random.Random(SEED)
        for _ in range(400):
            self.assert_apart(boxes(random_plot(chance)))

    @unittest.skipUnless(shutil.which("chromium"), "needs chromium")
    def test_no_text_overlaps_another_in_a_browser(self):
        chance = random.Random(SEED)
        plots = [random_plot(chance) for _ in range(60)]
        page = "<!DOCTYPE html><meta charset=utf-8><body>" + "".join(plots) + BOXES
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.html")
            with open(path, "w", encoding="utf-8") as file:
                file.write(page)
            words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--dump-dom", f"file://{path}"]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True)
        pictures = json.loads(html.unescape(re.search(r"<body>(\[.*\])", done.stdout, re.S).group(1)))
        self.assertEqual(len(pictures), len(plots))
        for svg, picture in zip(plots, pictures):
            self.assert_apart(picture)
            for (words, left, _, right, _), (_, expected_left, _, expected_right, _) in zip(picture["texts"], boxes(svg)["texts"]):
                self.assertLess(right - left, expected_right - expected_left + 0.5, f"bars.py computes too small a width for {words!r}")

    def test_the_axis_begins_and_ends_near_the_figures(self):
        chance = random.Random(SEED)
        for _ in range(2000):
            figures = [10 ** chance.uniform(-20, 20) for _ in range(chance.randrange(1, 20))]
            low, high = bars.axis(figures)
            self.assertLess(low, min(figures))
            self.assertGreater(low, min(figures) / 3.5)
            self.assertGreaterEqual(high, max(figures))
            self.assertLess(high, max(figures) * 2.6)

    def test_the_axis_names_its_ends(self):
        svg = bars.plot("", "ns", [bars.Bar(7.5, "", "", "on"), bars.Bar(141_234, "", "", "off")])
        self.assertEqual(axis_labels(svg), ["5", "10", "100", "1,000", "10,000", "200,000"])

    def test_any_figure_makes_a_picture(self):
        for figure in (0, -1, math.inf, -math.inf, math.nan, 5e-324, 1.7e308):
            self.assert_apart(boxes(bars.plot("title", "ns", [bars.Bar(figure, "label", "detail", "on")], [bars.Line(figure, "line")])))

    def test_a_figure_has_three_digits_and_commas(self):
        for words in ("0", "5", "5.04", "7.2", "0.75", "123", "12,345,678", "2e+15"):
            figure = float(words.replace(",", ""))
            self.assertEqual(bars.number(figure), words)


if __name__ == "__main__":
    unittest.main()
