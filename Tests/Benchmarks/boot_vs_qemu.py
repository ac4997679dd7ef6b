# SPDX-License-Identifier: Apache-2.0
"""Time from process start to the guest's init, against Debian's QEMU, the faster of `-M pc` and `-M microvm`.

The same kernel, initial RAM disk, command line and memory; all in one lab (or on one host with hardware virtualization), in turn. The
inner part is boot_times.py.
"""

import json
import os
import statistics

import machine
from result import Result, pairs_summary

LIMIT = 1.0
USUAL = 150  # seconds on two quiet cores
ROUNDS = int(os.environ.get("SYMVMM_BENCH_ROUNDS", "5"))
COMMAND_LINE = "console=ttyS0 panic=1"


def prepare():
    machine.prepare_lab()
    machine.linux_guest()


def measure():
    kernel, initrd = machine.linux_guest()
    words = machine.python("boot_times.py", machine.SYMVMM, kernel, initrd, COMMAND_LINE, str(ROUNDS))
    times = json.loads(machine.linux_host(*words, timeout=900))
    better = min(("qemu_pc", "qemu_microvm"), key=lambda name: statistics.median(times[name]))
    ours, theirs, ratio, spread = pairs_summary(times["symvmm"], times[better])
    return Result(
        "boot_vs_qemu",
        {"symvmm_seconds": round(ours, 3), f"{better}_seconds": round(theirs, 3)},
        ratio,
        "x",
        LIMIT,
        times,
        ", ".join(f"{name}: {statistics.median(values):.2f} s" for name, values in times.items()),
        spread=spread,
    )
