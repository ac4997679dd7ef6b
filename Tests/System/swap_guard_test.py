# SPDX-License-Identifier: Apache-2.0
"""Each guard of SwapBypass has a test that fails without this guard and passes with it."""

import contextlib

import vmm
from swap import SwapTest

# In the order of enum swap_guard (guest/symbiotic/swapbypass.h).
GUARDS = ["cache", "shared", "zero", "change", "flush", "read", "user", "pin", "range", "swapoff", "usable", "clean", "device", "locked", "mlock", "look", "zswap"]
# Not in these kernels.
ABSENT = {"cloud-6.1": {"zero", "zswap"}, "cloud-6.12": {"zswap"}}
# Their tests are races of two vCPUs.
RACES = ["change", "flush", "usable", "look"]
# Without these, the kernel itself may fail: run them last.
HARMFUL = ["change", "range", "swapoff", "usable"]
ATTEMPTS = 12
# Without this guard, a write is lost while the second vCPU stays in the guest. A thread of the VMM on the same processor causes exits, and
# each entry flushes the TLB: 0 to 248 of 512 writes were lost, and 194 to 349 with the vCPU on its own processor.
UNDISTURBED = "flush"
# Seconds for a test: without its guard, it may hang. The status of a test that could not run.
PATIENCE = 60
NOT_RUN = 2
PARAMETER = "/sys/module/symbiotic/parameters/without"


class GuardTest(SwapTest):
    limit = 1200

    def run_guards(self, flavour, guards, setup="true"):
        with open(self.path("other"), "wb") as file:
            file.truncate(64 << 20)
        swapon = "swapon /dev/vda"
        if "zero" in guards:
            # A slot that was never written contains something other than zeroes.
            swapon = f"tr '\\0' '\\377' </dev/zero | dd of=/dev/vda bs=4096 seek=1 count=50000 iflag=fullblock 2>/dev/null; {swapon}"
        machine = self.start_swapping(
            2, flavour, swap="200M,bypass=on", options=("--disk", self.path("other")), swapon=swapon)
        machine.shell(setup)
        for name in guards:
            with self.subTest(guard=name, there=True):
                found = self.finding(machine, name)
                self.assertIsNotNone(found, f"guard {name}: its test could not run")
                self.assertEqual(found, "", f"guard {name}: something is wrong although it is there")
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
        """Runs the test of a guard; returns its failure, an empty text, or None if it could not run."""
        lost = self.swap_counters()["guest_lost"]
        if name == "device":
            machine.shell(f"swapoff /dev/{self.disk}; mkswap /dev/{self.other(machine)} >/dev/null && swapon /dev/{self.other(machine)}")
        with machine.processor_apart("vcpu1") if name == UNDISTURBED else contextlib.nullcontext():
            output, status = machine.shell(f"timeout -s KILL {PATIENCE} /tests/swapguard {name} 2>&1", check=False, still=PATIENCE + vmm.STILL)
        if name == "device":
            machine.shell(f"swapoff /dev/{self.other(machine)}; swapon /dev/{self.disk}")
        machine.shell("usleep 300000")
        if self.swap_counters()["guest_lost"] > lost:
            return "pages were lost"
        if status in (0, NOT_RUN) and output:
            print(f"{name}: {output}")
        if status == NOT_RUN:
            return None
        # A program with wrong pages may do anything, also hang or crash.
        return (output or f"status {status}") if status else ""

    def other(self, machine):
        return next(name for name in machine.shell("cd /sys/block; echo vd*").split() if name != self.disk)


class Guards(GuardTest):
    def run_all(self, flavour):
        self.run_guards(flavour, [name for name in GUARDS if name not in ABSENT[flavour] and name not in RACES])

    def test_guards_on_6_1(self):
        self.run_all("cloud-6.1")

    def test_guards_on_6_12(self):
        self.run_all("cloud-6.12")

    def test_the_guard_of_zswap(self):
        """Of Debian's kernels, only 6.1 amd64 has zswap."""
        self.run_guards("amd64-6.1", ["zswap"], "echo 1 >/sys/module/zswap/parameters/enabled")


class Races(GuardTest):
    # They need both vCPUs in the guest at the same moment. Beside another guest, one vCPU often waits.
    alone = True

    def test_guards_against_another_vcpu_on_6_1(self):
        self.run_guards("cloud-6.1", RACES)

    def test_guards_against_another_vcpu_on_6_12(self):
        self.run_guards("cloud-6.12", RACES)
