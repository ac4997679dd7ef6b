# SPDX-License-Identifier: Apache-2.0
"""The swap disk, with and without bypass: guests read the pages that they swapped out, under all kinds of load."""

import os
import re
import shutil
import subprocess
import time

import vmm
from swap import SwapTest
from symbiotic import FULL

SECONDS = int(os.environ.get("SYMVMM_SWAP_SECONDS", 600 if FULL else 10))
ROUNDS = 500 if FULL else 15
# Rounds of five budgets, which take 10 s.
BUDGETS = max(2, SECONDS // 10)
# guest/tests/swapworks.c
WORKS = ["dump", "direct", "futex", "userfault", "exec", "ksm", "huge", "compaction", "group", "views", "oom"]


class Swap(SwapTest):
    limit = SECONDS + 600

    def run_checker(self, flavour, cpus):
        self.check_with(self.swapping_guest(cpus, flavour))

    def check_with(self, machine):
        self.check(machine, SECONDS)
        self.assert_no_slot_leaked(machine)
        self.check(machine, 5)
        self.assert_no_slot_leaked(machine)
        self.assertEqual(self.turn("off"), "off")
        self.assertGreater(self.assert_balanced()["guest_mapped"], 1000)
        machine.shell("rmmod symbiotic && insmod /extra/symbiotic.ko")
        self.wait_until("the module has looked at the switch", lambda: self.bypass()["state"] == "off")
        self.assert_healthy(machine)

    def guest_with_another_disk(self, flavour, cpus=2):
        with open(self.path("other"), "wb") as file:
            file.truncate(4 << 20)
        return self.swapping_guest(cpus, flavour, options=("--disk", self.path("other")))

    def run_works(self, flavour, cpus=2):
        machine = self.guest_with_another_disk(flavour, cpus)
        other = next(name for name in machine.shell("cd /sys/block; echo vd*").split() if name != self.disk)
        for name in WORKS:
            with self.subTest(work=name):
                mapped = self.swap_counters()["guest_mapped"]
                output, status = machine.shell(f"/tests/swapworks {name} /dev/{other} 2>&1", check=False)
                self.assertEqual(status, 0, f"{name}: {output}")
                self.assertGreater(self.swap_counters()["guest_mapped"], mapped, f"{name}: bypass mapped nothing")
            if name == "oom":
                self.assertIn("Memory cgroup out of memory", machine.shell("dmesg -c"))
            else:
                self.assert_healthy(machine)
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)

    def faults_of_first_touch(self, machine):
        output = machine.shell("/tests/swaptime 160 seq 2>&1")
        major, minor = re.search(r"pass 1 seq .* (\d+) major and (\d+) minor faults", output).groups()
        return int(major) + int(minor)


class OneProcessor(Swap):
    """Tests that share a guest with one vCPU."""

    shared = True

    @vmm.quick
    def test_bypass_saves_page_faults(self):
        machine = self.swapping_guest(1, "cloud-6.1")
        on = self.faults_of_first_touch(machine)
        self.assertGreater(self.swap_counters()["guest_mapped"], 1000)
        self.assertEqual(self.turn("off"), "off")
        off = self.faults_of_first_touch(machine)
        self.assertLess(10 * on, off)
        self.assert_balanced()
        self.assert_healthy(machine)

    def test_freed_slots_give_their_memory_back(self):
        machine = self.swapping_guest(1, "cloud-6.1")
        machine.shell(f"swapoff /dev/{self.disk} && swapon -d /dev/{self.disk}")
        machine.shell("/tests/swaptime 160 seq")
        # More than 100 MiB were swapped out. The kernel discards empty clusters: some keep pages of the initramfs, some are being filled.
        self.wait_until("the memory is back", lambda: self.swap_counters()["store_resident_bytes"] <= 32 << 20)
        self.assert_healthy(machine)

    def test_checker_on_6_1_with_1_vcpu(self):
        self.run_checker("cloud-6.1", 1)


