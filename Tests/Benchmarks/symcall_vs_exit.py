# SPDX-License-Identifier: Apache-2.0
"""The price of a null symcall from inside a PIO exit, in null PIO exits.

symcall.elf rings the doorbell whose exit makes one PING, and does plain OUTs, block by block in one run, and reads the time stamp
counter around each block. The ratio is (OUT with a symcall in its exit - plain OUT) / plain OUT, the median over the blocks.
"""

import os
import statistics

import machine
from result import BenchmarkError, Result

LIMIT = 1.6
BLOCKS = 300
COUNT = 32


def measure():
    blocks = measure_blocks(BLOCKS, COUNT)
    plain, doorbell, symcall = (statistics.median(block[column] for block in blocks) / COUNT for column in (1, 2, 3))
    ratio = statistics.median((block[3] - block[1]) / block[1] for block in blocks)
    return Result(
        "symcall_vs_exit",
        {"symcall_ticks": round(symcall - plain, 1), "exit_ticks": round(plain, 1)},
        ratio,
        "x",
        LIMIT,
        {"exit_ticks": plain, "empty_doorbell_ticks": doorbell, "doorbell_with_symcall_ticks": symcall, "blocks": BLOCKS, "count": COUNT},
        f"a doorbell with nothing waiting: {statistics.median((b[2] - b[1]) / b[1] for b in blocks):.2f} exits more",
    )


def measure_blocks(blocks, count):
    """Runs the guest; its lines of four numbers, checked: every symcall was made and came back."""
    environment = {**os.environ, "SYMVMM_PING_ON_TEST_DOORBELL": "1"}
    text = machine.run_symvmm("symcall", f"blocks={blocks} count={count}", env=environment)
    lines = machine.hexadecimal(text, "block")
    completed = machine.hexadecimal(text, "completed")
    if len(lines) != blocks or not completed:
        raise BenchmarkError(f"the guest did not measure: {text.strip()[:100]}")
    if completed[0][0] != blocks * count:
        raise BenchmarkError(f"{completed[0][0]} symcalls completed, {blocks * count} asked for")
    return lines
