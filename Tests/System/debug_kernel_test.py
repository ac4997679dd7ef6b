# SPDX-License-Identifier: Apache-2.0
"""symbiotic.ko in a kernel that reports errors of kernel code (scripts/debug-kernel): only with SYMVMM_STRESS=1."""

import os
import unittest

import vmm
from swap import SwapTest
from symbiotic import FULL

FLAVOUR = "debug-6.1"
SECONDS = int(os.environ.get("SYMVMM_DEBUG_SECONDS", 120))
# Seconds without a line from the guest: the emulated processor is slow, and this kernel makes the guest several times slower.
STILL = 600
# Beside what no healthy kernel logs: reports of lockdep, RCU and KASAN.
REPORTS = r"KASAN|possible .*(locking|lock inversion|deadlock)|inconsistent lock state|suspicious RCU|sleeping function|scheduling while|unlock balance|MAX_LOCK|lock held"
INJECTION = "/sys/kernel/debug"


@unittest.skipUnless(FULL, "only with SYMVMM_STRESS=1")
class DebugKernel(SwapTest):
    limit = 7200

    def debug_guest(self):
        if not os.path.exists(vmm.kernel(FLAVOUR, "version")):
            self.fail("there is no debug kernel: scripts/debug-kernel makes it")
        machine = self.start_swapping(2, FLAVOUR, memory="320M", swap="500M,bypass=on")
        machine.shell("dmesg | grep -iE 'kasan|lockdep|RCU' | head -n 20")
        self.assert_no_report(machine)
        available = int(machine.shell("sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"))
        # Half as much again as there is.
        machine.large = available * 3 // 2 >> 10
        return machine

    def assert_no_report(self, machine):
        self.assertEqual(machine.shell(f"dmesg | grep -E '{REPORTS}'; true"), "")
        # lockdep stops at its first report, and at some errors of its own.
        self.assertRegex(machine.shell("grep debug_locks: /proc/lockdep_stats"), r"debug_locks: +1")
        self.assert_healthy(machine)

    def test_swap_under_load_gives_no_report(self):
        machine = self.debug_guest()
        machine.shell(f"(/tests/swapcheck {machine.large} 3 {SECONDS} >/tmp/result 2>&1; echo done >>/tmp/result) & true")
        while "done" not in machine.shell("sleep 5; cat /tmp/result"):
            for state in ("off", "on"):
                self.assertEqual(self.turn(state), state)
        self.assert_verified(machine.shell("cat /tmp/result"))
        self.assertGreater(self.swap_counters()["guest_mapped"], 1000)
        self.assert_no_report(machine)

    def test_costly_programs_give_no_report(self):
        machine = self.debug_guest()
        for words in ("sparse 1000 unmap", "sparse 1000", "cached 2000"):
            machine.shell(f"/tests/swapbooks {words}", still=STILL)
        machine.shell("(/tests/swapbooks stuck >/tmp/out 2>&1 &) ; true")
        self.wait_until("a process is stuck", lambda: "stuck" in machine.shell("cat /tmp/out"))
        machine.shell("/tests/swapbooks sparse 100", still=STILL)
        self.assertEqual(self.turn("off"), "off")
        machine.shell("killall -9 swapbooks")
        self.assert_balanced()
        self.assertEqual(self.turn("on"), "on")
        machine.shell("(/tests/swapbooks sparse 500 stay >/tmp/out 2>&1 &) ; true")
        self.wait_until("pages are mapped", lambda: "charged" in machine.shell("cat /tmp/out"))
        self.assert_no_slot_leaked(machine)
        self.assert_no_report(machine)

    def test_allocations_that_fail_give_no_report(self):
        machine = self.debug_guest()
        # Of tasks that ask for it; by default only allocations that cannot sleep, as those in a fault.
        for kind in ("failslab", "fail_page_alloc"):
            machine.shell(f"cd {INJECTION}/{kind} && echo 20 >probability && echo -1 >times && echo 0 >verbose && echo Y >task-filter")
        machine.shell(f"echo 0 >{INJECTION}/fail_page_alloc/min-order")
        self.assert_verified(self.failing(machine, f"/tests/swapcheck {machine.large} 3 {SECONDS // 2} 2>&1"))
        counters = self.swap_counters()
        self.assertGreater(counters["guest_no_memory"], 10, counters)
        self.assertGreater(counters["guest_mapped"], 1000, counters)
        # All allocations.
        for kind in ("failslab", "fail_page_alloc"):
            machine.shell(f"cd {INJECTION}/{kind} && echo 2 >probability && echo N >ignore-gfp-wait")
        refused = 0
        for _ in range(40):
            machine.shell("rmmod symbiotic", still=STILL)
            self.failing(machine, "insmod /extra/symbiotic.ko 2>/dev/null")
            if machine.shell("grep -c symbiotic /proc/modules; true") == "0":
                refused += 1
                machine.shell("insmod /extra/symbiotic.ko")
        print(f"       the module was not loaded {refused} of 40 times")
        self.assertGreater(refused, 0)
        self.assert_no_report(machine)

    def failing(self, machine, words):
        return machine.shell(f"sh -c 'echo 1 >/proc/self/make-it-fail; exec {words}'", check=False, still=STILL)[0]

    def test_symcalls_give_no_report(self):
        machine = self.debug_guest()
        machine.shell("(/tests/regcheck -t 3 -s 0 >/tmp/regcheck 2>&1 & echo $! >/tmp/regcheck.pid)")
        self.pings(500)
        for _ in range(5):
            machine.shell("rmmod symbiotic && insmod /extra/symbiotic.ko")
            self.pings(20)
        machine.shell("kill $(cat /tmp/regcheck.pid)")
        self.assert_no_report(machine)
