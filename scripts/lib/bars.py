# SPDX-License-Identifier: Apache-2.0
"""A plot with a bar for each figure, on a logarithmic scale, as SVG."""

import math
import xml.sax.saxutils

COLOURS = {"off": "#b5482f", "on": "#2f6fb5", "ram": "#4f8a4b"}


def plot(title, bars):
    """Each bar is a figure of 1 at least, two lines under it, and the name of its colour."""
    left, bottom, top, bar, gap, height = 80, 50, 30, 70, 18, 360
    width = max(640, left + 40 + len(bars) * (bar + gap))
    most = max(len(str(int(figure))) for figure, *_ in bars)

    def level(figure):
        return (height - bottom - top) * math.log10(max(1, figure)) / most

    def text(x, y, words, anchor="middle"):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{xml.sax.saxutils.escape(words)}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(left, 20, title, "start"),
    ]
    for digits in range(most + 1):
        y = height - bottom - (height - bottom - top) * digits / most
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(text(left - 8, y + 4, f"{10**digits:,}", "end"))
    for number, (figure, above, below, colour) in enumerate(bars):
        x, tall = left + 20 + number * (bar + gap), level(figure)
        parts.append(f'<rect x="{x}" y="{height - bottom - tall:.1f}" width="{bar}" height="{tall:.1f}" fill="{COLOURS[colour]}"/>')
        parts.append(text(x + bar / 2, height - bottom - tall - 5, f"{figure:,}"))
        parts.append(text(x + bar / 2, height - bottom + 18, above))
        parts.append(text(x + bar / 2, height - bottom + 36, below))
    return "\n".join([*parts, "</svg>", ""])
