# SPDX-License-Identifier: Apache-2.0
"""How tests wait, with tiny guests on any /dev/kvm: a wait ends when no machine makes progress, and not before."""

import time

import progress
import vmm


class Waiting(vmm.SystemTest):
    group = "host"

    def test_a_guest_that_halts_makes_no_progress(self):
        machine = self.tiny("count", "--quiet", defines=["COUNT=1", "READS=1", "HALT=1"])
        start = time.monotonic()
        with self.assertRaisesRegex(progress.NoProgress, "no progress: .* in 2 s, while waiting for 'never'"):
            machine.wait_for("never", still=2)
        self.assertGreater(time.monotonic() - start, 2)

    def test_a_guest_that_computes_without_output_makes_progress(self):
        machine = self.tiny("wait", "--quiet")
        machine.wait_for(r"\.")
        watch = progress.Progress([machine])
        before = progress.processor_seconds(machine.pid)
        while progress.processor_seconds(machine.pid) < before + progress.WORK:
            time.sleep(0.1)
        watch.still = 1000
        watch.check("nothing", 3)
        self.assertEqual(watch.still, 0)

    def test_a_stopped_process_makes_no_progress(self):
        machine = self.tiny("wait", "--quiet")
        machine.wait_for(r"\.")
        machine.signal(vmm.signal.SIGSTOP)
        with self.assertRaises(progress.NoProgress):
            machine.wait_for("never", still=2)

    def test_output_is_progress(self):
        machine = self.tiny("echo", "--quiet")
        machine.wait_for("ready")
        watch = progress.Progress([machine])
        machine.send("word ")
        machine.wait_for("WORD ")
        watch.still, watch.looked = 1000, 0
        watch.check("nothing", 3)
        self.assertEqual(watch.still, 0)

    def test_an_ended_machine_ends_the_wait(self):
        machine = self.tiny("count", "--quiet", "--name", "short", defines=["COUNT=1", "READS=1"])
        with self.assertRaisesRegex(AssertionError, "symvmm ended .* before 'never' was seen"):
            machine.wait_for("never")
        with self.assertRaisesRegex(AssertionError, "short has ended"):
            self.wait_until_running("short")

    def test_a_late_check_does_not_count_as_a_long_wait(self):
        machine = self.tiny("count", "--quiet", defines=["COUNT=1", "READS=1", "HALT=1"])
        watch = progress.Progress([machine])
        watch.looked -= 1000
        watch.check("nothing", 3)
