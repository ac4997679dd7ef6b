# SPDX-License-Identifier: Apache-2.0
"""What SwapBypass costs the guest's kernel: memory that is charged and bounded, restores in batches, no doorbell in vain, no process that holds up
the others."""

import re

from swap import SwapTest

# Regions of 2 MiB with one page each. Their page tables and pages take 8 KiB each.
REGIONS = 6000
# KiB: MemFree of an idle guest differs by this. The books took 4.1 KiB a region when they were not charged.
NOISE = 8 << 10
# guest/symbiotic/swapbypass_restore.c
BATCH_REGIONS = 16
# Most pages that the program touches beside its regions, which bypass also maps.
OTHER_PAGES = 600
REGIONS_PARAMETER = "/sys/module/symbiotic/parameters/regions"


class Books(SwapTest):
    shared = True
    limit = 1200
    flavour = ""

    def books_guest(self):
        return self.swapping_guest(2, self.flavour, memory="256M")

    def settled(self, machine):
        """Counters when no process is bypassed."""
        self.wait_until("all processes are forgotten", lambda: self.swap_counters()["guest_processes"] == 0)
        return self.swap_counters()

    def since(self, before):
        return {name: value - before[name] for name, value in self.swap_counters().items() if isinstance(value, int)}

    def check_doorbells(self):
        machine = self.books_guest()
        before = self.settled(machine)
        machine.shell("/tests/swapbooks cached 4000")
        counters = self.since(before)
        print("cached:", {name: counters[name] for name in ("guest_faults", "faults", "guest_hits", "guest_not_exclusive")})
        # Thousands of pages were in the swap cache. A page may leave it, or a lock be held, between the check and the symcall.
        self.assertGreater(counters["guest_not_exclusive"], 100, counters)
        self.assertLess(counters["faults"] - counters["guest_hits"], 20 + counters["guest_faults"] // 20, counters)
        self.assert_healthy(machine)

    def check_charges(self):
        machine = self.books_guest()
        before = self.settled(machine)
        output = machine.shell(f"/tests/swapbooks sparse {REGIONS} unmap")
        print(output)
        counters = self.since(before)
        self.assertGreater(counters["guest_mapped"], REGIONS * 9 // 10, counters)
        taken, charged = map(int, re.search(r"took (-?\d+) KiB, of which (-?\d+) KiB", output).groups())
        self.assertLess(taken - charged, NOISE)
        self.assertLess(taken, NOISE + REGIONS)
        self.settled(machine)
        self.assertEqual(self.since(before)["guest_mapped"], self.since(before)["guest_restored"])
        # One flush of the TLBs for a batch, and batches are small.
        self.assertLess(counters["guest_flushes"], REGIONS // 4, counters)
        self.assertGreater(counters["guest_flushes"], REGIONS // BATCH_REGIONS // 2, counters)
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)

    def check_limit(self):
        machine = self.books_guest()
        limit = machine.shell(f"cat {REGIONS_PARAMETER}")
        before = self.settled(machine)
        machine.shell(f"echo 50 >{REGIONS_PARAMETER}; /tests/swapbooks sparse 400")
        counters = self.since(before)
        self.assertGreater(counters["guest_region_limit"], 300, counters)
        self.assertGreater(counters["guest_mapped"], 40, counters)
        self.assertLess(counters["guest_mapped"], 50 + OTHER_PAGES, counters)
        machine.shell(f"echo {limit} >{REGIONS_PARAMETER}")
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)

    def check_restores(self):
        machine = self.books_guest()
        for name, end in {"exit": "killall swapbooks", "switch": None, "swapoff": f"swapoff /dev/{self.disk}"}.items():
            with self.subTest(end=name):
                self.assertEqual(self.turn("on"), "on")
                before = self.settled(machine)
                machine.shell(f"rm -f /tmp/out; (/tests/swapbooks sparse {REGIONS // 2} stay >/tmp/out 2>&1 &) ; true")
                self.wait_until("the program has touched all", lambda: "charged" in machine.shell("cat /tmp/out 2>/dev/null; true"))
                self.assertGreater(self.since(before)["guest_mapped"], REGIONS // 2 * 9 // 10)
                if end:
                    machine.shell(end)
                else:
                    self.assertEqual(self.turn("off"), "off")
                self.wait_until("all is restored", lambda: self.since(before)["guest_mapped"] == self.since(before)["guest_restored"])
                counters = self.since(before)
                print(name, {key: counters[key] for key in ("guest_mapped", "guest_flushes")})
                self.assertLess(counters["guest_flushes"], REGIONS // 2 // 4, counters)
                machine.shell("killall swapbooks 2>/dev/null; true")
                if name == "swapoff":
                    machine.shell(f"swapon /dev/{self.disk}")
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)

    def check_stuck(self):
        machine = self.books_guest()
        before = self.settled(machine)
        machine.shell("rm -f /tmp/out; (/tests/swapbooks stuck >/tmp/out 2>&1 &) ; true")
        self.wait_until("a process is stuck", lambda: "stuck" in machine.shell("cat /tmp/out 2>/dev/null; true"))
        for _ in range(3):
            machine.shell("/tests/swapbooks sparse 100 unmap")
        self.assertGreater(self.since(before)["guest_mapped"], 250)
        self.wait_until("the others are forgotten", lambda: self.swap_counters()["guest_processes"] == 1)
        self.assertEqual(self.turn("off"), "off")
        self.assertEqual(self.turn("on"), "on")
        machine.shell("/tests/swapbooks sparse 100 unmap; killall -9 swapbooks; true")
        self.settled(machine)
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)

class BooksOn61(Books):
    flavour = "cloud-6.1"

    def test_a_fault_that_cannot_qualify_rings_no_doorbell_on_6_1(self):
        self.check_doorbells()

    def test_the_books_are_charged_to_the_process_on_6_1(self):
        self.check_charges()

    def test_a_process_has_a_limit_of_regions_on_6_1(self):
        self.check_limit()

    def test_exit_switch_and_swapoff_restore_many_regions_on_6_1(self):
        self.check_restores()

    def test_a_stuck_process_holds_up_no_other_on_6_1(self):
        self.check_stuck()


class BooksOn612(Books):
    flavour = "cloud-6.12"

    def test_a_fault_that_cannot_qualify_rings_no_doorbell_on_6_12(self):
        self.check_doorbells()

    def test_the_books_are_charged_to_the_process_on_6_12(self):
        self.check_charges()

    def test_a_process_has_a_limit_of_regions_on_6_12(self):
        self.check_limit()

    def test_exit_switch_and_swapoff_restore_many_regions_on_6_12(self):
        self.check_restores()

    def test_a_stuck_process_holds_up_no_other_on_6_12(self):
        self.check_stuck()


class RealTime(SwapTest):
    def test_a_real_time_kernel_is_refused(self):
        machine = self.start_swapping(1, "rt-6.1", memory="256M", swap="64M")
        refusal = "symbiotic: not tested on PREEMPT_RT kernels: force=1 loads it, without swap bypass"
        self.assertIn(refusal, machine.shell("dmesg"))
        # As someone may want the symcalls.
        machine.shell("insmod /extra/symbiotic.ko force=1")
        self.refused_turn("on")
        self.assertEqual(machine.shell("/tests/swaptime 32 pageout,seq >/dev/null && echo right"), "right")
        self.assert_healthy(machine)
