# SPDX-License-Identifier: Apache-2.0
"""Guests that touch more memory than they have, or not, and what a touched page costs them. For the benchmarks beside this file.

    swap_guests.py SYMVMM KERNEL INITRD    runs them where it is, and prints JSON

In the lab, by virtual time: one nanosecond an instruction, of the guest and of all that the VMM and its host's kernel do for it. What the
guest's own page tables and the nested ones cost the hardware to walk is not in it.
"""

import functools
import json
import re
import subprocess
import sys

import machine
from result import BenchmarkError

MEBIBYTES = 112  # of RAM
REGION = 2 * MEBIBYTES
NEW = 24  # fits into RAM
ENOUGH = 512
SWAP = "480M"
SECONDS = 1500
RUNS = {
    "seq": f"/tests/swaptime {REGION} 3 seq",
    "random": f"/tests/swaptime {REGION} 2 random",
    "write": f"/tests/swaptime {REGION} 2 seq write",
    "sparse": f"/tests/swaptime {REGION} 1 sparse",
    "new": f"/tests/swaptime {NEW} 6 new",
}
# Name: RAM in MiB, whether there is a swap disk and how it is used, whether the module is there.
GUESTS = {
    "on": (MEBIBYTES, "on", True),
    "off": (MEBIBYTES, "off", True),
    "ram": (ENOUGH, None, True),
    "plain": (MEBIBYTES, "off", False),
}
PASS = re.compile(r"swaptime: pass (\d+) (\w+) (\d+) pages (\d+) ns/page, (\d+) of \d+ were out, (\d+) major and (\d+) minor faults")


@functools.cache
def measured():
    """{guest: {run: [pass, ...]}}; a pass has ns (a page), pages, out, major and minor. Measured once for all benchmarks."""
    machine.run("make", "-C", f"{machine.ROOT}/guest/tests", f"OUTPUT={machine.TOOLS}/programs", timeout=300)
    kernel, initrd = machine.with_module(others=[f"{machine.TOOLS}/programs:/tests"])
    words = machine.python("swap_guests.py", machine.SYMVMM, kernel, initrd)
    text = machine.linux_host(*words, timeout=SECONDS, icount=True)
    return json.loads(text.splitlines()[-1])


def where():
    return "real time" if machine.has_hardware_virtualization() else "lab, one nanosecond an instruction"


def run_guest(symvmm, kernel, initrd, memory, bypass, module):
    commands = "" if module else "rmmod symbiotic; "
    if bypass:
        commands += "echo 0 >/sys/block/vda/queue/rotational; swapon /dev/vda; sleep 1; "
    commands += "; ".join(f"echo run {name}; {words}" for name, words in RUNS.items() if module or name == "new")
    commands += "; cat /proc/swaps; dmesg -r | grep ^.[0-4] | tail -n 3"
    words = [
        symvmm, "run", "--quiet", "--memory", f"{memory}M", "--kernel", kernel, "--initrd", initrd,
        *(["--swap", f"{SWAP},bypass={bypass}"] if bypass else []),
        "--append", f'console=ttyS0 quiet panic=-1 symvmm.exec="{commands}"',
    ]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False)
    passes, run = {}, None
    for line in done.stdout.splitlines():
        if line.startswith("run "):
            run = passes.setdefault(line.split()[1].strip(), [])
        elif match := PASS.search(line):
            numbers = [int(match.group(group)) for group in (4, 3, 5, 6, 7)]
            run.append(dict(zip(("ns", "pages", "out", "major", "minor"), numbers)))
    if done.returncode != 0 or not all(passes.values()):
        raise BenchmarkError(f"the guest did not measure (status {done.returncode}): {(done.stdout + done.stderr).strip()[-600:]}")
    return passes


if __name__ == "__main__":
    print(json.dumps({name: run_guest(*sys.argv[1:4], *guest) for name, guest in GUESTS.items()}))
