# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again in order, at random and with writes: zram against bypass."""

import swap_guests
from swap_guests import again

USUAL = 100  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {"zram": ["sampled"], "on": ["sampled"]}


def measure():
    return swap_guests.result("swap_zram_vs_on", 20, RUNS, figures, lambda its: its["zram_ns"] / its["on_ns"], at_least=True)


def figures(zram, on):
    return {"zram_ns": again(zram["sampled"]), "on_ns": again(on["sampled"])}
