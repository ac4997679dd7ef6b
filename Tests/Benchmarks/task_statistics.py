# SPDX-License-Identifier: Apache-2.0
"""The cost of counting exits by guest process, for a null PIO exit.

symcall.elf times OUTs with its shared page registered, so that the VMM attributes each exit to the task in the page, and without,
block by block in one run.
"""

import statistics

from result import Result, spread_of_median
from symcall_vs_exit import measure_blocks

LIMIT = 1.02
USUAL = 5  # seconds on two quiet cores
BLOCKS = 400
COUNT = 64


def measure():
    blocks = measure_blocks(BLOCKS, COUNT)
    without, counted = (statistics.median(block[column] for block in blocks) / COUNT for column in (0, 1))
    ratios = [block[1] / block[0] for block in blocks]
    return Result(
        "task_statistics",
        {"by_task_ticks_per_exit": round(counted, 1), "plain_ticks_per_exit": round(without, 1)},
        statistics.median(ratios),
        "x",
        LIMIT,
        {"blocks": BLOCKS, "count": COUNT},
        spread=spread_of_median(ratios),
    )
