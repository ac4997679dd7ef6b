# SPDX-License-Identifier: Apache-2.0
"""Each guard of SwapBypass has a test that fails without this guard and passes with it."""

import contextlib

import vmm
from swap import SwapTest

# In the order of enum swap_guard (guest/symbiotic/swapbypass.h).
GUARDS = ["cache", "shared", "zero", "change", "flush", "read", "user", "pin", "range", "swapoff", "usable", "clean", "device", "locked", "mlock", "look", "zswap"]
# Not in these kernels.
ABSENT = {"cloud-6.1": {"zero", "zswap"}, "cloud-6.12": {"zswap"}}
# Without these, the kernel itself may fail: run them last.
HARMFUL = ["change", "range", "swapoff", "usable"]
ATTEMPTS = 5
# Without this guard, a write is lost while the second vCPU stays in the guest. A thread of the VMM on the same processor causes exits, and
# each entry flushes the TLB: 0 to 248 of 512 writes were lost, and 194 to 349 with the vCPU on its own processor.
UNDISTURBED = "flush"
# Seconds for a test, and the status of one that takes longer: without its guard, a test may hang.
PATIENCE = 60
KILLED = 128 + 9
PARAMETER = "/sys/module/symbiotic/parameters/without"


class SwapGuards(SwapTest):
    limit = 1200
    # The races need both vCPUs in the guest at the same moment. Beside another guest, one vCPU often waits.
    alone = True

    def test_guards_on_6_1(self):
        self.run_guards("cloud-6.1")

    def test_guards_on_6_12(self):
        self.run_guards("cloud-6.12")

    def test_the_guard_of_zswap(self):
        """Of Debian's kernels, only 6.1 amd64 has zswap."""
        self.run_guards("amd64-6.1", ["zswap"], "echo 1 >/sys/module/zswap/parameters/enabled")

    def run_guards(self, flavour, guards=None, setup="true"):
        guards = guards or [name for name in GUARDS if name not in ABSENT[flavour]]
        with open(self.path("other"), "wb") as file:
            file.truncate(64 << 20)
        # A slot that was never written contains something other than zeroes.
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
            # Without the guard there is a race, which this guest may win now and then.
            for attempt in range(1, ATTEMPTS + 1):
                if found := self.finding(machine, name):
                    break
            machine.shell(f"echo 0 >{PARAMETER}")
            print(f"without {name}, attempt {attempt}: {found or 'nothing'}")
            if not found:
                unnoticed.append(name)
        self.assertEqual(unnoticed, [], "guards whose tests pass without them")
        machine.close()

    def finding(self, machine, name):
        """Runs the test of a guard; returns its failure, or an empty text."""
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
        if not status and output:
            print(f"{name}: {output}")
        # A program with wrong pages may do anything.
        return (output or "it hangs") if status else ""

    def other(self, machine):
        return next(name for name in machine.shell("cd /sys/block; echo vd*").split() if name != self.disk)
