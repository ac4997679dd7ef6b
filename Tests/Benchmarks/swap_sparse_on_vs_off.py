# SPDX-License-Identifier: Apache-2.0
"""One touch in each 2 MiB of a swapped region, the worst case for a wide neighbourhood: bypass on against off."""

import statistics

import swap_guests


def measure():
    figures = ("on", "off"), lambda on, off: {"on_ns": median(on), "off_ns": median(off)}
    return swap_guests.result("swap_sparse_on_vs_off", 1.0, figures, lambda its: its["on_ns"] / its["off_ns"])


def median(guest):
    return statistics.median(one["ns"] for one in guest["sparse"])
