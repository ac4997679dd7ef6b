# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again and again in order: zram against bypass."""

import swap_guests


def measure():
    figures = ("zram", "on"), lambda zram, on: {"zram_ns": swap_guests.again(zram), "on_ns": swap_guests.again(on)}
    return swap_guests.result("swap_zram_vs_on", 20, figures, lambda its: its["zram_ns"] / its["on_ns"], at_least=True)
