# SPDX-License-Identifier: Apache-2.0
"""Heap allocations for each exit, counted.

allocation-counter.c is preloaded into symvmm, built as for release but linked to the C library dynamically. The same guest runs
with few and with many exits; the additional allocations of the second run on the vCPU's thread come from the exits. The same with
doorbells and symcalls.
"""

import os
import tempfile

import machine
from result import BenchmarkError, Result

LIMIT = 0
USUAL = 10  # seconds on two quiet cores
# One allocation of the thread comes at some time in its first 1,000 exits, and never again: 17 with 1,000 exits and with 400,000.
FEW, MANY = 2000, 22000
FEW_BLOCKS, MANY_BLOCKS = 2, 130
PER_BLOCK = 16
SCRATCH = ".build-bench"


def prepare():
    machine.step("symvmm with the C library as a shared object (some minutes, the first time)")
    build()


def measure():
    binary, counter = build()
    exits = [count(binary, counter, "exits", f"count={number}") for number in (FEW, MANY)]
    symcalls = [count(binary, counter, "symcall", f"count={PER_BLOCK} blocks={blocks}") for blocks in (FEW_BLOCKS, MANY_BLOCKS)]
    more_exits, more_symcalls = MANY - FEW, (MANY_BLOCKS - FEW_BLOCKS) * PER_BLOCK
    if symcalls[1]["completed"] != MANY_BLOCKS * PER_BLOCK:
        raise BenchmarkError(f"{symcalls[1]['completed']} symcalls completed, {MANY_BLOCKS * PER_BLOCK} asked for")
    per_exit = max(exits[1]["vcpu"] - exits[0]["vcpu"], 0) / more_exits
    per_round = max(symcalls[1]["vcpu"] - symcalls[0]["vcpu"], 0) / more_symcalls
    return Result(
        "exit_allocations",
        {"allocations_per_exit": per_exit, "allocations_per_symcall_and_its_exits": per_round},
        max(per_exit, per_round),
        "",
        LIMIT,
        {"exits": dict(zip((FEW, MANY), exits)), "symcall_blocks": dict(zip((FEW_BLOCKS, MANY_BLOCKS), symcalls))},
        timed=False,
    )


def build():
    """Makes a release build with a shared C library, so that the counter can replace its allocator."""
    words = ["env", "SYMVMM_TEST_BUILD=1", "swift", "build", "-c", "release", "--product", "symvmm", "--static-swift-stdlib", "--scratch-path", SCRATCH]
    machine.build("symvmm-dynamic", *words)
    folder = machine.run(*words, "--show-bin-path", cwd=machine.ROOT).strip()
    return os.path.join(folder, "symvmm"), machine.compile_c("allocation-counter", "-shared", "-fPIC")


def count(binary, counter, guest, command_line):
    with tempfile.NamedTemporaryFile(mode="r", encoding="ascii") as counts:
        environment = {**os.environ, "LD_PRELOAD": counter, "ALLOCATION_COUNTS": counts.name, "SYMVMM_PING_ON_TEST_DOORBELL": "1"}
        # The counter writes a file at the end, which the sandbox would refuse.
        text = machine.run_symvmm(guest, command_line, "--sandbox", "off", binary=binary, env=environment)
        words = counts.read().split()
    if len(words) != 4 or int(words[3]) == 0:
        raise BenchmarkError("the allocation counter counted nothing: is the program linked statically?")
    completed = machine.hexadecimal(text, "completed")
    return {"vcpu": int(words[1]), "all": int(words[3]), "completed": completed[0][0] if completed else 0}
