# SPDX-License-Identifier: Apache-2.0
"""Each guard of SwapBypass has a test that finds something wrong when that guard is left out, and nothing when it is not."""

import contextlib

import vmm
from swap import SwapTest

# In the order of enum swap_guard (guest/symbiotic/swapbypass.h).
GUARDS = ["cache", "shared", "zero", "change", "flush", "read", "user", "pin", "range", "swapoff", "usable", "clean", "device", "locked", "mlock", "look", "zswap"]
# Not in these kernels.
ABSENT = {"cloud-6.1": {"zero", "zswap"}, "cloud-6.12": {"zswap"}}
# The kernel itself may be the worse for these: last.
HARMFUL = ["change", "range", "swapoff", "usable"]
ATTEMPTS = 5
# The write that it is about is lost while the second vCPU stays in the guest. A thread of the VMM on the same processor ends
# that, and each entry flushes the TLB: 0 to 248 of 512 writes were lost so, and 194 to 349 with a processor apart.
UNDISTURBED = "flush"
# Seconds, and the status of a test that took longer: without its guard, one may hang.
PATIENCE = 60
KILLED = 128 + 9
PARAMETER = "/sys/module/symbiotic/parameters/without"


class SwapGuards(SwapTest):
    limit = 1200
    # What goes wrong without a guard needs both vCPUs in the guest at the same moment: beside another guest, one of them often waits.
    alone = True

    def test_guards_on_6_1(self):
        self.run_guards("cloud-6.1")

    def test_guards_on_6_12(self):
        self.run_guards("cloud-6.12")

    def test_the_guard_of_zswap(self):
        """Of Debian's kernels 6.1 amd64 has it."""
        self.run_guards("amd64-6.1", ["zswap"], "echo 1 >/sys/module/zswap/parameters/enabled")

    def run_guards(self, flavour, guards=None, setup="true"):
        guards = guards or [name for name in GUARDS if name not in ABSENT[flavour]]
        with open(self.path("other"), "wb") as file:
            file.truncate(64 << 20)
        # Whatever a slot holds that was not written, is not zero.
        junk = "tr '\\0' '\\377' </dev/zero | dd of=/dev/vda bs=4096 seek=1 count=50000 iflag=fullblock 2>/dev/null; swapon /dev/vda"
        machine = self.start_swapping(
            2, flavour, swap="200M,bypass=on", options=("--disk", self.path("other")), swapon=junk)
        machine.shell(setup)
        for name in guards:
            with self.subTest(guard=name, there=True):
                self.assertEqual(self.finding(machine, name), "", f"guard {name}: something is wrong although it is there")
        self.assert_healthy(machine)
        unnoticed = []
        for name in [name for name in guards if name not in HARMFUL] + [name for name in guards if name in HARMFUL]:
            machine.shell(f"echo {1 << GUARDS.index(name)} >{PARAMETER}")
            # What goes wrong without a guard is a race, which this guest may win now and then.
            for attempt in range(1, ATTEMPTS + 1):
                if found := self.finding(machine, name):
                    break
            machine.shell(f"echo 0 >{PARAMETER}")
            print(f"without {name}, attempt {attempt}: {found or 'nothing'}")
            if not found:
                unnoticed.append(name)
        self.assertEqual(unnoticed, [], "guards whose absence nobody noticed")
        machine.close()

    def finding(self, machine, name):
        """What the test of a guard finds wrong; empty when all is right."""
        lost = self.swap_counters()["guest_lost"]
        if name == "device":
            machine.shell(f"swapoff /dev/{self.disk}; mkswap /dev/{self.other(machine)} >/dev/null && swapon /dev/{self.other(machine)}")
        with machine.processor_apart("vcpu1") if name == UNDISTURBED else contextlib.nullcontext():
            output, status = machine.shell(f"timeout -s KILL {PATIENCE} /tests/swapguard {name} 2>&1", check=False, still=PATIENCE + vmm.STILL)
        if name == "device":
            machine.shell(f"swapoff /dev/{self.other(machine)}; swapon /dev/{self.disk}")
        self.assertIn(status, (0, 1, KILLED), output)
        machine.shell("usleep 300000")
        if self.swap_counters()["guest_lost"] > lost:
            return "pages were lost"
        # With wrong pages of its own, a program may do anything.
        return (output or "it hangs") if status else ""

    def other(self, machine):
        return next(name for name in machine.shell("cd /sys/block; echo vd*").split() if name != self.disk)
