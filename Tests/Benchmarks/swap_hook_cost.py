# SPDX-License-Identifier: Apache-2.0
"""The first touch of new memory, which is nobody's business here: bypass on against a guest without the module."""

import statistics

import swap_guests
from result import Result


def measure():
    plain, off, on = (statistics.median(one["ns"] for one in guest["new"]) for guest in swap_guests.of("plain", "off", "on"))
    return Result(
        "swap_hook_cost", {"on_ns": on, "off_ns": off, "without_module_ns": plain}, max(on, off) / plain, "x", 1.05, {}, swap_guests.where())
