# SPDX-License-Identifier: Apache-2.0
"""The first touch of each page of a region of twice the RAM, in order: bypass off against on.

The raw figures have the passes after the first: in order, at random, with writes.
"""

import swap_guests


def measure():
    figures = ("on", "off"), lambda on, off: {"off_ns": off["passes"][0]["ns"], "on_ns": on["passes"][0]["ns"]}
    return swap_guests.result("swap_first_touch_off_vs_on", 20, figures, lambda its: its["off_ns"] / its["on_ns"], at_least=True)
