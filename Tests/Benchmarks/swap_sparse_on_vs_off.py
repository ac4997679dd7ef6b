# SPDX-License-Identifier: Apache-2.0
"""One touch in each 2 MiB of a swapped region, the worst case for a wide neighbourhood: bypass on against off."""

import statistics

import swap_guests
from result import Result


def measure():
    on, off = (statistics.median(one["ns"] for one in guest["sparse"]) for guest in swap_guests.of("on", "off"))
    return Result("swap_sparse_on_vs_off", {"on_ns": on, "off_ns": off}, on / off, "x", 1.0, {}, swap_guests.where())
