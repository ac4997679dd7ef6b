# SPDX-License-Identifier: Apache-2.0
"""Guests that touch memory, some of them more than they have, and the cost of a touched page. For the benchmarks beside this file.

    swap_guests.py SYMVMM KERNEL INITRD NAME:RUN[,RUN]...    runs them on this machine, and prints JSON

In the lab, they run twice. In virtual time, each instruction of the guest, of the VMM and of its host's kernel takes one nanosecond; walks of the
guest's and the nested page tables cost nothing. In wall-clock time, the emulator's speed counts.
"""

import dataclasses
import json
import os
import re
import statistics
import sys
import tempfile

import machine
from result import BenchmarkError, Result

MEBIBYTES = 96  # of RAM
REGION = 2 * MEBIBYTES
NEW = 24  # fits into RAM
ENOUGH = 512
SWAP = "480M"
# Most seconds for a guest, and for a lab. On a quiet machine, the benchmark's own limit is shorter.
GUEST_SECONDS = 1000
SECONDS = 1500
RUNS = {
    "first": f"/tests/swaptime {REGION} seq",
    "again": f"/tests/swaptime {REGION} seq*2,random,write",
    # The same for guests that swap at each touch, of which random ones are the slowest: parts of the passes, after a whole pass.
    "sampled": f"/tests/swaptime {REGION} seq,seq/4,random/8,write/8",
    # Short, so other work of the guest distorts it: the median of five.
    "sparse": "; ".join([f"/tests/swaptime {REGION} sparse"] * 5),
    "new": f"/tests/swaptime {NEW} new*6",
}


@dataclasses.dataclass
class Guest:
    """A guest to measure."""

    bypass: str | None = None  # on or off; None: no swap disk of symvmm
    memory: int = MEBIBYTES
    setup: str = ""  # of its swap, in its shell
    qemu_disk: str | None = None  # under QEMU, with this device for its swap


SETUP = "echo 0 >/sys/block/vda/queue/rotational; swapon /dev/vda; sleep 1; "
GUESTS = {
    "on": Guest("on", setup=SETUP),
    "off": Guest("off", setup=SETUP),
    "ram": Guest(memory=ENOUGH),
    "plain": Guest("off", setup="rmmod symbiotic; " + SETUP),
    "zram": Guest(setup=f"modprobe lzo-rle; modprobe zram; echo {SWAP} >/sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0; "),
    "qemu": Guest(setup=f"mkswap /dev/vda; {SETUP}", qemu_disk="virtio-blk"),
    "pmem": Guest(setup="modprobe virtio_pmem; modprobe nd_pmem; mkswap /dev/pmem0; swapon /dev/pmem0; ", qemu_disk="virtio-pmem"),
}
PASS = re.compile(r"swaptime: pass (\d+) (\w+) (\d+) pages ([\d.]+) ns/page, (\d+) of \d+ were out, (\d+) major and (\d+) minor faults")


def files():
    """The kernel and the initial RAM disk."""
    machine.run("make", "-C", f"{machine.ROOT}/guest/tests", f"OUTPUT={machine.TOOLS}/programs", timeout=300)
    return machine.with_module(others=[f"{machine.TOOLS}/programs:/tests"])


def prepare():
    machine.prepare_lab()
    files()


def measured(runs, wall_clock=False):
    """{guest: {run: [pass, ...]}}; a pass has order, ns (a page), pages, out, major and minor. runs: {guest: names of RUNS}; all in one lab."""
    words = machine.python("swap_guests.py", machine.SYMVMM, *files(), *(f"{guest}:{','.join(names)}" for guest, names in runs.items()))
    return json.loads(machine.linux_host(*words, timeout=SECONDS, icount=not wall_clock).splitlines()[-1])


