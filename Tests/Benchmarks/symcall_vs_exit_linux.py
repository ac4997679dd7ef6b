# SPDX-License-Identifier: Apache-2.0
"""The price of a null symcall from inside a PIO exit of Linux, in null PIO exits; in the lab, in virtual time.

The guest is a stock kernel with the test build of symbiotic.ko, which times OUTs to a port with no device and doorbells in whose exits
the VMM makes one PING, in turn, in kernel mode with interrupts off. In the lab an instruction counts as one nanosecond (--icount),
so the emulator's speed does not matter. The ratio is (doorbell with a symcall - plain OUT) / plain OUT, the median over the blocks.
"""

import os
import re
import statistics

import machine
from result import BenchmarkError, Result, spread_of_median

LIMIT = 1.6
USUAL = 60  # seconds on two quiet cores
BLOCKS = 40
COUNT = 64
SECONDS = 600
FILE = "/sys/kernel/debug/symbiotic/test"
STATUS = "/sys/kernel/debug/symbiotic/status"
# Without quotes: it becomes a word of the kernel's command line.
COMMANDS = (
    f"cat {STATUS}; n={BLOCKS}; while [ $n -gt 0 ]; do for c in time_outs time_doorbells; do echo $c 0 {COUNT} >{FILE}; read -r line <{FILE}; echo $line; "
    f"done; n=$((n-1)); done; cat {STATUS}"
)


def prepare():
    machine.prepare_lab()
    machine.symbiotic_guest()


def measure():
    plain, symcall, where = measure_blocks()
    ratios = [(b - a) / a for a, b in zip(plain, symcall)]
    exit_ticks, doorbell_ticks = (statistics.median(times) / COUNT for times in (plain, symcall))
    return Result(
        "symcall_vs_exit_linux",
        {"symcall_ticks": round(doorbell_ticks - exit_ticks, 1), "exit_ticks": round(exit_ticks, 1)},
        statistics.median(ratios),
        "x",
        LIMIT,
        {"blocks": BLOCKS, "count": COUNT, "plain_ticks_of_blocks": plain, "doorbell_ticks_of_blocks": symcall, "where": where},
        where,
        timed=machine.has_hardware_virtualization(),
        spread=spread_of_median(ratios),
    )


def measure_blocks():
    """Returns the ticks of each block of OUTs and of each block of doorbells, and checks that every symcall completed."""
    kernel, initrd = machine.symbiotic_guest()
    words = [
        machine.TEST_SYMVMM, "run", "--quiet", "--memory", "128M", "--kernel", kernel, "--initrd", initrd,
        "--append", f'console=ttyS0 quiet panic=-1 symvmm.exec="{COMMANDS}"',
    ]
    words = machine.python("guest_output.py", str(SECONDS), "time_doorbells: accepted", str(BLOCKS), *words)
    environment = {**os.environ, "SYMVMM_PING_ON_TEST_DOORBELL": "1"}
    text = machine.linux_host(*words, timeout=SECONDS, icount=True, env=environment)
    plain, symcall = (
        [int(number) for number in re.findall(rf"{command}: accepted \(0\): (\d+) ticks", text)] for command in ("time_outs", "time_doorbells")
    )
    completed = [int(number) for number in re.findall(r"vcpu 0: .* completed (\d+)", text)]
    if len(plain) != BLOCKS or len(symcall) != BLOCKS or len(completed) != 2:
        raise BenchmarkError(f"the guest did not measure: {text.strip()[-200:]}")
    if completed[1] - completed[0] != BLOCKS * COUNT:
        raise BenchmarkError(f"{completed[1] - completed[0]} symcalls completed, {BLOCKS * COUNT} asked for")
    return plain, symcall, "real time" if machine.has_hardware_virtualization() else "lab, one tick an instruction"
