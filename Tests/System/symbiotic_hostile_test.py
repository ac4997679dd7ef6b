# SPDX-License-Identifier: Apache-2.0
"""Modules that misbehave (docs/ABI.md, section 8): the VM continues, the counters record it, later symcalls are refused with the reason."""

import re
import time

import vmm
from symbiotic import SymbioticTest

SPIN, UD, PF, GP, DOORBELL, STACK, SCRIBBLE, OUTS, BURN, TWICE = range(0x1E0, 0x1EA)


class Hostile(SymbioticTest):
    """The tests share a guest: each one leaves the guest and its module as it found them."""

    shared = True

    def call(self, number, *values, vcpu=0):
        return self.ask("test", number=number, values=list(values), vcpu=vcpu)["values"]

    def failure(self, number, *values, vcpu=0):
        return self.refusal("test", number=number, values=list(values), vcpu=vcpu) or ""

    def reload(self, machine):
        machine.shell("rmmod symbiotic && insmod /extra/symbiotic.ko")
        self.pings(10)

    def test_handlers_that_fault_on_6_1(self):
        self.check_faults("cloud-6.1")

    def check_faults(self, flavour):
        machine = self.guest(2, flavour)
        before = self.counters()
        for vcpu in range(2):
            self.assertIn("vector 6,", self.failure(UD, vcpu=vcpu))
            self.assertRegex(self.failure(PF, 0x1234, vcpu=vcpu), "vector 14,.* CR2 0x1234$")
            self.assertIn("vector 13,", self.failure(GP, vcpu=vcpu))
            self.assertIn("vector 8,", self.failure(STACK, vcpu=vcpu))
            self.assertEqual(self.call(DOORBELL, 41, vcpu=vcpu)[0], 42)
            self.call(TWICE, vcpu=vcpu)
            self.assertEqual(self.call(BURN, 1000, vcpu=vcpu)[0], 1000)
            self.pings(10, vcpu)
        for name, count in (("faulted", 8), ("doorbells_ignored", 2), ("timed_out", 0)):
            self.assertEqual(self.counters()[name], before[name] + count, name)
        self.check_outs()
        self.assertGreater(len(self.ask("tasks")), 10)
        self.assert_healthy(machine)

    def check_outs(self):
        before = self.outs()
        self.call(OUTS, 500, 0x505)
        self.assertEqual(self.outs(), before + 500)
        # Inside a handler, of the symbiotic ports only the return port has an effect.
        self.call(OUTS, 10, 0xE6)

    def test_a_handler_that_spins_is_cut_off(self):
        machine = self.guest(2, "cloud-6.1")
        before = self.counters()["timed_out"]
        self.assertIn("exceeded its time limit", self.failure(SPIN))
        for call in ("ping", "task", "tasks", "memory", "log", "uname"):
            self.assertIn("symcalls are disabled", self.refusal(call))
        self.assertEqual(machine.shell("cat /sys/kernel/symbiotic/symcalls"), "off")
        self.assertEqual(self.counters()["timed_out"], before + 1)
        self.assert_healthy(machine)
        # After the module is loaded again, symcalls work again.
        self.reload(machine)
        self.assertEqual(machine.shell("cat /sys/kernel/symbiotic/symcalls"), "on")
        self.assertGreater(len(self.ask("tasks")), 10)
        # The same inside a doorbell's exit.
        self.assertIn("exceeded its time limit", self.refusal("test", number=SPIN))
        self.assert_healthy(machine)
        self.reload(machine)

    def test_wild_values_in_the_shared_pages(self):
        machine = self.guest(2, "cloud-6.1")
        for seed in range(1, 6):
            self.failure(SCRIBBLE, seed)
            for call in ("ping", "task", "tasks", "memory", "log", "uname"):
                self.refusal(call)
            self.answer("stats", "sym", "--by", "task")
            self.assertEqual(machine.shell("echo alive"), "alive")
            self.reload(machine)
        for command, number in (("buffer", 0xFEE00000), ("buffer", 2**63), ("buffer_size", 0xFFFFFFFF), ("buffer_size", 0), ("buffer", 0x1001)):
            self.order(machine, command, 0, number)
            self.assertIsNotNone(self.refusal("tasks"), f"{command} {number:#x}")
            self.pings(5)
        self.reload(machine)
        self.order(machine, "all_symcalls", 0)
        self.assertIn("error", self.failure(0x1FF))
        self.order(machine, "odd_sequence", 0)
        self.answer("stats", "sym", "--by", "task")
        self.reload(machine)
        self.assertGreater(len(self.ask("tasks")), 10)

    def test_an_endless_list_is_abandoned(self):
        machine = self.guest(2, "cloud-6.1")
        self.order(machine, "endless")
        before = self.resident(machine)
        for call, reason in (("tasks", "more tasks"), ("threads", "more tasks"), ("log", "in time|response is invalid")):
            start = time.monotonic()
            self.assertRegex(self.refusal(call) or "", reason)
            self.assertLess(time.monotonic() - start, vmm.PATIENCE, call)
        self.assertLess(self.resident(machine) - before, 64 << 10)
        self.pings(5)
        self.assert_healthy(machine)
        self.reload(machine)

    def resident(self, machine):
        """Resident memory of the VMM in KiB."""
        with open(f"/proc/{machine.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def test_registrations_that_break_the_rules(self):
        machine = self.guest(2, "cloud-6.1")
        refused = self.counters()["registrations_refused"]
        commands = (
            "wild_rip", "user_rip", "wild_gs", "wild_idt", "wild_cr3", "wild_fast_doorbell", "user_fast_doorbell", "bad_cs", "unaligned_rsp", "unaligned_page", "rsp_while_armed", "second_global",
        )
        for command in commands:
            self.assertIn("refused", self.order(machine, command, 1), command)
            self.order(machine, "rearm", 1)
            self.pings(5, 1)
        for page in (0xFEE00000, 0x10000000, 2**40, 0xFFFFFFFFFFFFF000 - 2**64):
            self.assertIn("refused", self.order(machine, "page", 1, page), hex(page))
        self.order(machine, "rearm", 1)
        self.assertGreaterEqual(self.counters()["registrations_refused"], refused + len(commands) + 4)
        ignored = self.counters()
        self.order(machine, "stray_return", 1)
        self.order(machine, "stray_fail", 0)
        self.assertEqual(self.counters()["returns_ignored"], ignored["returns_ignored"] + 2)
        for number in (3, 0x0F, 0x20, 0xFF):
            self.order(machine, "any_doorbell", 0, number)
        self.assertEqual(self.counters()["doorbells_ignored"], ignored["doorbells_ignored"] + 4)
        self.assertIn("accepted", self.order(machine, "bad_rip", 1))
        self.assertIn("vector 14,", self.refusal("ping", vcpu=1))
        self.order(machine, "rearm", 1)
        self.pings(10)
        self.assert_healthy(machine)

    def test_handlers_that_fault_on_6_12(self):
        self.check_faults("cloud-6.12")

    def test_an_unmapped_stack_can_end_only_the_guests_own_vm(self):
        machine = self.start_guest(1, options=("--stats-file", self.path("stats.json")))
        self.assertIn("accepted", self.order(machine, "bad_rsp", 0))
        self.assertIsNotNone(self.refusal("ping"))
        self.symvmm("kill", "sym")
        self.assertIn(machine.end(), (4, 130))
        self.assert_nothing_left()
