# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM touched again, with bypass, against the same in a guest with enough RAM."""

import swap_guests
from swap_guests import again

USUAL = 100  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {"on": ["again"], "ram": ["again"]}


def measure():
    return swap_guests.result("swap_later_touch_on_vs_ram", 1.1, RUNS, figures, lambda its: its["on_ns"] / its["ram_ns"])


def figures(on, ram):
    return {"on_ns": again(on["again"]), "ram_ns": again(ram["again"])}