class TwoProcessors(Swap):
    """Tests that share a guest with two vCPUs and a second disk."""

    shared = True

    def test_memory_operations_of_the_kernel_work_on_6_1(self):
        self.run_works("cloud-6.1")

    def test_the_switch_under_load(self):
        machine = self.guest_with_another_disk("cloud-6.1")
        machine.shell(f"(/tests/swapcheck 160 3 {SECONDS} >/tmp/result 2>&1; echo done >>/tmp/result) & true")
        for _ in range(ROUNDS):
            for state in ("off", "on"):
                self.assertEqual(self.turn(state), state)
        self.await_checker(machine)
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.assert_no_slot_leaked(machine)
        # No ftrace hook is left in the kernel.
        self.assertEqual(machine.shell("cat /sys/kernel/tracing/enabled_functions /sys/kernel/debug/tracing/enabled_functions 2>/dev/null | sort -u"), "")
        self.assert_healthy(machine)

    def test_the_module_is_unloaded_while_processes_end(self):
        machine = self.guest_with_another_disk("cloud-6.1")
        for delay in (0, 5, 20, 50, 100, 200, 300, 500):
            machine.shell("for i in $(seq 30); do /tests/swaptime 1 pageout,seq*1000000 >/dev/null 2>&1 & done; true")
            self.wait_until("processes are bypassed", lambda: self.swap_counters()["guest_processes"] >= 25)
            machine.shell(f"(usleep {1000 * delay}; killall swaptime) & rmmod symbiotic")
            self.assertEqual(machine.shell("cat /proc/modules | grep -c symbiotic; true"), "0")
            machine.shell("killall swaptime 2>/dev/null; wait; insmod /extra/symbiotic.ko")
            self.wait_until("bypass is on", lambda: self.bypass()["state"] == "on")
        self.wait_until("all are forgotten", lambda: self.swap_counters()["guest_processes"] == 0)
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)


class FourProcessors(Swap):
    """Tests that share a guest with four vCPUs, Linux 6.12 and a second disk."""

    shared = True

    def test_checker_on_6_12_with_4_vcpus(self):
        self.check_with(self.guest_with_another_disk("cloud-6.12", 4))

    def test_memory_operations_of_the_kernel_work_on_6_12(self):
        self.run_works("cloud-6.12", 4)


