# SPDX-License-Identifier: Apache-2.0
"""Linux guests that are saved and go on in a second machine of the same process, again and again, in the middle of their work."""

import os
import time

import vmm
from swap import SwapTest
from symbiotic import FULL

MIB = 1 << 20
MOVES = 10 if FULL else 3


class Move(SwapTest):
    """Test builds of symvmm move their guest on request (Sources/TestServices/MovingMachine.swift)."""

    def move(self, number):
        answer = self.http("PUT", "/test-move")
        self.assertEqual(answer["moves"], number)
        self.assertGreater(answer["stateByteCount"], 1000)

    def clocks(self, machine):
        """The guest's uptime, and the host's clock before and after it was read."""
        before = time.monotonic()
        uptime = float(machine.shell("cat /proc/uptime").split()[0])
        return uptime, before, time.monotonic()

    def assert_alive(self, machine):
        """Its shell answers, its timers run, and nobody complains."""
        before = self.clocks(machine)
        machine.shell("sleep 1")
        self.assertGreaterEqual(self.clocks(machine)[0] - before[0], 1)
        # No stop was taken for a time in which a task or a CPU hung.
        self.assert_healthy(machine)
        return before

    def assert_ticking(self, machine, file):
        """A process that sleeps and writes, from before the move, still does."""
        lines = int(machine.shell(f"wc -l <{file}"))
        self.wait_until("a timer of the guest", lambda: int(machine.shell(f"wc -l <{file}")) > lines)

    def test_a_guest_with_disk_timers_and_module_goes_on(self):
        self.write("disk.img", os.urandom(8 * MIB))
        machine = self.start_guest(2, test_build=True, options=("--disk", self.path("disk.img")))
        digest = machine.shell("sha256sum /dev/vda").split()[0]
        machine.shell("(while sleep 0.1; do echo tick; done) >/tmp/ticks 2>&1 & sleep 1")
        machine.shell("(while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null; echo read; done) >/tmp/reads & sleep 1")
        self.pings(100)
        last = self.clocks(machine)
        for number in range(1, MOVES + 1):
            self.move(number)
            clocks = self.assert_alive(machine)
            self.assertGreater(clocks[0], last[0])
            # A move does not set the guest's clock forward.
            self.assertLess(clocks[0] - last[0], clocks[2] - last[1] + 1)
            last = clocks
            self.assert_ticking(machine, "/tmp/ticks")
            self.assert_ticking(machine, "/tmp/reads")
            machine.shell("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(machine.shell("sha256sum /dev/vda").split()[0], digest)
            for vcpu in (0, 1):
                self.pings(50, vcpu)
                self.assertEqual(machine.shell(f"taskset -c {vcpu} sh -c 'sleep 0.2; echo $((6 * 7))'"), "42")
            names = [task["name"] for task in self.ask("tasks")]
            self.assertIn("init", names)
        machine.shell("dd if=/dev/urandom of=/dev/vda bs=1M count=4 2>/dev/null && sync")
        inside = machine.shell("dd if=/dev/vda bs=1M count=4 2>/dev/null | sha256sum").split()[0]
        self.assertEqual(vmm.checked("sh", "-c", f"head -c 4M {self.path('disk.img')} | sha256sum").split()[0], inside)
        machine.shell("rmmod symbiotic && insmod /extra/symbiotic.ko")
        self.wait_until("the module is there again", lambda: self.refusal("ping") is None)
        machine.send("poweroff -f\n")
        self.assert_ended(machine, 0)

    def test_swapped_pages_are_right_after_a_move(self):
        machine = self.start_swapping(2, test_build=True)
        self.check_until_stopped(machine)
        self.wait_until("pages are mapped by bypass", lambda: self.swap_counters()["guest_mapped"] > 1000)
        for number in range(1, MOVES + 1):
            self.move(number)
            self.assertEqual(self.bypass()["state"], "on")
            mapped = self.swap_counters()["guest_mapped"]
            self.wait_until("bypass goes on", lambda: self.swap_counters()["guest_mapped"] > mapped)
            self.assert_alive(machine)
        self.stop_checker(machine)
        self.assert_no_slot_leaked(machine)
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.assert_healthy(machine)
