# SPDX-License-Identifier: Apache-2.0
"""A plot with a horizontal bar for each figure, on a logarithmic scale, as SVG.

Each bar has its own row, with its labels on the left and its figure on the right. Texts therefore never overlap, for any number of bars and
any length of figures; only the axis selects as many labels as fit.

Written by hand, as no small library in Debian does this: with gnuplot and pygal labels overlap, and matplotlib needs 477 MB.
"""

import dataclasses
import math
import xml.sax.saxutils

COLOURS = {"off": "#b5482f", "on": "#2f6fb5", "ram": "#4f8a4b"}
GREY, PALE = "#666666", "#dddddd"
TITLE, LABEL, SMALL = 16, 13, 11  # sizes of text
MARGIN, GAP, ROW, THICK = 16, 12, 40, 20
PLOT = 460  # the least width of the space for bars
NARROW = frozenset(" .,:;!|'()[]/\\-fijlrtI")
WIDE = frozenset("mwMW%@+=<>~&")


@dataclasses.dataclass
class Bar:
    """A figure, its label, a second line in smaller text, and the name of its colour."""

    figure: float
    label: str
    detail: str
    colour: str


@dataclasses.dataclass
class Line:
    """A figure to compare all bars with, drawn as a line across them."""

    figure: float
    label: str
    colour: str = "ram"


def plot(title, unit, bars, lines=()):
    """Returns the SVG document. A figure of 0 or less has a row, but no bar."""
    low, high = axis([one.figure for one in (*bars, *lines)])
    words = [f"{line.label}: {number(line.figure)} {unit}" for line in lines]
    half = max(text_width(number(end), SMALL) for end in (low, high)) / 2  # half an axis label, which extends beyond the ends of the axis
    left = MARGIN + GAP + half + max((text_width(one, size) for bar in bars for one, size in ((bar.label, LABEL), (bar.detail, SMALL))), default=0)
    right = left + max([PLOT, *(text_width(one, LABEL) for one in words)])
    figures = right + GAP + half + max(text_width(unit, SMALL), *(text_width(number(bar.figure), LABEL) for bar in bars), 0)  # they end there
    titles = wrapped(title, TITLE, figures - MARGIN)
    width = MARGIN + max(figures, *(MARGIN + text_width(one, TITLE) for one in titles))
    head = MARGIN + len(titles) * (TITLE + 6) + GAP
    top = head + len(lines) * (LABEL + 6) + SMALL + GAP
    bottom = top + max(1, len(bars)) * ROW
    height = bottom + GAP + SMALL + MARGIN

    def x_of(figure):
        return left + (right - left) * share(figure, low, high)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" font-family="DejaVu Sans, Verdana, sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        *(text(MARGIN, MARGIN + TITLE + row * (TITLE + 6), one, TITLE) for row, one in enumerate(titles)),
        text(figures, top - 4, unit, SMALL, "end", GREY),
    ]
    for tick in ticks(low, high, right - left):
        parts.append(vertical(x_of(tick), top, bottom, PALE))
        parts.append(text(x_of(tick), bottom + GAP + SMALL / 2, number(tick), SMALL, "middle", GREY))
    for row, bar in enumerate(bars):
        middle = top + row * ROW + ROW / 2
        wide = max(1.5, x_of(bar.figure) - left) if bar.figure > 0 else 0
        parts.append(f'<rect x="{left:.1f}" y="{middle - THICK / 2:.1f}" width="{wide:.1f}" height="{THICK}" fill="{COLOURS[bar.colour]}"/>')
        parts.append(text(MARGIN, middle - 3, bar.label, LABEL))
        parts.append(text(MARGIN, middle + 13, bar.detail, SMALL, fill=GREY))
        parts.append(text(figures, middle + 5, number(bar.figure), LABEL, "end"))
    for row, (line, one) in enumerate(zip(lines, words)):
        base, reach = head + LABEL + row * (LABEL + 6), text_width(one, LABEL) / 2
        parts.append(vertical(x_of(line.figure), base + 5, bottom, COLOURS[line.colour], 'stroke-width="2" stroke-dasharray="6 3"'))
        parts.append(text(min(max(x_of(line.figure), left + reach), right - reach), base, one, LABEL, "middle", COLOURS[line.colour]))
    return "\n".join([*parts, "</svg>", ""])


def text(x, y, words, size, anchor="start", fill="black"):
    words = xml.sax.saxutils.escape(words)
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{words}</text>'


def vertical(x, top, bottom, colour, more=""):
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}" {more}/>'


def text_width(words, size):
    """An upper bound of a text's width in DejaVu Sans and Verdana, the widest fonts that a viewer is likely to use."""
    return size * sum(0.46 if one in NARROW else 1.0 if one in WIDE or ord(one) > 0x17F else 0.82 if one.isupper() else 0.66 for one in words)


def wrapped(words, size, width):
    """Breaks a text at spaces into lines of at most this width, where possible."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def number(figure):
    """Formats a figure: all digits before the point, and at least three digits."""
    if not math.isfinite(figure) or figure and not 1e-4 <= abs(figure) < 1e12:
        return f"{figure:.3g}"
    digits = 0 if figure == 0 else max(0, 2 - math.floor(math.log10(abs(figure))))
    words = f"{figure:,.{digits}f}"
    return words.rstrip("0").rstrip(".") if "." in words else words


def axis(figures):
    """The ends of the axis: 1, 2 or 5 times a power of ten, close to the figures, so that the bar of the least figure is visible."""
    figures = [figure for figure in figures if 1e-300 < figure < 1e300] or [1]
    low, high = min(figures) / 1.25, max(figures)
    steps = [float(f"{digit}e{exponent}") for exponent in range(decade(low), decade(high) + 2) for digit in (1, 2, 5)]
    return max(step for step in steps if step <= low), min(step for step in steps if step >= high)


def decade(figure):
    """The power of ten at or just below a figure."""
    exponent = math.floor(math.log10(figure))
    return exponent - 1 if float(f"1e{exponent}") > figure else exponent


def ticks(low, high, width):
    """The labels of the axis: both ends, and as many figures between them as fit."""

    def are_apart(one, other):
        distance = width * (share(other, low, high) - share(one, low, high))
        return distance >= GAP + (text_width(number(one), SMALL) + text_width(number(other), SMALL)) / 2

    decades = range(decade(low), decade(high) + 1)
    for digits, every in [((1, 2, 5), 1), *(((1,), every) for every in range(1, len(decades) + 1))]:
        choice = [float(f"{digit}e{exponent}") for exponent in decades if exponent % every == 0 for digit in digits]
        choice = [tick for tick in choice if low < tick < high and are_apart(low, tick) and are_apart(tick, high)]
        if all(are_apart(one, other) for one, other in zip(choice, choice[1:])):
            return [low, *choice, high]
    return [low, high]


def share(figure, low, high):
    """The position of a figure along the axis, from 0 to 1."""
    if figure <= low or math.isnan(figure):
        return 0
    return min(1, (math.log10(figure) - math.log10(low)) / (math.log10(high) - math.log10(low))) if figure < math.inf else 1
