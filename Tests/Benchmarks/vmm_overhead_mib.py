# SPDX-License-Identifier: Apache-2.0
"""Private memory of symvmm without the guest's, with one vCPU and a guest of 128 MiB that has booted.

Unchanged pages of the program's file are in the page cache and shared with every other VM; /proc counts them as private while there is only
one VM. They do not count, but are shown. The inner part is overhead.py.
"""

import json

import machine
from result import Result

LIMIT = 5
USUAL = 30  # seconds on two quiet cores
MEMORY_MIB = 128


def prepare():
    machine.prepare_lab()
    machine.linux_guest()


def measure():
    kernel, initrd = machine.linux_guest()
    words = machine.python("overhead.py", machine.SYMVMM, kernel, initrd, str(MEMORY_MIB))
    kib = json.loads(machine.linux_host(*words, timeout=240))
    with_program = kib["private_kib"] - kib["guest_private_kib"]
    own = with_program - kib["clean_program_kib"]
    return Result(
        "vmm_overhead_mib",
        {"private_mib": round(kib["private_kib"] / 1024, 2), "guest_mib": round(kib["guest_private_kib"] / 1024, 2)},
        own / 1024,
        "MiB",
        LIMIT,
        kib,
        f"with the program's unchanged pages, which all VMs share: {with_program / 1024:.2f} MiB",
        timed=False,
    )
