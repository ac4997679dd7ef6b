# SPDX-License-Identifier: Apache-2.0
"""The first touch of each page of a region of twice the RAM, in order: bypass off against on.

The raw figures have the passes after the first with bypass on: in order, at random, with writes.
"""

import swap_guests

USUAL = 100  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {"on": ["again"], "off": ["first"]}


def measure():
    return swap_guests.result("swap_first_touch_off_vs_on", 20, RUNS, figures, lambda its: its["off_ns"] / its["on_ns"], at_least=True)


def figures(on, off):
    return {"off_ns": off["first"][0]["ns"], "on_ns": on["again"][0]["ns"]}
