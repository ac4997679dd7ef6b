# SPDX-License-Identifier: Apache-2.0
"""How much else the machine did while a benchmark ran: its processors' time by /proc/stat, and who waited by /proc/pressure."""

import dataclasses
import os
import re
import time

# More than that is a noisy machine: percent of the time of all processors.
OTHERS = 5
STEAL = 2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Moment:
    """Seconds since some moment of the past."""

    clock: float
    total: float  # of all processors, idle or not
    busy: float
    steal: float
    own: float  # of the processes that are not the noise
    waiting: float | None  # with a task that waits for a processor; None where the kernel does not say


def moment(own):
    """Now. own: the processor time so far of what is being measured."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, iowait, irq, softirq, steal = (int(word) / TICKS for word in file.readline().split()[1:9])
    busy = user + nice + system + irq + softirq
    return Moment(time.monotonic(), busy + idle + iowait + steal, busy, steal, own, waiting())


def waiting():
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            return int(re.search(r"^some .*total=(\d+)", file.read(), re.MULTILINE).group(1)) / 1e6
    except (OSError, AttributeError):
        return None


def between(before, after):
    """What happened meanwhile, in percent: of the processors' time, that of others and what a host of this machine took; of the time, with a
    task that waited for a processor, which the benchmark's own tasks do, too."""
    total = max(after.total - before.total, 1e-9)
    others = after.busy - before.busy - (after.own - before.own)
    seconds = after.clock - before.clock
    noise = {"seconds": round(seconds, 1), "others_percent": percent(others, total), "steal_percent": percent(after.steal - before.steal, total)}
    if before.waiting is not None and after.waiting is not None:
        noise["cpu_pressure_percent"] = percent(after.waiting - before.waiting, max(seconds, 1e-9))
    return noise


def percent(part, whole):
    return round(100 * min(1, max(0, part / whole)), 1)


def complaints(noise):
    """Why a figure that depends on time is not to be trusted: no sentence if it is."""
    said = []
    if noise["others_percent"] > OTHERS:
        said.append(f"other processes had {noise['others_percent']:.0f} % of the processors")
    if noise["steal_percent"] > STEAL:
        said.append(f"this machine's host took {noise['steal_percent']:.0f} % of the processors")
    return said


def session_time(session):
    """The processor time of all processes of a session, and of their children that have ended: {pid: seconds}."""
    times = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                times[int(name)] = sum(int(field) for field in fields[11:15]) / TICKS
    return times
