# SPDX-License-Identifier: Apache-2.0
"""Symcalls to Linux guests, with and without the module; exits by guest process."""

import re

import vmm
from symbiotic import SymbioticTest


class Calls(SymbioticTest):
    shared = True

    def test_exits_are_attributed_to_the_task_that_caused_them(self):
        """First test of its guest: QEMU's emulation refuses a program's OUT once KVM has written the (busy) task register back for a symcall."""
        machine = self.guest(2, "cloud-6.1")
        machine.shell("/tests/outcount 0x505 5000 >/tmp/out")
        report = self.answer("stats", "sym", "--by", "task")
        rows = [row for row in report["tasks"] if row["name"] == "outcount" and row["reason"] == "pio_write"]
        count = sum(row["count"] for row in rows)
        self.assertGreaterEqual(count, 5000)
        self.assertLess(count, 5300)
        outs = sum(row["count"] for row in report["exits"] if row["reason"] == "pio_write" and row.get("address") == 0x505)
        self.assertEqual(outs, 5000)
        for reason in {row["reason"] for row in report["tasks"]}:
            by_task = sum(row["count"] for row in report["tasks"] if row["reason"] == reason)
            self.assertLessEqual(by_task, sum(row["count"] for row in report["exits"] if row["reason"] == reason), reason)
        self.assertRegex(self.symvmm("stats", "sym", "--by", "task").stdout, r"outcount +5,\d\d\d ")

    @vmm.quick
    def test_all_calls_answer_on_6_1(self):
        self.check_calls("cloud-6.1", 2)

    def test_all_calls_answer_on_6_12(self):
        self.check_calls("cloud-6.12", 2)

    def check_calls(self, flavour, cpus):
        machine = self.guest(cpus, flavour)
        self.assertEqual(self.ask("ping", values=[1, 2, 3, 4, 2**63 - 1], vcpu=cpus - 1)["values"], [1, 2, 3, 4, 2**63 - 1])
        names = self.ask("uname")
        self.assertEqual(names["release"], machine.shell("uname -r"))
        self.assertEqual(names["nodename"], "symvmm-guest")
        self.check_tasks(machine)
        self.check_memory(machine)
        machine.shell("echo 'a message of the test' >/dev/kmsg")
        # The kernel itself may have logged something since.
        self.assertIn("a message of the test", "\n".join(self.ask("log")["text"].splitlines()[-10:]))
        self.check_busy(machine, cpus)
        self.assert_healthy(machine)

    def check_tasks(self, machine):
        machine.shell("(sleep 1000 & sleep 1001 & sleep 1002 &)")
        # Each child has its parent's name until it executes sleep.
        self.wait_until("three sleep", lambda: sum(task["name"] == "sleep" for task in self.ask("tasks")) == 3)
        tasks = self.ask("tasks")
        numbers = [task["pid"] for task in tasks]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(tasks[0]["pid"], 1)
        processes = machine.shell("ls -d /proc/[0-9]* | wc -l; killall sleep")
        self.assertAlmostEqual(len(tasks), int(processes.split()[0]), delta=6)
        self.assertGreaterEqual(len(self.ask("threads")), len(tasks) - 6)

    def check_memory(self, machine):
        use = self.ask("memory")
        said = dict(re.findall(r"(\w+): +(\d+) kB", machine.shell("cat /proc/meminfo")))
        self.assertEqual(use["total"], int(said["MemTotal"]) * 1024)
        self.assertAlmostEqual(use["free"] / 1024, int(said["MemFree"]), delta=8192)
        self.assertEqual(use["swap_total"], 0)

    def check_busy(self, machine, cpus):
        """A busy guest answers, too."""
        machine.shell(f"(/tests/regcheck -t {cpus} -s 0 >/tmp/regcheck 2>&1 &)")
        task = self.ask("task", vcpu=cpus - 1)
        self.assertEqual(task["vcpu"], cpus - 1)
        self.wait_until("the program is seen", lambda: self.ask("task", vcpu=cpus - 1)["name"] == "regcheck")
        self.wait_until("it is seen in user mode", lambda: self.ask("task", vcpu=cpus - 1)["context"] == "user")
        self.assertIn("regcheck", [task["name"] for task in self.ask("tasks")])
        machine.shell("killall regcheck; while killall -0 regcheck 2>/dev/null; do sleep 0.1; done")
        self.assertIn("mismatches 0", machine.shell("cat /tmp/regcheck"))

    def test_with_interrupts_off_only_calls_that_need_a_doorbell_wait(self):
        machine = self.start_guest(1)
        for attempt in range(10):
            before = self.counters()["completed"]
            start = len(machine.seen)
            machine.send(f"echo begin-{attempt}; echo interrupts_off 0 5000000 >{self.TEST}; echo over\n")
            machine.wait_for(f"^begin-{attempt}\r*\n")
            self.wait_until("they are off", lambda: self.ask("task", vcpu=0)["context"] == "kernel")
            self.pings(20, 0)
            is_over = "over" in machine.seen[start:]
            self.assertGreaterEqual(self.counters()["completed"], before + 21)
            machine.wait_for("^over")
            # On a busy machine, the guest may have been faster than this process.
            if not is_over:
                break
        self.assertFalse(is_over, "symcalls waited until the interrupts were on again")
        self.power_off(machine)

    def test_without_the_module_symcalls_are_refused_with_that_reason(self):
        machine = self.start_guest(2, module=False)
        for call in ("ping", "task", "tasks", "memory", "log", "uname"):
            result = self.symvmm("symcall", "sym", call)
            self.assertEqual(result.returncode, 1 if result.returncode == 1 else 2, result.stderr)
            self.assertIn("the guest has not loaded symbiotic.ko", result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)
        self.assertIn("has not loaded symbiotic.ko", self.symvmm("stats", "sym", "--by", "task").stdout)
        self.assertEqual(machine.shell("ls /sys/kernel/symbiotic 2>/dev/null; true"), "")
        self.power_off(machine)

    def test_symbiotic_off_hides_the_interface(self):
        machine = self.start_guest(1, options=("--symbiotic", "off"))
        self.assertIn("--symbiotic off", self.refusal("ping"))
        self.assertEqual(machine.shell("lsmod | grep symbiotic; ls /sys/kernel/symbiotic 2>/dev/null; true"), "")
        self.assertNotIn("cannot load", machine.seen)
        self.assertEqual(machine.shell("dmesg | grep symbiotic | grep -v taint; true"), "")
        self.assertEqual(machine.shell("ls -d /sys/bus/acpi/devices/SYMV* 2>/dev/null; true"), "")
        self.power_off(machine)

    def test_the_same_image_runs_under_qemu_without_messages(self):
        image = vmm.os.path.join(vmm.BUILD, "guest", "symbiotic-test-cloud-6.1.cpio")
        result = vmm.command(
            "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
            "-kernel", vmm.kernel(), "-initrd", image,
            "-append", 'console=ttyS0 panic=1 quiet symvmm.exec="lsmod; dmesg | grep -i symbiotic | grep -v taint"',
            timeout=self.limit,
        )
        self.assertIn("init reached", result.stdout, result.stderr)
        self.assertIn("exec exited with 1", result.stdout)
        self.assertNotIn("cannot load", result.stdout)
        self.assertNotIn("symbiotic", result.stdout.split("init reached")[1].lower())
