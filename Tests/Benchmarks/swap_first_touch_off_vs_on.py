# SPDX-License-Identifier: Apache-2.0
"""The first touch of each page of a region of twice the RAM, in order: bypass off against on.

The raw figures have the passes after the first: in order, at random, with writes.
"""

import swap_guests
from result import Result


def measure():
    on, off = (guest["passes"][0]["ns"] for guest in swap_guests.of("on", "off"))
    return Result(
        "swap_first_touch_off_vs_on", {"off_ns": off, "on_ns": on}, off / on, "x", 20, swap_guests.measured(), swap_guests.where(), at_least=True)
