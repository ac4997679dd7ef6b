# SPDX-License-Identifier: Apache-2.0
"""Private memory of a VM without its guest's, with 1, 5, 10 and 20 VMs of 64 MiB at once, whose APIs have answered.

The guests halt at once, on any /dev/kvm. It counts the private pages in /proc, without unchanged pages of the program's file, which all VMs
share. The figure is the mean of the 20 VMs; flat means at most 0.1 MiB above that of a VM alone.
"""

import os
import statistics
import subprocess
import tempfile
import time

import machine
import private_memory
from result import BenchmarkError, Result
from start_cpu_ms import wait_for_answer

LIMIT = 5
USUAL = 30  # seconds on two quiet cores
COUNTS = (1, 5, 10, 20)
MEMORY_MIB = 64
# The most MiB for each VM above those of a VM alone.
SLOPE = 0.1


def measure():
    means = {count: statistics.mean(overheads(count)) for count in COUNTS}
    alone, together = means[COUNTS[0]], means[COUNTS[-1]]
    rise = together - alone
    if rise > SLOPE:
        raise BenchmarkError(f"not flat: {alone:.2f} MiB for a VM alone, {together:.2f} MiB for each of {COUNTS[-1]}")
    return Result(
        "overhead_mib_per_vm_at_20",
        {"mib_at_1": round(alone, 3), "mib_at_20": round(together, 3)},
        together,
        "MiB",
        LIMIT,
        {f"mib_at_{count}": mean for count, mean in means.items()},
        f"flat: {', '.join(f'{means[count]:.2f} MiB at {count}' for count in COUNTS)}",
        timed=False,
    )


def overheads(count):
    """MiB of each VM when `count` VMs run at once."""
    machine.step(f"{count} VMs at once")
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(count):
                path = os.path.join(folder, f"{number}.sock")
                words = [
                    machine.SYMVMM, "run", "--quiet", "--memory", f"{MEMORY_MIB}M", "--kernel", machine.guest("halt"), "--console", "none",
                    "--name", f"bench-{os.getpid()}-{number}", "--api-socket", path,
                ]
                processes.append(
                    subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                )
                wait_for_answer(path, processes[-1])
            time.sleep(1)
            return [overhead(process.pid) for process in processes]
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def overhead(pid):
    kib = private_memory.measure(pid, MEMORY_MIB)
    return (kib["private_kib"] - kib["guest_private_kib"] - kib["clean_program_kib"]) / 1024
