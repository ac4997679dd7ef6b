# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again: QEMU with a swap disk in host memory, the faster of two kinds, against bypass."""

import swap_guests
from swap_guests import again

USUAL = 200  # seconds on two quiet cores
prepare = swap_guests.prepare  # pylint: disable=invalid-name
RUNS = {name: ["sampled"] for name in ("qemu", "pmem", "on")}


def measure():
    return swap_guests.result("swap_qemu_vs_on", 20, RUNS, figures, ratio, at_least=True)


def figures(*guests):
    return dict(zip(("qemu_virtio_blk_ns", "qemu_virtio_pmem_ns", "on_ns"), (again(guest["sampled"]) for guest in guests)))


def ratio(its):
    return min(its["qemu_virtio_blk_ns"], its["qemu_virtio_pmem_ns"]) / its["on_ns"]
