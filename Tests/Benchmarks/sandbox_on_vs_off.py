# SPDX-License-Identifier: Apache-2.0
"""The time of a null PIO exit with the sandbox on against that with the sandbox off.

Both run exits.elf (exit_loop_vs_c.py), in turn. The difference is the seccomp filter of the vCPU's thread, which the kernel executes for each KVM_RUN.
"""

import machine
from exit_loop_vs_c import BLOCKS, COUNT, PAIRS, ticks
from result import Result, pairs_summary

LIMIT = 1.05
USUAL = 15  # seconds on two quiet cores


def measure():
    command_line = f"count={COUNT} blocks={BLOCKS} report=1"
    runs = {"on": [], "off": []}
    for pair in range(PAIRS):
        if pair % 5 == 0:
            machine.step(f"pair {pair + 1} of {PAIRS}")
        for mode in ("on", "off") if pair % 2 == 0 else ("off", "on"):
            runs[mode].append(ticks(machine.run_symvmm("exits", command_line, "--sandbox", mode)))
    with_it, without, ratio, spread = pairs_summary(runs["on"], runs["off"])
    return Result(
        "sandbox_on_vs_off",
        {"on_ticks_per_exit": round(with_it, 1), "off_ticks_per_exit": round(without, 1)},
        ratio,
        "x",
        LIMIT,
        {**runs, "exits_per_run": BLOCKS * COUNT},
        spread=spread,
    )
