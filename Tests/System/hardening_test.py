# SPDX-License-Identifier: Apache-2.0
"""What the process of a VM gives up before it has a guest. On any /dev/kvm."""

import os
import resource
import shutil
import signal

import vmm

NOBODY = 65534


def status(pid, field):
    """A field of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(line.partition(":")[2].strip() for line in file if line.startswith(f"{field}:"))


def limits(pid, name):
    """The soft and the hard limit of a process, as text."""
    with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
        return next(line[len(name) :].split()[:2] for line in file if line.startswith(name))


class Hardening(vmm.SystemTest):
    group = "host"

    def test_no_new_privileges_no_core_file_few_descriptors(self):
        # The test's own limits are higher, so that they do not explain what is seen.
        if status(os.getpid(), "NoNewPrivs") != "0" or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            self.skipTest("this session gives no new privileges, or allows no core files, also without symvmm")
        machine = self.tiny("wait", "--name", "hard", preexec=allow_core_files)
        self.wait_until_running("hard")
        self.assertEqual(status(machine.pid, "NoNewPrivs"), "1")
        self.assertEqual(limits(machine.pid, "Max core file size"), ["0", "0"])
        self.assertLessEqual(int(limits(machine.pid, "Max open files")[1]), 4096)
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_another_process_of_the_same_user_cannot_read_its_memory(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        program = self.path("symvmm")
        shutil.copy(vmm.SYMVMM, program)
        os.chmod(self.folder, 0o755)
        os.chown(self.runtime, NOBODY, NOBODY)
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        machine = vmm.Machine(self, ["--name", "served", "--quiet"], command="serve", program=[*become, program])
        self.wait_until("its socket", lambda: os.path.exists(os.path.join(self.runtime, "symvmm", "served.sock")))
        self.assertEqual(status(machine.pid, "Uid").split(), [str(NOBODY)] * 4)
        seen = vmm.command(*become, "cat", f"/proc/{machine.pid}/maps")
        self.assertNotEqual(seen.returncode, 0)
        self.assertIn("Permission denied", seen.stderr)
        # A program that does not do so can be read: so it is not the test's way of asking.
        self.assertEqual(vmm.command(*become, "cat", "/proc/self/maps").returncode, 0)
        machine.signal(signal.SIGTERM)
        machine.end()


def allow_core_files():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 20 if hard == resource.RLIM_INFINITY else min(1 << 20, hard), hard))
