# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM touched again, with bypass, against the same in a guest with enough RAM."""

import statistics

import swap_guests
from result import Result


def measure():
    on, ram = (statistics.mean(one["ns"] for one in guest["passes"][1:]) for guest in swap_guests.of("on", "ram"))
    return Result("swap_later_touch_on_vs_ram", {"on_ns": on, "ram_ns": ram}, on / ram, "x", 1.1, {}, swap_guests.where())