class OwnGuests(Swap):
    def test_checker_on_6_1_with_4_vcpus(self):
        self.run_checker("cloud-6.1", 4)

    def test_checker_on_6_12_with_1_vcpu(self):
        self.run_checker("cloud-6.12", 1)

    def test_the_disk_is_an_ordinary_swap_disk_for_a_guest_without_the_module(self):
        machine = self.start_swapping(module=False, swap="128M")
        self.assertEqual(machine.shell("cat /sys/block/vda/serial"), "symvmm-swap")
        # One page of the disk is the header.
        self.assertIn(str((128 << 10) - 4), machine.shell("cat /proc/swaps"))
        before = self.swap_counters()["store_resident_bytes"]
        machine.shell("mkdir /tmp/large; mount -t tmpfs -o size=110m none /tmp/large")
        machine.shell("dd if=/dev/urandom of=/tmp/large/file bs=1M count=100; md5sum /tmp/large/file >/tmp/sum")
        self.assertGreater(self.swap_counters()["store_resident_bytes"], before + (16 << 20))
        machine.shell("md5sum -c /tmp/sum; umount /tmp/large; swapoff /dev/vda; blkdiscard -o 4096 /dev/vda; sync")
        # The header may occupy a huge page of the host.
        self.assertLessEqual(self.swap_counters()["store_resident_bytes"], 2 << 20)
        self.assertIn("has not loaded", self.refused_turn("on"))
        self.power_off(machine)

    def test_a_full_disk_is_an_io_error_and_loses_nothing(self):
        folder = self.path("small")
        os.mkdir(folder)
        vmm.checked("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
        self.addCleanup(vmm.command, "umount", "-l", folder)
        machine = self.start_swapping(memory="256M", swap=f"400M,path={folder}/swap,bypass=on")
        output = machine.shell("/tests/swaptime 48 pageout,seq,pageout,random,pageout,write,seq 2>&1")
        self.assertRegex(output, "pass 7 seq 12288 pages")
        self.assertIn("rite-error on swap-device", machine.shell("dmesg"))
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.power_off(machine)

    def test_a_host_without_memory_is_an_io_error_and_loses_nothing(self):
        if not shutil.which("strace"):
            self.skipTest("strace is not installed")
        # strace makes a call fail by replacing its number with -1, which a filter refuses.
        machine = self.start_swapping(memory="256M", options=("--sandbox", "off"))
        # After this many requests of each thread, the host's kernel gives the store no more memory.
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-o", self.path("calls"), "-e", "trace=madvise", "-e", "inject=madvise:error=ENOMEM:when=20+", "-p", str(machine.pid)])
        self.addCleanup(tracer.kill)
        self.wait_until("strace has attached", lambda: self.is_traced(machine.pid))
        output = machine.shell("/tests/swaptime 48 pageout,seq,pageout,random,pageout,write,seq 2>&1")
        self.assertRegex(output, "pass 7 seq 12288 pages")
        self.assertIn("rite-error on swap-device", machine.shell("dmesg -c"))
        # Later it gives memory again.
        tracer.terminate()
        tracer.wait(vmm.PATIENCE)
        mapped = self.swap_counters()["guest_mapped"]
        self.assertRegex(machine.shell("/tests/swaptime 48 pageout,seq,pageout,random 2>&1"), "pass 4 random 12288 pages")
        self.assertGreater(self.swap_counters()["guest_mapped"], mapped + 10000)
        self.assertEqual(machine.shell("dmesg | grep -i error; true"), "")
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.power_off(machine)

    def is_traced(self, process):
        threads = [f"/proc/{process}/task/{thread}/status" for thread in os.listdir(f"/proc/{process}/task")]
        return all(re.search(r"TracerPid:\t[1-9]", open(path, encoding="ascii").read()) for path in threads)

    def test_a_budget_changes_both_ways(self):
        """Chunks leave and come back while programs use them: no page is wrong, and the memory follows the budget."""
        megabyte = 1 << 20
        machine = self.start_swapping(2, swap=f"400M,path={self.path('swap')},budget=300M,bypass=on", swapon="swapon -d /dev/vda")
        machine.shell(f"(/tests/swapcheck 160 3 {SECONDS} >/tmp/result 2>&1; echo done >>/tmp/result) & true")
        self.wait_until("pages are mapped", lambda: self.swap_counters()["guest_mapped"] > 1000)
        for budget in (64, 300, 0, 300):
            self.assertEqual(self.http("PATCH", "/swap-bypass", {"budget_bytes": budget * megabyte})["tiers"]["budget_bytes"], budget * megabyte)
            self.wait_until(f"a budget of {budget} MiB", lambda budget=budget: self.swap_counters()["store_resident_bytes"] <= budget * megabyte)
            # The smaller one stays in effect while the guest goes on.
            for _ in range(5):
                self.assertLessEqual(self.swap_counters()["store_resident_bytes"], budget * megabyte)
                machine.shell("usleep 100000")
        self.wait_until("the checker's end", lambda: "done" in machine.shell("cat /tmp/result"), within=SECONDS + 500)
        self.assert_verified(machine.shell("cat /tmp/result"))
        counters = self.swap_counters()
        for name in ("guest_evicted", "pages_compressed", "pages_decompressed", "pages_to_file", "pages_from_file", "tier_compressed_hits", "guest_accessed"):
            self.assertGreater(counters[name], 0, f"{name}: {counters}")
        text = self.symvmm("bypass", "sym").stdout
        self.assertRegex(text, r"TIER +PAGES +MEMORY MIB +HITS")
        self.assertRegex(text, r"budget 300 MiB, used \d+")
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)
        self.power_off(machine)

    def test_a_budget_bounds_the_memory(self):
        megabyte = 1 << 20
        machine = self.start_swapping(2, "cloud-6.12", swap=f"400M,path={self.path('swap')},budget=40M,bypass=on", swapon="swapon -d /dev/vda")
        self.check_until_stopped(machine)
        self.wait_until("pages are mapped by bypass", lambda: self.swap_counters()["guest_mapped"] > 1000)
        most = 0
        for budget in (40, 0, 80, 16, 40) * BUDGETS:
            self.answer("bypass", "sym", "--budget", f"{budget}M")
            for _ in range(10):
                most = max(most, self.swap_counters()["store_resident_bytes"])
                time.sleep(0.1)
        self.assertLessEqual(most, 80 * megabyte)
        self.stop_checker(machine)
        counters = self.swap_counters()
        self.assertGreater(counters["guest_not_held"] + counters["declined_not_in_memory"], 0)
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()
        self.assert_no_slot_leaked(machine)
        self.assert_healthy(machine)
        self.power_off(machine)
