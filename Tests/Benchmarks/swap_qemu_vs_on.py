# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again: QEMU with a swap disk in the host's memory, the better of two, against bypass."""

import swap_guests


def measure():
    figures = ("qemu", "pmem", "on"), lambda *guests: dict(zip(NAMES, map(swap_guests.again, guests)))
    return swap_guests.result("swap_qemu_vs_on", 20, figures, lambda its: min(its[name] for name in NAMES[:2]) / its["on_ns"], at_least=True)


NAMES = ("qemu_virtio_blk_ns", "qemu_virtio_pmem_ns", "on_ns")
