# SPDX-License-Identifier: Apache-2.0
"""Two real programs with more memory than the guest has, a sort and a database: bypass off against on, and against enough RAM."""

import concurrent.futures
import json
import os
import re
import sys

import debian_programs
import machine  # before bars, whose folder it adds
import bars
import swap_guests
from result import BenchmarkError, Result

GUESTS = ("off", "on", "ram")  # the slowest first
LABS = 2  # at once
DETAILS = {"on": "bypass on", "off": "bypass off: swapped in from the disk", "ram": "a guest with enough RAM"}
LINE = re.compile(r"swapprograms: (\w+) (\d+) ms, (.+)")
PLOT = os.path.join(machine.TOOLS, "swap_programs.svg")

USUAL = 220  # seconds on two quiet cores


def prepare():
    machine.prepare_lab()
    files()


def files():
    """The kernel and the initial RAM disk."""
    return machine.with_module(
        others=[f"{machine.ROOT}/guest/tests/swapprograms:/tests/swapprograms", f"{debian_programs.folder()}:/debian"])


def measure():
    guests = measured()
    shown, raw, note = times(guests), {"guests": guests}, swap_guests.where()
    clock = "by the wall clock" if machine.has_hardware_virtualization() else "by instructions"
    rows = [bars.Bar(guests[guest][name]["ms"], name, DETAILS[guest], guest) for name in guests["on"] for guest in ("off", "on", "ram")]
    with open(PLOT, "w", encoding="utf-8") as file:
        file.write(bars.plot(f"Programs with more memory than the guest has, {clock}", "ms", rows))
    worst = min(off_vs_on(guests, name) for name in guests["on"])
    note += f"; the plot, {clock}: {os.path.relpath(PLOT, machine.ROOT)}"
    return Result("swap_programs", shown, worst, "x", 1.0, raw, note, at_least=True, timed=machine.has_hardware_virtualization())


def measured():
    """{guest: {program: {ms, result}}}. In the lab, which counts instructions, a second lab beside the first changes no figure."""
    kernel, initrd = files()
    apart = not machine.has_hardware_virtualization()

    def run_in_a_lab(names):
        words = machine.python("swap_programs.py", machine.SYMVMM, kernel, initrd, *names)
        return json.loads(machine.linux_host(*words, timeout=swap_guests.SECONDS, icount=True).splitlines()[-1])

    guests = {}
    with concurrent.futures.ThreadPoolExecutor(LABS) as labs:
        for some in labs.map(run_in_a_lab, [[name] for name in GUESTS] if apart else [GUESTS]):
            guests |= some
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
    programs, output = {}, []
    with machine.watch(f"the guest {name}", words, swap_guests.GUEST_SECONDS) as running:
        for line in running.lines():
            output.append(line)
            if match := LINE.search(line):
                programs[match.group(1)] = {"ms": int(match.group(2)), "result": match.group(3).strip()}
                machine.step(f"guest {name}, {match.group(1)}: {int(match.group(2)):,} ms")
        status = running.end()
    if status != 0 or set(programs) != {"sort", "sqlite"}:
        last = " ".join(line for line in output if line.strip())[-300:]
        raise BenchmarkError(f"the guest {name} did not measure (status {status}): {last}")
    return programs


def main():
    *files_, names = [*sys.argv[1:4], sys.argv[4:]]
    measured_here = {}
    for number, name in enumerate(names, 1):
        machine.step(f"guest {name}, {number} of {len(names)}")
        measured_here[name] = run_guest(name, *files_)
    print(json.dumps(measured_here))


if __name__ == "__main__":
    machine.exit_with(main)
