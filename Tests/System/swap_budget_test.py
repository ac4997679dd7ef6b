# SPDX-License-Identifier: Apache-2.0
"""The budget of a swap store and its tiers, as commands and clients see them. Without Linux: the guest uses no swap. On any /dev/kvm."""

import json
import os

import vmm


class SwapBudget(vmm.SystemTest):
    group = "host"

    def start(self, swap):
        machine = self.tiny("wait", "--name", "tiers", "--quiet", "--swap", swap)
        machine.wait_for(r"\.")
        self.socket = os.path.join(self.runtime, "symvmm", "tiers.sock")
        self.wait_until("an answer", lambda: vmm.request(self.socket, "GET", "/")[0] == 200)
        return machine

    def test_a_budget_changes_at_any_time(self):
        self.start(f"64M,path={self.path('swap')},budget=40M")
        state = self.answer("bypass", "tiers", "--budget", "8M")
        self.assertEqual(state["tiers"]["budget_bytes"], 8 << 20)
        self.assertEqual([tier["name"] for tier in state["tiers"]["tiers"]], ["memory", "compressed", "file", "zero"])
        # The header of the swap area is in the file.
        self.assertEqual([tier["page_bytes"] for tier in state["tiers"]["tiers"]], [0, 0, 4096, 0])
        self.assertEqual(state["tiers"]["used_bytes"], 0)
        self.assertEqual([part["seconds"] for part in state["tiers"]["working_set"]], [10, 60, 600])
        status, answer = vmm.request(self.socket, "PATCH", "/swap-bypass", json.dumps({"budget_bytes": 1 << 30}))
        self.assertEqual(status, 200, answer)
        self.assertEqual(self.answer("bypass", "tiers")["tiers"]["budget_bytes"], 1 << 30)
        text = self.symvmm("bypass", "tiers").stdout
        self.assertRegex(text, r"TIER +PAGES +MEMORY MIB +HITS +MOVED PAGES +P50 +P99\n")
        self.assertRegex(text, r"file +1 +0\.0 ")
        self.assertRegex(text, r"\nbudget 1,024 MiB, used 0\.0 MiB; working set 0\.0 MiB in 10 s, 0\.0 MiB in 60 s, 0\.0 MiB in 600 s\n")

    def test_the_statistics_have_the_tiers(self):
        self.start(f"64M,path={self.path('swap')},budget=40M")
        services = {group["name"]: group["counters"] for group in self.answer("stats", "tiers")["services"]}
        counters = services["swap-bypass"]
        self.assertEqual((counters["store_budget_bytes"], counters["tier_file_bytes"], counters["tier_memory_hits"]), (40 << 20, 4096, 0))
        for name in ("working_set_10s_bytes", "tier_compressed_memory_bytes", "pages_compressed", "moves_refused"):
            self.assertEqual(counters[name], 0, name)
        text = vmm.request(self.socket, "GET", "/metrics/openmetrics", form=str)[1]
        self.assertIn('kind="working_set_60s"', text)
        self.assertIn('event="pages_to_file"', text)

    def test_a_store_without_a_budget_has_no_tiers(self):
        self.start("64M")
        self.assertNotIn("tiers", self.answer("bypass", "tiers"))
        result = self.symvmm("bypass", "tiers", "--budget", "8M")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("the store has no budget", result.stderr)
