# SPDX-License-Identifier: Apache-2.0
"""Guests that touch more memory than they have, or not, and what a touched page costs them. For the benchmarks beside this file.

    swap_guests.py SYMVMM KERNEL INITRD [NAME]...    runs them where it is, and prints JSON

In the lab twice. By virtual time: one nanosecond an instruction, of the guest and of all that the VMM and its host's kernel do for it. What
the guest's own page tables and the nested ones cost the hardware to walk is not in it. And by the wall clock, which has the emulator's speed in it.
"""

import dataclasses
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import machine
from result import BenchmarkError, Result

MEBIBYTES = 96  # of RAM
REGION = 2 * MEBIBYTES
NEW = 24  # fits into RAM
ENOUGH = 512
SWAP = "480M"
SECONDS = 1500
RUNS = {
    "passes": f"/tests/swaptime {REGION} seq*2,random,write",
    # Short, so that whatever else the guest does now and then counts much: the median of some.
    "sparse": "; ".join([f"/tests/swaptime {REGION} sparse"] * 5),
    "new": f"/tests/swaptime {NEW} new*6",
}


@dataclasses.dataclass
class Guest:
    """A guest to measure."""

    bypass: str | None = None  # on or off; None: no swap disk of symvmm's
    memory: int = MEBIBYTES
    runs: tuple = tuple(RUNS)
    setup: str = ""  # of its swap, in its shell
    qemu_disk: str | None = None  # under QEMU, with this device for its swap


SETUP = "echo 0 >/sys/block/vda/queue/rotational; swapon /dev/vda; sleep 1; "
GUESTS = {
    "on": Guest("on", setup=SETUP),
    "off": Guest("off", setup=SETUP),
    "ram": Guest(memory=ENOUGH),
    "plain": Guest("off", setup="rmmod symbiotic; " + SETUP, runs=("new",)),
    "zram": Guest(setup=f"modprobe lzo-rle; modprobe zram; echo {SWAP} >/sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0; ", runs=("passes",)),
    "qemu": Guest(setup=f"mkswap /dev/vda; {SETUP}", runs=("passes",), qemu_disk="virtio-blk"),
    "pmem": Guest(
        setup="modprobe virtio_pmem; modprobe nd_pmem; mkswap /dev/pmem0; swapon /dev/pmem0; ", runs=("passes",), qemu_disk="virtio-pmem"),
}
PASS = re.compile(r"swaptime: pass (\d+) (\w+) (\d+) pages ([\d.]+) ns/page, (\d+) of \d+ were out, (\d+) major and (\d+) minor faults")


@functools.cache
def measured(wall_clock=False):
    """{guest: {run: [pass, ...]}}, or {guest: why it failed}; a pass has order, ns (a page), pages, out, major and minor. Measured once
    for all benchmarks."""
    machine.run("make", "-C", f"{machine.ROOT}/guest/tests", f"OUTPUT={machine.TOOLS}/programs", timeout=300)
    kernel, initrd = machine.with_module(others=[f"{machine.TOOLS}/programs:/tests"])
    words = machine.python("swap_guests.py", machine.SYMVMM, kernel, initrd)
    text = machine.linux_host(*words, timeout=SECONDS, icount=not wall_clock)
    return json.loads(text.splitlines()[-1])


def result(name, limit, figures, ratio, at_least=False):
    """What a benchmark answers.

    figures: the names of guests, and what is made of what they measured; ratio: of these figures. The limit is for the ratio by
    virtual time where there is no hardware virtualization; that by the wall clock is shown with it.
    """
    guests, make = figures

    def of(measurement):
        for guest in guests:
            if isinstance(measurement[guest], str):
                raise BenchmarkError(measurement[guest])
        return make(*(measurement[guest] for guest in guests))

    shown, raw = of(measured()), {"passes": {guest: measured()[guest] for guest in guests}}
    value = ratio(shown)
    if not machine.has_hardware_virtualization():
        timed = measured(wall_clock=True)
        raw["wall_clock"] = {"figures": of(timed), "passes": {guest: timed[guest] for guest in guests}}
        shown = {**shown, "by_wall_clock_ratio": round(ratio(of(timed)), 3)}
    return Result(name, shown, value, "x", limit, raw, where(), at_least=at_least)


def again(guest):
    """Nanoseconds a page of the passes after the first."""
    return statistics.mean(one["ns"] for one in guest["passes"][1:])


def where():
    return "real time" if machine.has_hardware_virtualization() else "lab, one nanosecond an instruction"


def command_line(guest, symvmm, kernel, initrd, folder):
    commands = guest.setup + "; ".join(f"echo run {name}; {RUNS[name]}" for name in guest.runs)
    # With memory beyond 4 GiB, which virtio-pmem's is, Linux would set 64 MiB aside for devices that reach no further; here there are none.
    bounce = "swiotlb=noforce " if guest.qemu_disk == "virtio-pmem" else ""
    boot = ["-kernel", kernel, "-initrd", initrd, "-append", f'console=ttyS0 quiet reboot=k panic=-1 {bounce}symvmm.exec="{commands}"']
    if not guest.qemu_disk:
        swap = ["--swap", f"{SWAP},bypass={guest.bypass}"] if guest.bypass else []
        return [symvmm, "run", "--quiet", "--memory", f"{guest.memory}M", *swap, *("-" + word if word in BOOT else word for word in boot)]
    # Its swap disk is a file in the host's memory, as symvmm's is.
    disk = os.path.join(folder, "swap")
    with open(disk, "wb") as file:
        file.truncate(int(SWAP.removesuffix("M")) << 20)
    if guest.qemu_disk == "virtio-blk":
        device = ["-m", str(guest.memory), "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"]
    else:
        # Its window lies behind the guest's own memory, as memory that could be plugged in.
        device = ["-m", f"{guest.memory},slots=1,maxmem=2G", "-object", f"memory-backend-file,id=swap,share=on,mem-path={disk},size={SWAP}"]
        device += ["-device", "virtio-pmem-pci,memdev=swap"]
    return [
        "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none", "-serial", "stdio", *device, *boot,
    ]


BOOT = ("-kernel", "-initrd", "-append")


def run_guest(name, symvmm, kernel, initrd):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        words = command_line(GUESTS[name], symvmm, kernel, initrd, folder)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False)
    passes, run = {}, None
    for line in done.stdout.splitlines():
        if line.startswith("run "):
            run = passes.setdefault(line.split()[1].strip(), [])
        elif match := PASS.search(line):
            numbers = [float(match.group(group)) if group == 4 else int(match.group(group)) for group in (4, 3, 5, 6, 7)]
            run.append({"order": match.group(2), **dict(zip(("ns", "pages", "out", "major", "minor"), numbers))})
    if done.returncode != 0 or len(passes) != len(GUESTS[name].runs) or not all(passes.values()):
        raise BenchmarkError(f"the guest {name} did not measure (status {done.returncode}): {(done.stdout + done.stderr).strip()[-600:]}")
    return passes


def run_or_say_why(name, *files):
    try:
        return run_guest(name, *files)
    except BenchmarkError as error:
        return str(error)


if __name__ == "__main__":
    print(json.dumps({name: run_or_say_why(name, *sys.argv[1:4]) for name in sys.argv[4:] or GUESTS}))
