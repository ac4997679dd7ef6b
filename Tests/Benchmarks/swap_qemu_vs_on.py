# SPDX-License-Identifier: Apache-2.0
"""A page of a region of twice the RAM, touched again: QEMU with a swap disk in the host's memory, the better of two, against bypass."""

import statistics

import swap_guests
from result import Result


def measure():
    disk, pmem, on = (statistics.mean(one["ns"] for one in guest["passes"][1:]) for guest in swap_guests.of("qemu", "pmem", "on"))
    return Result(
        "swap_qemu_vs_on", {"qemu_virtio_blk_ns": disk, "qemu_virtio_pmem_ns": pmem, "on_ns": on}, min(disk, pmem) / on, "x", 20, {},
        swap_guests.where(), at_least=True)
