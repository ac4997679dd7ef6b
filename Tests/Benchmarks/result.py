# SPDX-License-Identifier: Apache-2.0
"""The result of a benchmark, and the table and the JSON of a list of results."""

import dataclasses
import json
import statistics

import noise as noises


@dataclasses.dataclass
class Result:
    """Two figures of one run, their ratio (or the one figure that has a limit), and whether the limit is held."""

    name: str
    figures: dict  # the two figures, by names with their units
    value: float  # the value that has the limit: a ratio, or a figure with a unit
    unit: str  # "x" for a ratio
    limit: float
    raw: dict  # everything measured, for the JSON file
    note: str = ""
    at_least: bool = False  # the limit is a lower one
    timed: bool = True  # other processes change the figure; False if it counts instructions, allocations or memory
    spread: tuple | None = None  # 95 % interval of the value, from its own runs: from, to
    noise: dict = dataclasses.field(default_factory=dict)  # noise.between, while it was measured

    @property
    def held(self):
        return self.holds(self.value)

    def holds(self, value):
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def complaints(self):
        """The reasons why this figure decides nothing; empty if it decides."""
        said = noises.complaints(self.noise) if self.timed and self.noise else []
        if self.spread and any(self.holds(value) != self.held for value in self.spread):
            said.append(f"its own runs give {self.spread[0]:.3f} to {self.spread[1]:.3f}, on both sides of the limit")
        return said

    @property
    def verdict(self):
        return "noisy" if self.complaints else "held" if self.held else "broken"

    def document(self):
        key = "ratio" if self.unit == "x" else "value"
        return {
            **self.figures,
            key: round(self.value, 4),
            "unit": self.unit,
            "limit": self.limit,
            **({"limit_is": "the least"} if self.at_least else {}),
            "held": self.held,
            "verdict": self.verdict,
            **({"why_noisy": self.complaints} if self.complaints else {}),
            **({"spread": [round(value, 4) for value in self.spread]} if self.spread else {}),
            "depends_on_time": self.timed,
            "noise": self.noise,
            **({"note": self.note} if self.note else {}),
            "raw": self.raw,
        }


class BenchmarkError(Exception):
    """A benchmark could not be measured; the text gives the reason."""


def table(results):
    """A table, with the raw figures under each line."""
    lines = [f"{'BENCHMARK':<28}{'MEASURED':>12}{'LIMIT':>11}  {'HELD':<6}{'OTHERS':>7}{'STEAL':>7}"]
    for result in results:
        limit = f"{'>= ' if result.at_least else ''}{result.limit:g} {result.unit}"
        held = ("yes" if result.held else "NO") + ("?" if result.complaints else "")
        others, steal = (f"{result.noise[name]:.1f}%" if result.noise else "-" for name in ("others_percent", "steal_percent"))
        lines.append(f"{result.name:<28}{result.value:>10.3f} {result.unit:<3}{limit:>9}  {held:<6}{others:>7}{steal:>7}")
        lines += [f"    {name} = {value:g}" for name, value in result.figures.items()]
        lines += [f"    {one}" for one in (result.note, *(f"noisy: {why}" for why in result.complaints)) if one]
    return "\n".join(lines) + "\n"


def write_json(path, results, errors):
    """Writes one object for each name: the result, or the error."""
    documents = {result.name: result.document() for result in results}
    documents |= {name: {"verdict": "not measured", "error": error} for name, error in errors.items()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(documents, file, indent=2)
        file.write("\n")


def pairs_summary(first, second):
    """Medians of both sides and of the pairs' ratios, and the interval of the latter."""
    ratios = [a / b for a, b in zip(first, second)]
    return statistics.median(first), statistics.median(second), statistics.median(ratios), spread_of_median(ratios)


def spread_of_median(values):
    """95 % interval of the median: the notches of a box plot."""
    values = list(values)
    if len(values) < 4:
        return None
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    reach = 1.57 * (third - first) / len(values) ** 0.5
    return middle - reach, middle + reach
