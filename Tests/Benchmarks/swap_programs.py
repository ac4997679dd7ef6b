# SPDX-License-Identifier: Apache-2.0
"""Two real programs with more memory than the guest has, a sort and a database: bypass off against on, and against enough RAM."""

import json
import os
import re
import subprocess
import sys

import debian_programs
import machine
import swap_guests
from result import BenchmarkError, Result

sys.path.insert(0, os.path.join(machine.ROOT, "scripts", "lib"))
import bars  # noqa: E402 pylint: disable=wrong-import-position

GUESTS = ("on", "off", "ram")
LINE = re.compile(r"swapprograms: (\w+) (\d+) ms, (.+)")
PLOT = os.path.join(machine.TOOLS, "swap_programs.svg")


def measure():
    kernel, initrd = machine.with_module(
        others=[f"{machine.ROOT}/guest/tests/swapprograms:/tests/swapprograms", f"{debian_programs.folder()}:/debian"])
    words = machine.python("swap_programs.py", machine.SYMVMM, kernel, initrd)
    text = machine.linux_host(*words, timeout=swap_guests.SECONDS, icount=True)
    guests = json.loads(text.splitlines()[-1])
    if len({json.dumps({name: one["result"] for name, one in guest.items()}) for guest in guests.values()}) != 1:
        raise BenchmarkError(f"the programs' results differ: {guests}")
    times = {f"{name}_{guest}_ms": one["ms"] for guest, programs in guests.items() for name, one in programs.items()}
    rows = [(guests[guest][name]["ms"], name, guest, guest) for name in guests["on"] for guest in ("off", "on", "ram")]
    with open(PLOT, "w", encoding="utf-8") as file:
        file.write(bars.plot("Milliseconds of a program: bypass off, on, and enough RAM", rows))
    worst = min(guests["off"][name]["ms"] / guests["on"][name]["ms"] for name in guests["on"])
    return Result(
        "swap_programs", times, worst, "x", 1.0, guests, f"{swap_guests.where()}; the plot: {os.path.relpath(PLOT, machine.ROOT)}", at_least=True)


def run_guest(name, symvmm, kernel, initrd):
    guest = swap_guests.GUESTS[name]
    swap = ["--swap", f"{swap_guests.SWAP},bypass={guest.bypass}"] if guest.bypass else []
    append = f'console=ttyS0 quiet reboot=k panic=-1 symvmm.exec="{guest.setup}/tests/swapprograms /debian"'
    words = [symvmm, "run", "--quiet", "--memory", f"{guest.memory}M", *swap, "--kernel", kernel, "--initrd", initrd, "--append", append]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=swap_guests.SECONDS, check=False)
    programs = {match.group(1): {"ms": int(match.group(2)), "result": match.group(3).strip()} for match in LINE.finditer(done.stdout)}
    if done.returncode != 0 or set(programs) != {"sort", "sqlite"}:
        raise BenchmarkError(f"the guest {name} did not measure (status {done.returncode}): {(done.stdout + done.stderr).strip()[-600:]}")
    return programs


if __name__ == "__main__":
    print(json.dumps({name: run_guest(name, *sys.argv[1:4]) for name in GUESTS}))
