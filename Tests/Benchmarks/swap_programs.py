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
DETAILS = {"on": "bypass on", "off": "bypass off: swapped in from the disk", "ram": "a guest with enough RAM"}
LINE = re.compile(r"swapprograms: (\w+) (\d+) ms, (.+)")
PLOT = os.path.join(machine.TOOLS, "swap_programs.svg")


def measure():
    guests = measured(icount=True)
    shown, raw, note = times(guests), {"guests": guests}, swap_guests.where()
    if not machine.has_hardware_virtualization():
        guests = measured(icount=False)
        raw["wall_clock"] = {"figures": times(guests), "guests": guests}
        shown |= {f"{name}_off_vs_on_by_wall_clock": round(off_vs_on(guests, name), 3) for name in guests["on"]}
    rows = [bars.Bar(guests[guest][name]["ms"], name, DETAILS[guest], guest) for name in guests["on"] for guest in ("off", "on", "ram")]
    with open(PLOT, "w", encoding="utf-8") as file:
        file.write(bars.plot("Programs with more memory than the guest has, by the wall clock", "ms", rows))
    worst = min(off_vs_on(raw["guests"], name) for name in guests["on"])
    note += f"; the plot, of the wall clock: {os.path.relpath(PLOT, machine.ROOT)}"
    return Result("swap_programs", shown, worst, "x", 1.0, raw, note, at_least=True)


def measured(icount):
    """{guest: {program: {ms, result}}}"""
    kernel, initrd = machine.with_module(
        others=[f"{machine.ROOT}/guest/tests/swapprograms:/tests/swapprograms", f"{debian_programs.folder()}:/debian"])
    words = machine.python("swap_programs.py", machine.SYMVMM, kernel, initrd)
    guests = json.loads(machine.linux_host(*words, timeout=swap_guests.SECONDS, icount=icount).splitlines()[-1])
    if len({json.dumps({name: one["result"] for name, one in guest.items()}) for guest in guests.values()}) != 1:
        raise BenchmarkError(f"the programs' results differ: {guests}")
    return guests


def times(guests):
    return {f"{name}_{guest}_ms": one["ms"] for guest, programs in guests.items() for name, one in programs.items()}


def off_vs_on(guests, name):
    return guests["off"][name]["ms"] / guests["on"][name]["ms"]


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
