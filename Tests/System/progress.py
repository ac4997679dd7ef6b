# SPDX-License-Identifier: Apache-2.0
"""Detects progress. Tests wait for progress, not for a time: a busy machine makes them slower and does not make them fail."""

import time

# Seconds without progress that end a wait.
STILL = 60
# Seconds of processor time that count as progress. An idle guest uses some: in a lab beside other work, with 1 vCPU or 4, a quarter of this in
# STILL seconds.
WORK = 2
# Seconds between two measurements.
INTERVAL = 0.5


class NoProgress(AssertionError):
    """No machine made progress."""


class Progress:
    """Progress of some machines: new output, or WORK seconds of processor time used by their processes.

    The processor time of symvmm includes the guest's: a guest that computes without output makes progress; a guest that lost an interrupt
    makes none. This class does not detect a guest that spins, or that waits while its second vCPU is busy: the test's limit ends it.
    """

    def __init__(self, machines):
        self.machines = machines
        self.mark = self.measure()
        self.looked = time.monotonic()
        self.still = 0.0

    def measure(self):
        output = sum(len(machine.seen) + len(machine.errors) for machine in self.machines)
        return output, sum(processor_seconds(machine.pid) for machine in self.machines)

    def check(self, what, limit=STILL):
        """Call it again and again while waiting for something. Raises NoProgress."""
        now = time.monotonic()
        passed = now - self.looked
        if passed < INTERVAL:
            return
        # A long gap counts as two intervals: if this process got no processor meanwhile, the others may have got none either.
        self.still += min(passed, 2 * INTERVAL)
        self.looked = now
        output, processor = self.measure()
        # Both times are whole hundredths; their difference in floating point may be a little less.
        if output != self.mark[0] or round(abs(processor - self.mark[1]), 2) >= WORK:
            self.mark, self.still = (output, processor), 0.0
        if self.still >= limit:
            raise NoProgress(f"no progress: no new output and less than {WORK} s of processor time in {limit} s, while waiting for {what}")


def processor_seconds(process):
    """Processor time that a process has used, with its guest's; 0 if the process has ended."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # User and system time, in hundredths of a second on x86-64.
    return (int(fields[11]) + int(fields[12])) / 100
