# SPDX-License-Identifier: Apache-2.0
"""What else the machine did while a benchmark ran: processor time from /proc/stat, waiting tasks from /proc/pressure."""

import dataclasses
import os
import re
import time

# Limits above which a machine is noisy: percent of the time of all processors.
OTHERS = 5
STEAL = 2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Moment:
    """Counters at one moment, in seconds since an arbitrary start."""

    clock: float
    total: float  # of all processors, idle or not
    busy: float
    steal: float
    own: float  # of the benchmark's processes
    waiting: float | None  # with a task that waits for a processor; None if the kernel has no such counter


def moment(own):
    """The counters now. own: processor time that the benchmark has used so far."""
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
    """The noise between two moments, in percent: of the processors' time, the share of other processes and the share that the host took; of the
    time, the share with a task (also one of the benchmark) that waited for a processor."""
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
    """The reasons why a figure that depends on time is unreliable; empty if it is reliable."""
    said = []
    if noise["others_percent"] > OTHERS:
        said.append(f"other processes had {noise['others_percent']:.0f} % of the processors")
    if noise["steal_percent"] > STEAL:
        said.append(f"this machine's host took {noise['steal_percent']:.0f} % of the processors")
    return said


def session_time(session):
    """Processor time of all processes of a session, with that of their ended children: {pid: seconds}."""
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
