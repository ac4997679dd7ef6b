# SPDX-License-Identifier: Apache-2.0
"""The time limit of symcalls, with a tiny guest that spins with interrupts off."""

import os
import signal
import threading
import time

import vmm
from symbiotic import SymbioticTest

GUESTS = os.path.join(vmm.BUILD, "guest", "bare-metal")


class SymCallTime(SymbioticTest):
    group = "host"

    @vmm.slow
    def test_the_time_limit_does_not_count_while_the_vmm_is_stopped(self):
        vmm.checked("make", "-s", "-C", os.path.join(vmm.ROOT, "guest", "bare-metal"), f"OUTPUT={GUESTS}")
        machine = self.run_machine(
            "--name", "sym", "--memory", "16M", "--kernel", os.path.join(GUESTS, "symcall.elf"), "--append", "blocks=1 count=1 spin=1", "--quiet"
        )
        machine.wait_for("^spinning")
        refused = []
        ending = threading.Event()
        caller = threading.Thread(target=self.call_until, args=(ending, refused))
        caller.start()
        try:
            for _ in range(20):
                time.sleep(0.05)
                machine.signal(signal.SIGSTOP)
                time.sleep(0.6)
                machine.signal(signal.SIGCONT)
        finally:
            ending.set()
            caller.join()
        self.assertEqual(refused, [])
        self.assertGreater(self.counters()["completed"], 100)
        self.assertEqual(self.counters()["timed_out"], 0)

    def call_until(self, ending, refused):
        while not ending.is_set():
            refused += list(self.ask("ping", repeat=1000, vcpu=0)["refused"])
