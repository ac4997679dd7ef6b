# SPDX-License-Identifier: Apache-2.0
"""The first touch of new memory, which is nobody's business here: the module loaded, bypass on and off, against a guest without it."""

import statistics

import swap_guests


def measure():
    figures = ("on", "off", "plain"), lambda *guests: dict(zip(NAMES, map(median, guests)))
    return swap_guests.result("swap_hook_cost", 1.05, figures, lambda its: max(its[name] for name in NAMES[:2]) / its[NAMES[2]])


NAMES = ("on_ns", "off_ns", "without_module_ns")


def median(guest):
    return statistics.median(one["ns"] for one in guest["new"])
