# SPDX-License-Identifier: Apache-2.0
"""A guest that breaks the rules of SwapBypass can harm only itself."""

import os
import re

from swap import SwapTest

HOSTILE = "/sys/module/symbiotic/parameters/hostile"


class SwapHostile(SwapTest):
    """Two tests share a guest, which continues after each."""

    shared = True

    def test_a_guest_that_breaks_the_rules(self):
        machine = self.swapping_guest(2, swap="400M,bypass=on")
        before = self.swap_counters()
        machine.shell(f"for i in 1 2 3; do echo doorbells >{HOSTILE} & done; wait")
        after = self.swap_counters()
        self.assertGreater(after["invalid_doorbells"], before["invalid_doorbells"] + 4000)
        self.assertEqual(after["guest_mapped"], before["guest_mapped"])
        self.check(machine, 3, mebibytes=100)

        # False values gain the guest nothing, and the VMM's counters stay plausible.
        machine.shell(f"echo lie >{HOSTILE}")
        before = self.swap_counters()
        output = machine.shell("/tests/swaptime 100 seq 2>&1")
        self.assertRegex(output, "pass 1 seq 25600 pages")
        after = self.swap_counters()
        self.assertEqual(after["guest_mapped"], before["guest_mapped"])
        calls = after["map_calls"] - before["map_calls"]
        self.assertGreater(calls, 0)
        self.assertLessEqual(after["pages_mapped"] - before["pages_mapped"], 512 * calls)
        machine.shell(f"echo honest >{HOSTILE}")
        self.check(machine, 3, mebibytes=100)

        # The guest may write its disk, including the header.
        machine.shell("swapoff /dev/vda")
        machine.shell(f"echo window >{HOSTILE}")
        resident = self.swap_counters()
        self.assertLessEqual(resident["store_resident_bytes"], resident["store_bytes"])
        self.assertNotEqual(machine.shell("swapon /dev/vda 2>&1", check=False)[1], 0)
        machine.shell("mkswap /dev/vda && swapon /dev/vda")
        self.check(machine, 3, mebibytes=100)
        self.assertEqual(self.turn("off"), "off")
        self.assert_balanced()

    def test_swap_headers_with_wrong_values(self):
        machine = self.swapping_guest(2, swap="400M,bypass=on")
        machine.shell("swapoff /dev/vda; dd if=/dev/vda of=/tmp/header bs=4096 count=1 2>/dev/null")
        # last_page beyond the disk; too many bad pages; no version; a label without an end.
        for offset, octal in ((1028, "\\377\\377\\377\\377"), (1032, "\\377\\377\\377\\177"), (1024, "\\377"), (1036, "\\377" * 50)):
            machine.shell("dd if=/tmp/header of=/dev/vda bs=4096 2>/dev/null")
            machine.shell(f"printf '{octal}' | dd of=/dev/vda bs=1 seek={offset} conv=notrunc 2>/dev/null; sync; swapon /dev/vda 2>/dev/null; true")
            machine.shell("/tests/swaptime 80 seq; swapoff /dev/vda; true")
            self.assertEqual(machine.shell("echo $((6 * 7))"), "42")
            self.assertEqual(self.bypass()["state"], "on")
        machine.shell("mkswap /dev/vda && swapon /dev/vda")
        self.check(machine, 3, mebibytes=80)

    def test_a_guest_cannot_use_memory_that_the_store_does_not_hold(self):
        path = self.path("swap")
        machine = self.start_swapping(swap=f"400M,path={path},budget=8M,bypass=on")
        self.assertLessEqual(self.swap_counters()["store_resident_bytes"], 8 << 20)
        machine.send(f"echo window >{HOSTILE}\n")
        # The guest's access causes a KVM error, which ends this VM and no other.
        self.assertNotEqual(machine.end(), 0)
        self.assertTrue(re.search(r"\w", machine.errors), "it says why")
        self.assertFalse(os.path.exists(path), "nothing of the guest's memory is left")
