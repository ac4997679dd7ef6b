# SPDX-License-Identifier: Apache-2.0
"""The commands and a Linux guest that answers them."""

import os
import time

import vmm
from symbiotic import SymbioticTest

# Seconds in which a guest on a busy machine has powered off.
STOP = 400


class Stopping:
    def stop(self, name):
        """Presses the power button of a VM, whose guest then powers off by itself."""
        result = self.symvmm("stop", name, "--timeout", str(STOP), "--json", timeout=STOP + vmm.PATIENCE)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(vmm.json.loads(result.stdout), {"name": name, "result": "powered off"})


class Control(Stopping, vmm.SystemTest):
    def test_stop_powers_a_guest_off_and_another_one_continues(self):
        machines = [self.boot("--name", name, "--console", console) for name, console in (("one", "stdio"), ("two", "none"))]
        machines[0].open_shell()
        self.assertEqual(self.names(), ["one", "two"])
        before = self.answer("stats", "one")["exit_count"]
        machines[0].shell("dmesg -n 8; for i in 1 2 3 4 5; do echo line $i; done")
        self.assertGreater(self.answer("stats", "one")["exit_count"], before)
        for words, pattern in (([], r"pio_write +serial +0x3f8 "), (["--by", "vcpu"], r"VCPU +REASON"), (["--by", "task"], r"(?i)task|process")):
            result = self.symvmm("stats", "one", *words)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, pattern)
        self.check_pause(machines[0])
        self.stop("one")
        self.assertEqual(machines[0].end(), 0)
        self.assertIn("power button pressed", machines[0].seen)
        self.assertEqual(self.names(), ["two"])
        self.symvmm("kill", "two")
        self.assert_ended(machines[1], 130)

    def check_pause(self, machine):
        # In a shell of its own, which Ctrl-C ends: the guest's shell ignores it.
        machine.send("sh -c 'while sleep 0.2; do echo tick; done'\n")
        machine.wait_for("tick")
        self.assertEqual(self.symvmm("pause", "one").returncode, 0)
        time.sleep(0.5)
        length = len(machine.seen)
        time.sleep(1.5)
        self.assertEqual(len(machine.seen), length, "a paused guest wrote")
        self.assertEqual(self.symvmm("resume", "one").returncode, 0)
        machine.wait_for("tick")
        machine.send("\x03")
        # The guest's terminal discards its pending output.
        time.sleep(1)
        self.assertEqual(machine.shell("echo on"), "on")

    def test_sigterm_powers_a_guest_off(self):
        log = self.path("console.log")
        machine = self.boot("--console", f"file:{log}", "--name", "terminated")
        self.wait_until("the guest is up", lambda: os.path.exists(log) and "# " in self.text(log))
        # A host that shuts down may send both signals, several times: they ask for one power-off.
        for number in (vmm.signal.SIGTERM, vmm.signal.SIGHUP, vmm.signal.SIGTERM, vmm.signal.SIGHUP):
            machine.signal(number)
            time.sleep(0.05)
        self.assert_ended(machine, 0)
        self.assertIn("power button pressed", self.text(log))

    def text(self, path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()


class LastOutput(Stopping, SymbioticTest):
    def test_the_last_output_of_a_guest_is_complete(self):
        machine = self.start_guest(2)
        # All processes run on the second vCPU. The first one sends the console's output, and rarely gets to it.
        machine.shell("for process in /proc/[0-9]*; do taskset -p 2 ${process#/proc/}; done >/dev/null 2>&1; true")
        machine.shell("echo 1 >/proc/irq/4/smp_affinity; echo 2 >/proc/irq/9/smp_affinity")
        machine.send(f"while :; do echo 'interrupts_off 0 150000' >{self.TEST}; done &\n")
        self.stop("sym")
        self.assert_ended(machine, 0)
        self.assertIn("power button pressed", machine.seen)


class Debian(Stopping, vmm.SystemTest):
    def test_debian_boots_from_its_disk_logs_in_and_is_stopped(self):
        image = os.path.join(vmm.BUILD, "guest", "disk-cloud-6.1.img")
        disk = self.path("debian.img")
        vmm.checked("cp", "--sparse=always", image, disk)
        machine = self.run_machine(
            "--kernel", vmm.kernel(), "--initrd", vmm.initramfs(), "--disk", disk, "--memory", "512M", "--cpus", "2", "--name", "debian",
            "--append", "console=ttyS0 reboot=k panic=1 quiet root=/dev/vda rw", "--quiet",
        )
        machine.wait_for("symvmm-guest login: ")
        machine.send("root\n")
        machine.wait_for("# ")
        machine.send("stty -echo; export PS1= PS2= TERM=dumb SYSTEMD_PAGER=; bind 'set enable-bracketed-paste off'\n")
        self.assertIn("Debian", machine.shell("grep PRETTY /etc/os-release"))
        self.assertEqual(machine.shell("systemd-detect-virt; true").splitlines()[-1], "kvm")
        machine.shell("dd if=/dev/urandom of=/root/file bs=64k count=64 2>/dev/null && sha256sum /root/file >/root/sum && sync")
        self.stop("debian")
        self.assert_ended(machine, 0)
        check = vmm.command("e2fsck", "-f", "-n", disk)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
