# SPDX-License-Identifier: Apache-2.0
"""The private memory of a symvmm process and its guest's part of it, from /proc/PID/smaps."""

import re
import sys


def mappings(pid):
    """For each mapping: its first line; its size, its private pages and its clean private pages of a file, in KiB; its flags."""
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
        text = file.read()
    for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)[1:]:
        fields = dict(re.findall(r"(?m)^(\w+):\s+(\d+) kB$", part))
        flags = re.search(r"(?m)^VmFlags:(.*)$", part)
        private = int(fields["Private_Clean"]) + int(fields["Private_Dirty"])
        first = part.splitlines()[0]
        of_file = int(fields["Private_Clean"]) if "/" in first else 0
        yield first, int(fields["Size"]), private, of_file, flags.group(1).split() if flags else []


def measure(pid, memory_mib):
    everything = list(mappings(pid))
    # Guest memory is the mapping of that size. symvmm excludes it from core dumps ("dd"), so the kernel never merges it with others.
    guest = [entry for entry in everything if entry[1] == memory_mib * 1024 and "dd" in entry[4]]
    if len(guest) != 1:
        sys.exit(f"{len(guest)} mappings of {memory_mib} MiB that may be the guest's memory")
    others = sorted((entry for entry in everything if entry not in guest and entry[2] > 0), key=lambda entry: -entry[2])
    return {
        "private_kib": sum(entry[2] for entry in everything),
        "guest_private_kib": guest[0][2],
        "clean_program_kib": sum(entry[3] for entry in everything),
        "largest": [f"{entry[2]} KiB ({entry[3]} clean of a file): {entry[0]}" for entry in others[:8]],
    }
