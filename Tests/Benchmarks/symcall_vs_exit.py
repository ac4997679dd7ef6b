# SPDX-License-Identifier: Apache-2.0
"""The price of a null symcall from inside a PIO exit, in null PIO exits.

symcall.elf rings the doorbell whose exit makes one PING, and does plain OUTs, block by block in one run, and reads the time stamp
counter around each block. The ratio is (OUT with a symcall in its exit - plain OUT) / plain OUT, the median over the blocks.

Two more ratios, without a limit: the same for a VMM in C that makes symcalls with plain ioctls, without KVM_CAP_SYNC_REGS, and the price of a
symcall from outside, each in plain exits of its own run.
"""

import os
import statistics

import machine
import symcall_from_outside
from result import BenchmarkError, Result, spread_of_median

LIMIT = 1.6
USUAL = 20  # seconds on two quiet cores
BLOCKS = 300
BLOCKS_OF_IOCTLS = 50
COUNT = 32


def measure():
    machine.step("symcalls under symvmm")
    blocks = measure_blocks(BLOCKS, COUNT)
    plain, doorbell, symcall = medians(blocks)
    machine.step("the same with plain ioctls")
    ioctls = measure_ioctls(BLOCKS_OF_IOCTLS, COUNT)
    ioctls_plain, _, ioctls_symcall = medians(ioctls)
    machine.step("symcalls from outside")
    outside_us, outside_exit_us = symcall_from_outside.measure()
    return Result(
        "symcall_vs_exit",
        {
            "symcall_ticks": round(symcall - plain, 1),
            "exit_ticks": round(plain, 1),
            "with_plain_ioctls_ratio": round(ratio(ioctls), 2),
            "from_outside_ratio": round(outside_us / outside_exit_us, 2),
        },
        ratio(blocks),
        "x",
        LIMIT,
        {
            "exit_ticks": plain,
            "empty_doorbell_ticks": doorbell,
            "doorbell_with_symcall_ticks": symcall,
            "blocks": BLOCKS,
            "count": COUNT,
            "plain_ioctls": {"exit_ticks": ioctls_plain, "doorbell_with_symcall_ticks": ioctls_symcall, "blocks": BLOCKS_OF_IOCTLS},
            "from_outside": {"symcall_us": outside_us, "exit_us": outside_exit_us},
        },
        f"a doorbell with nothing waiting: {statistics.median((b[2] - b[1]) / b[1] for b in blocks):.2f} exits more; "
        f"from outside: {outside_us:.0f} us",
        spread=spread_of_median(ratios(blocks)),
    )


def medians(blocks):
    """Ticks of one OUT: plain, a doorbell without a waiting symcall, a doorbell with a symcall."""
    return tuple(statistics.median(block[column] for block in blocks) / COUNT for column in (1, 2, 3))


def ratio(blocks):
    return statistics.median(ratios(blocks))


def ratios(blocks):
    return [(block[3] - block[1]) / block[1] for block in blocks]


def measure_blocks(blocks, count):
    """Runs the guest; returns its lines of four numbers, and checks that every symcall completed."""
    environment = {**os.environ, "SYMVMM_PING_ON_TEST_DOORBELL": "1"}
    return checked(machine.run_symvmm("symcall", f"blocks={blocks} count={count}", binary=machine.TEST_SYMVMM, env=environment), blocks, count)


def measure_ioctls(blocks, count):
    """The same under the VMM in C without KVM_CAP_SYNC_REGS."""
    vmm = machine.compile_vmm("symcall-ioctls")
    return checked(machine.run(vmm, machine.guest("symcall"), f"blocks={blocks} count={count}"), blocks, count)


def checked(text, blocks, count):
    lines = machine.hexadecimal(text, "block")
    completed = machine.hexadecimal(text, "completed")
    if len(lines) != blocks or not completed:
        raise BenchmarkError(f"the guest did not measure: {text.strip()[:100]}")
    if completed[0][0] != blocks * count:
        raise BenchmarkError(f"{completed[0][0]} symcalls completed, {blocks * count} asked for")
    return lines
