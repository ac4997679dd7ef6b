# SPDX-License-Identifier: Apache-2.0
"""The time of a null PIO exit under symvmm against that in a minimal loop in C (minimal-vmm.c).

Both run exits.elf, which reads the time stamp counter around blocks of OUTs, so neither start nor end counts. The figure of a run is
that of its fastest tenth of the blocks: other load disturbed the others. Runs of both alternate, and the ratio is the median over the pairs.
"""

import statistics

import machine
from result import BenchmarkError, Result, pairs_summary

LIMIT = 1.05
USUAL = 15  # seconds on two quiet cores
PAIRS = 15
BLOCKS = 200
COUNT = 256


def measure():
    minimal_vmm = machine.compile_vmm("minimal-vmm")
    command_line = f"count={COUNT} blocks={BLOCKS} report=1"
    symvmm, minimal = [], []
    for pair in range(PAIRS):
        if pair % 5 == 0:
            machine.step(f"pair {pair + 1} of {PAIRS}")
        steps = [
            lambda: symvmm.append(ticks(machine.run_symvmm("exits", command_line))),
            lambda: minimal.append(ticks(machine.run(minimal_vmm, machine.guest("exits"), command_line))),
        ]
        for step in steps if pair % 2 == 0 else reversed(steps):
            step()
    ours, theirs, ratio, spread = pairs_summary(symvmm, minimal)
    return Result(
        "exit_loop_vs_c",
        {"symvmm_ticks_per_exit": round(ours, 1), "c_ticks_per_exit": round(theirs, 1)},
        ratio,
        "x",
        LIMIT,
        {"symvmm": symvmm, "c": minimal, "exits_per_run": BLOCKS * COUNT},
        spread=spread,
    )


def ticks(text):
    """Ticks of an exit, at the fastest tenth of the run's blocks."""
    blocks = [numbers[0] for numbers in machine.hexadecimal(text, "ticks")]
    if len(blocks) != BLOCKS:
        raise BenchmarkError(f"the guest reported {len(blocks)} of {BLOCKS} blocks")
    return statistics.quantiles(blocks, n=10)[0] / COUNT
