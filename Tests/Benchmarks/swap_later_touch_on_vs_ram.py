# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM touched again, with bypass, against the same in a guest with enough RAM."""

import swap_guests


def measure():
    figures = ("on", "ram"), lambda on, ram: {"on_ns": swap_guests.again(on), "ram_ns": swap_guests.again(ram)}
    return swap_guests.result("swap_later_touch_on_vs_ram", 1.1, figures, lambda its: its["on_ns"] / its["ram_ns"])