def result(name, limit, runs, figures, ratio, at_least=False):
    """Measures, and returns the result of a benchmark.

    figures: computes the figures from the guests' passes, in the order of runs; ratio: computes the ratio from the figures. Without hardware
    virtualization, the limit is for the ratio in virtual time; the ratio in wall-clock time is shown with it.
    """
    guests = measured(runs)
    shown, raw = figures(*guests.values()), {"passes": guests}
    value, real_time = ratio(shown), machine.has_hardware_virtualization()
    if not real_time:
        timed = measured(runs, wall_clock=True)
        raw["wall_clock"] = {"figures": figures(*timed.values()), "passes": timed}
        shown = {**shown, "by_wall_clock_ratio": round(ratio(raw["wall_clock"]["figures"]), 3)}
    return Result(name, shown, value, "x", limit, raw, where(), at_least=at_least, timed=real_time)


def again(passes):
    """Nanoseconds a page of the passes after the first."""
    return statistics.mean(one["ns"] for one in passes[1:])


def where():
    return "real time" if machine.has_hardware_virtualization() else "lab, one nanosecond an instruction"


def command_line(guest, runs, symvmm, kernel, initrd, folder):
    commands = guest.setup + "; ".join(f"echo run {name}; {RUNS[name]}" for name in runs)
    # virtio-pmem has memory above 4 GiB. For such a guest, Linux reserves 64 MiB for devices that cannot reach it; this guest has none.
    bounce = "swiotlb=noforce " if guest.qemu_disk == "virtio-pmem" else ""
    boot = ["-kernel", kernel, "-initrd", initrd, "-append", f'console=ttyS0 quiet reboot=k panic=-1 {bounce}symvmm.exec="{commands}"']
    if not guest.qemu_disk:
        swap = ["--swap", f"{SWAP},bypass={guest.bypass}"] if guest.bypass else []
        return [symvmm, "run", "--quiet", "--memory", f"{guest.memory}M", *swap, *("-" + word if word in BOOT else word for word in boot)]
    # QEMU's swap disk is a file in host memory, like symvmm's.
    disk = os.path.join(folder, "swap")
    with open(disk, "wb") as file:
        file.truncate(int(SWAP.removesuffix("M")) << 20)
    if guest.qemu_disk == "virtio-blk":
        device = ["-m", str(guest.memory), "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"]
    else:
        # The window of virtio-pmem lies above the guest's memory, in the range for hotplugged memory.
        device = ["-m", f"{guest.memory},slots=1,maxmem=2G", "-object", f"memory-backend-file,id=swap,share=on,mem-path={disk},size={SWAP}"]
        device += ["-device", "virtio-pmem-pci,memdev=swap"]
    return [
        "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none", "-serial", "stdio", *device, *boot,
    ]


BOOT = ("-kernel", "-initrd", "-append")


def run_guest(name, runs, symvmm, kernel, initrd):
    """{run: [pass, ...]}"""
    passes, run, output = {}, None, []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        words = command_line(GUESTS[name], runs, symvmm, kernel, initrd, folder)
        with machine.watch(f"the guest {name}", words, GUEST_SECONDS) as guest:
            for line in guest.lines():
                output.append(line)
                if line.startswith("run "):
                    run = passes.setdefault(line.split()[1], [])
                elif match := PASS.search(line):
                    ns, *numbers = float(match.group(4)), *(int(match.group(group)) for group in (3, 5, 6, 7))
                    run.append({"order": match.group(2), "ns": ns, **dict(zip(("pages", "out", "major", "minor"), numbers))})
                    machine.step(f"guest {name}, {match.group(2)}: {ns:,.0f} ns a page")
            status = guest.end()
    if status != 0 or set(passes) != set(runs) or not all(passes.values()):
        last = " ".join(line for line in output if line.strip())[-300:]
        raise BenchmarkError(f"the guest {name} did not measure (status {status}): {last}")
    return passes


def main():
    *files_, all_runs = [*sys.argv[1:4], sys.argv[4:]]
    measured_here = {}
    for number, words in enumerate(all_runs, 1):
        name, _, runs = words.partition(":")
        machine.step(f"guest {name}, {number} of {len(all_runs)}")
        measured_here[name] = run_guest(name, runs.split(","), *files_)
    print(json.dumps(measured_here))


if __name__ == "__main__":
    machine.exit_with(main)
