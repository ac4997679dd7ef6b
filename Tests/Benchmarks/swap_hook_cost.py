# SPDX-License-Identifier: Apache-2.0
"""The first touch of new memory, which involves no swap: module loaded with bypass on and off, against a guest without the module."""

import statistics

import swap_guests

USUAL = 100  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {name: ["new"] for name in ("on", "off", "plain")}


def measure():
    return swap_guests.result("swap_hook_cost", 1.05, RUNS, figures, lambda its: max(its["on_ns"], its["off_ns"]) / its["without_module_ns"])


def figures(*guests):
    return dict(zip(("on_ns", "off_ns", "without_module_ns"), (statistics.median(one["ns"] for one in guest["new"]) for guest in guests)))
