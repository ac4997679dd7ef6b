# SPDX-License-Identifier: Apache-2.0
"""Whether anything still moves. Tests wait by this and not by the clock: a busy machine makes them slower, not red."""

import time

# Seconds without progress that end a wait.
STILL = 60
# Seconds of processor time that count as progress. An idle guest uses some: in a lab beside other work, with 1 vCPU or 4, a quarter of this in
# STILL seconds.
WORK = 2
# How often processor time is looked at.
INTERVAL = 0.5


class StoodStill(AssertionError):
    """Nothing moved any more."""


class Progress:
    """Progress of some machines: new output, or WORK seconds of processor time used by their processes.

    The processor time of symvmm includes the guest's, so a guest that computes in silence makes progress, and one whose interrupt was lost
    makes none. A guest that spins, or waits with a busy second vCPU, is not found here: the test's own limit ends that.
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
        """To be called again and again while waiting for something; raises StoodStill."""
        now = time.monotonic()
        passed = now - self.looked
        if passed < INTERVAL:
            return
        # Counted in looks: when this process itself got no processor for a minute, nobody else may have got one.
        self.still += min(passed, 2 * INTERVAL)
        self.looked = now
        output, processor = self.measure()
        if output != self.mark[0] or abs(processor - self.mark[1]) >= WORK:
            self.mark, self.still = (output, processor), 0.0
        if self.still >= limit:
            raise StoodStill(f"stood still: no new output and less than {WORK} s of processor time in {limit} s, while waiting for {what}")


def processor_seconds(process):
    """Time that a process has used, its guest's included; 0 when it is gone."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # User and system time, in hundredths of a second on every Linux of ours.
    return (int(fields[11]) + int(fields[12])) / 100
