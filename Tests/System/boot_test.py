# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels with the busybox initramfs: they boot, see their vCPUs and memory, and end in every way."""

import json
import time

import vmm


class BootTest(vmm.SystemTest):
    def kibibytes(self, machine):
        words = machine.shell("grep MemTotal /proc/meminfo").split()
        return int(words[1])

    def check_system(self, machine, version, cpus):
        self.assertIn(version, machine.shell("uname -r"))
        self.assertEqual(int(machine.shell("nproc")), cpus)
        self.assertEqual(machine.shell("cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0")
        self.assertEqual(machine.shell("cat /sys/devices/system/clocksource/clocksource0/current_clocksource"), "kvm-clock")
        self.assertEqual(machine.shell("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c"), "64")

    def power_off(self, machine):
        machine.send("poweroff -f\n")
        self.assert_ended(machine, 0)


class OwnGuests(BootTest):
    def test_cloud_6_1_boots_with_4_vcpus_and_6_gib(self):
        stats = self.path("stats.json")
        machine = self.boot("--cpus", "4", "--memory", "6G", "--stats-file", stats).open_shell()
        self.check_system(machine, "6.1.", 4)
        # Memory below and above the hole is usable: the guest fills a file with as much as fits.
        self.assertGreater(self.kibibytes(machine), 5800 << 10)
        ram = machine.shell("grep 'System RAM' /proc/iomem")
        self.assertIn("-bfffffff : System RAM", ram)
        self.assertIn("100000000-1bfffffff : System RAM", ram)
        for cpu in range(4):
            self.assertEqual(machine.shell(f"taskset -c {cpu} sh -c 'echo here'"), "here")
        self.power_off(machine)
        self.check_statistics(stats, 4)

    def check_statistics(self, path, cpus):
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual([processor["vcpu"] for processor in report["vcpus"]], list(range(cpus)))
        self.assertEqual(report["exit_count"], sum(row["count"] for row in report["exits"]))
        seen = sum(row["count"] for row in report["exits"] if row["reason"].startswith("port_"))
        for processor in report["vcpus"]:
            self.assertGreater(processor["guest_ns"], 0)
            self.assertGreaterEqual(processor["kernel"]["exits"], processor["exit_count"] - 5)
        # KVM's own count of exits is never below symvmm's.
        self.assertGreaterEqual(sum(processor["kernel"]["io_exits"] for processor in report["vcpus"]), seen)
        writes = [row for row in report["exits"] if row["device"] == "serial" and row["reason"] == "pio_write" and row["address"] == 0x3F8]
        self.assertGreater(sum(row["count"] for row in writes), 200)

    def test_32_vcpus_boot(self):
        machine = self.boot("--cpus", "32", "--memory", "512M").open_shell()
        self.assertEqual(machine.shell("nproc"), "32")
        self.power_off(machine)

    def test_every_way_of_linux_to_reboot_ends_with_status_0(self):
        # ACPI, the BIOS (which the VM does not have), the keyboard's controller, the chipset's port 0xcf9, EFI (not there either), a triple fault.
        for way in "abkpet":
            with self.subTest(way=way):
                # From the ELF file, which is not decompressed in the guest: six times, that counts.
                machine = self.boot(append=f'reboot={way} symvmm.exec="true" symvmm.finish=reboot', image="vmlinux")
                self.assert_ended(machine, 0)
                self.assertIn("exec exited with 0", machine.seen)


class SharedGuests(BootTest):
    """The tests share a guest; the second one ends it."""

    shared = True

    def boot_from_elf(self):
        return self.boot("--memory", "128M", image="vmlinux", terminal=True).open_shell()

    def test_cloud_6_1_boots_from_an_elf_file_with_128_mib(self):
        machine = self.shared_guest(self.boot_from_elf)
        self.check_system(machine, "6.1.", 1)
        self.assertLess(self.kibibytes(machine), 128 << 10)
        self.assertGreater(self.kibibytes(machine), 80 << 10)

    def test_a_shell_works_on_a_pseudo_terminal(self):
        machine = self.shared_guest(self.boot_from_elf)
        self.assertEqual(machine.shell("echo $((6 * 7))"), "42")
        # Ctrl-C goes to the guest.
        machine.send("sh -c 'echo asleep; exec sleep 1000'\n")
        machine.wait_for("asleep")
        machine.send("\x03")
        # The guest's terminal discards its pending output.
        time.sleep(1)
        self.assertEqual(machine.shell("echo back"), "back")
        machine.send("\x01x")
        self.assert_ended(machine, 130)

    def boot_6_12(self):
        return self.boot("--cpus", "2", flavour="cloud-6.12").open_shell()

    @vmm.quick
    def test_cloud_6_12_boots_with_2_vcpus(self):
        self.check_system(self.shared_guest(self.boot_6_12), "6.12.", 2)

    def test_a_panic_ends_with_status_0_and_its_reason_on_the_console(self):
        machine = self.shared_guest(self.boot_6_12)
        machine.send("echo 8 >/proc/sys/kernel/printk; echo c >/proc/sysrq-trigger\n")
        machine.wait_for("Kernel panic - not syncing: sysrq triggered crash")
        self.assert_ended(machine, 0)

    def boot_ordinary(self):
        return self.boot("--memory", "512M", flavour="amd64-6.1", append="symvmm.finish=reboot").open_shell()

    @vmm.quick
    def test_the_ordinary_6_1_kernel_boots(self):
        machine = self.shared_guest(self.boot_ordinary)
        self.check_system(machine, "6.1.", 1)
        self.assertIn("amd64", machine.shell("uname -r"))

    def test_a_reboot_ends_with_status_0(self):
        machine = self.shared_guest(self.boot_ordinary)
        # The first process reports the end of the shell, and reboots.
        machine.send("exit 0\n")
        self.assert_ended(machine, 0)
        self.assertIn("shell exited with 0", machine.seen)
