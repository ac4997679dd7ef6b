# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again and again in order: QEMU with a swap disk in the host's memory against bypass."""

import statistics

import swap_guests
from result import Result


def measure():
    other, on = (statistics.mean(one["ns"] for one in guest["passes"][1:]) for guest in swap_guests.of("qemu", "on"))
    return Result("swap_qemu_vs_on", {"qemu_ns": other, "on_ns": on}, other / on, "x", 20, {}, swap_guests.where(), at_least=True)
