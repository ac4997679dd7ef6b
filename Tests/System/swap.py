# SPDX-License-Identifier: Apache-2.0
"""Guests that swap. For the tests beside this file."""

import os

import vmm
from symbiotic import Refused, SymbioticTest


class SwapTest(SymbioticTest):
    """A test with a guest called "sym" that has a swap disk."""

    def start_swapping(self, cpus=1, flavour="cloud-6.1", memory="112M", swap="400M,bypass=on", module=True, options=(), swapon="swapon /dev/vda", test_build=False):
        image = "symbiotic-test" if module else "initramfs"
        machine = self.run_machine(
            "--name", "sym", "--cpus", cpus, "--memory", memory, "--kernel", vmm.kernel(flavour),
            "--initrd", os.path.join(vmm.BUILD, "guest", f"{image}-{flavour}.cpio"),
            "--append", "console=ttyS0 reboot=k panic=1 quiet", "--quiet", "--swap", swap, *options,
            program=[vmm.SYMVMM + "-test"] if test_build else None,
        )
        machine.open_shell()
        machine.swap_disk = "vda"
        for name in machine.shell("cd /sys/block; echo vd*").split():
            if machine.shell(f"cat /sys/block/{name}/serial") == "symvmm-swap":
                machine.swap_disk = name
        # On a rotating disk, the kernel reads the neighbours of each page.
        machine.shell(f"echo 0 >/sys/block/{machine.swap_disk}/queue/rotational; {swapon.replace('vda', machine.swap_disk)}")
        if module and "bypass=on" in swap:
            self.wait_until("bypass is on", lambda: self.bypass()["state"] == "on")
        return machine

    def swapping_guest(self, *words, **options):
        """The same, shared by the tests of a class: bypass is on, nothing is swapped out, the kernel's log is empty."""
        before = self.home.guest
        machine = self.shared_guest(self.start_swapping, *words, **options)
        if machine is before:
            machine.shell("dmesg -c >/dev/null")
            self.turn("on")
            self.assert_no_slot_leaked(machine)
        return machine

    @property
    def disk(self):
        return self.machines[-1].swap_disk

    def bypass(self):
        return self.http("GET", "/swap-bypass")

    def swap_counters(self):
        return self.bypass()["counters"]

    def turn(self, state):
        try:
            return self.http("PUT", "/swap-bypass", {"state": state})["state"]
        except Refused as error:
            # The API waits 5 s for the guest. A busy guest may take longer, and serves the request all the same.
            if "did not switch within" not in str(error):
                raise
        self.wait_until(f"bypass is {state}", lambda: self.bypass()["state"] == state)
        return state

    def refused_turn(self, state):
        """Tries to turn bypass on or off, which must fail; returns the reason."""
        try:
            self.turn(state)
        except Refused as error:
            return str(error)
        self.fail(f"bypass could be turned {state}")

    def check(self, machine, seconds, processes=3, mebibytes=160):
        output = machine.shell(f"/tests/swapcheck {mebibytes} {processes} {seconds} 2>&1")
        self.assert_verified(output, processes)

    def check_until_stopped(self, machine):
        """Starts a checker that runs until `stop_checker`."""
        machine.shell("(/tests/swapcheck 160 3 3600 >/tmp/result 2>&1; echo done >>/tmp/result) & true")

    def stop_checker(self, machine):
        """Has the checker look at all pages once more and end."""
        machine.shell("killall swapcheck")
        self.await_checker(machine)

    def await_checker(self, machine):
        """Waits for the end of a checker in the background; its result must be right."""
        # One shell, which rarely starts a program: the guest has no memory for more.
        machine.shell("while ! grep -q ^done /tmp/result; do sleep 1; done", still=180)
        self.assert_verified(machine.shell("cat /tmp/result"))

    def assert_verified(self, output, processes=3):
        self.assertRegex(output, rf"[1-9]\d* pages verified, 0 wrong, 0 of {processes} processes failed")

    def assert_balanced(self):
        """Checks that every mapped entry was restored and none was lost."""
        counters = self.swap_counters()
        self.assertEqual(counters["guest_mapped"], counters["guest_restored"], counters)
        self.assertEqual(counters["guest_lost"], 0, counters)
        return counters

    def assert_no_slot_leaked(self, machine):
        """swapoff looks for the user of each slot in use, and does not return while a slot has no user."""
        machine.shell(f"swapoff /dev/{self.disk} && swapon /dev/{self.disk}")
