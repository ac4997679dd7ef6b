# SPDX-License-Identifier: Apache-2.0
"""What a benchmark answers, and how a list of answers is shown."""

import dataclasses
import json
import statistics


@dataclasses.dataclass
class Result:
    """Two figures of one run, their ratio (or the one figure that has a limit), and whether the limit is held."""

    name: str
    figures: dict  # the two figures, by names that say their units
    value: float  # what the limit is for: a ratio, or a figure with its own unit
    unit: str  # "x" for a ratio
    limit: float
    raw: dict  # everything measured, for the JSON file
    note: str = ""
    at_least: bool = False  # the limit is the least that is wanted

    @property
    def held(self):
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def document(self):
        key = "ratio" if self.unit == "x" else "value"
        return {
            **self.figures,
            key: round(self.value, 4),
            "unit": self.unit,
            "limit": self.limit,
            **({"limit_is": "the least"} if self.at_least else {}),
            "held": self.held,
            **({"note": self.note} if self.note else {}),
            "raw": self.raw,
        }


class BenchmarkError(Exception):
    """A benchmark that could not be measured; the text says why."""


def table(results):
    """A table for people, with the raw figures under each line."""
    lines = [f"{'BENCHMARK':<28}{'MEASURED':>12}{'LIMIT':>10}  HELD"]
    for result in results:
        limit = f"{'>= ' if result.at_least else ''}{result.limit:g} {result.unit}"
        lines.append(f"{result.name:<28}{result.value:>10.3f} {result.unit:<3}{limit:>8}  {'yes' if result.held else 'NO'}")
        lines += [f"    {name} = {value:g}" for name, value in result.figures.items()]
        if result.note:
            lines.append(f"    {result.note}")
    return "\n".join(lines) + "\n"


def write_json(path, results):
    """One object for each name."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({result.name: result.document() for result in results}, file, indent=2)
        file.write("\n")


def pairs_summary(first, second):
    """Medians of both sides and of the pairs' ratios, and how far the middle half of the ratios spreads."""
    ratios = [a / b for a, b in zip(first, second)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return statistics.median(first), statistics.median(second), statistics.median(ratios), (quarters[0], quarters[2])
