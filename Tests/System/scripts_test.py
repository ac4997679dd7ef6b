# SPDX-License-Identifier: Apache-2.0
"""The scripts end a guest or a lab that makes no progress, and print one line about it."""

import os
import signal
import subprocess
import unittest

import vmm

DEMONSTRATE = os.path.join(vmm.ROOT, "scripts", "lib", "demonstrate")
LAB = os.path.join(vmm.ROOT, "scripts", "lab")


class StandstillTest(vmm.SystemTest):
    group = "host"

    def test_demonstration_of_a_guest_that_makes_no_progress(self):
        image = self.assemble("halt")
        # Longer than a busy machine takes to start the guest.
        environment = {**self.environment, "SYMVMM_STILL": "10"}
        result = vmm.command(DEMONSTRATE, vmm.SYMVMM, "run", "--kernel", image, env=environment)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(result.stderr, r"(?m)^demonstrate: the guest made no progress: nothing new in its console and its exits for 10 s; last output: '!'")
        self.assert_nothing_left()

    def test_lab_whose_kernel_makes_no_progress(self):
        if not os.path.exists(os.path.join(vmm.BUILD, "lab", "qemu-mended", "ready")):
            raise unittest.SkipTest("no lab")
        environment = {**os.environ, "SYMVMM_LAB_STANDSTILL": "15"}
        words = [LAB, "--memory", "1G", "--cpus", "1", "sh", "-c", "echo up; sleep 1000"]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as lab:
            try:
                self.assertEqual(lab.stdout.readline(), "up\n")
                machine = self.emulator_of(lab.pid)
                os.kill(machine, signal.SIGSTOP)
                _, errors = lab.communicate(timeout=vmm.PATIENCE)
            finally:
                lab.terminate()
        self.assertEqual(lab.returncode, 125, errors)
        self.assertRegex(errors, r"^lab: the lab failed: its kernel made no progress for 15 s \(log: .*\)\n$")
        self.assertFalse(os.path.exists(f"/proc/{machine}"), "the emulator is still there")

    def emulator_of(self, ancestor):
        """The QEMU among the descendants of a process."""
        for name in filter(str.isdecimal, os.listdir("/proc")):
            if "qemu-system-x86" in self.stat(name)[0] and ancestor in self.ancestors(name):
                return int(name)
        raise AssertionError("the lab's script has no QEMU among its descendants")

    def ancestors(self, name):
        while name not in ("0", "1", ""):
            name = self.stat(name)[1]
            yield int(name or 0)

    @staticmethod
    def stat(name):
        """The name of a process, and the number of its parent."""
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                head, _, fields = file.read().rpartition(")")
        except OSError:
            return "", ""
        return head.partition("(")[2], fields.split()[1]
