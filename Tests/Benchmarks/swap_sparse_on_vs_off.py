# SPDX-License-Identifier: Apache-2.0
"""One touch in each 2 MiB of a swapped region, the worst case for a wide neighbourhood: bypass on against off."""

import statistics

import swap_guests

USUAL = 100  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {"on": ["sparse"], "off": ["sparse"]}


def measure():
    return swap_guests.result("swap_sparse_on_vs_off", 1.0, RUNS, figures, lambda its: its["on_ns"] / its["off_ns"])


def figures(on, off):
    return {"on_ns": median(on), "off_ns": median(off)}


def median(guest):
    return statistics.median(one["ns"] for one in guest["sparse"])
