# SPDX-License-Identifier: Apache-2.0
"""Limits of disks: token buckets. Times are bounded from below only. On any /dev/kvm."""

import json
import time

import api


class Limits(api.ServeTest):
    def disk(self):
        return self.write("disk.img", bytes(1 << 20))

    def throttled(self, report):
        return next(device["counters"]["throttled_requests"] for device in report["devices"] if device["name"] == "virtio-blk.root")

    def test_a_disk_keeps_to_its_operations_a_second(self):
        start = time.monotonic()
        machine = self.tiny(
            "readloop", "--quiet", "--stats-file", self.path("stats.json"), "--disk", f"{self.disk()},id=root,ops=2", defines=["COUNT=6"])
        machine.wait_for("done")
        # Two at once, then two a second: so few that also on a busy machine a request comes before the next token.
        self.assertGreaterEqual(time.monotonic() - start, 2)
        self.assert_ended(machine, 0)
        with open(self.path("stats.json"), encoding="utf-8") as file:
            self.assertGreater(self.throttled(json.load(file)), 0)

    def test_a_disk_keeps_to_its_bandwidth(self):
        drive = {"drive_id": "root", "path_on_host": self.disk(), "rate_limiter": {"bandwidth": {"size": 5120, "refill_time": 500}}}
        boot = {"kernel_image_path": self.assemble("readloop", ["COUNT=40"])}
        config = self.write("vm.json", json.dumps({"boot-source": boot, "drives": [drive]}))
        start = time.monotonic()
        machine = self.run_machine("--config", config, "--memory", "16M", "--quiet")
        machine.wait_for("done")
        # Ten sectors at once, then ten each half second.
        self.assertGreaterEqual(time.monotonic() - start, 1.5)
        self.assert_ended(machine, 0)

    def test_a_limit_is_changed_while_the_guest_runs(self):
        machine = self.serve()
        day = {"size": 1, "refill_time": 86400000, "one_time_burst": 3}
        self.done(machine, "PUT", "/drives/root", {"drive_id": "root", "path_on_host": self.disk(), "rate_limiter": {"ops": day}})
        self.assertEqual(self.ask(machine, "GET", "/vm/config").value["drives"][0]["rate_limiter"], {"ops": day})
        self.start(machine, guest="readloop", defines=["COUNT=1000"])
        self.wait_until("a request waits", lambda: self.throttled(self.ask(machine, "GET", "/exit-statistics").value) == 1)
        # Neither a pause nor another limit is held up by it.
        self.done(machine, "PATCH", "/vm", {"state": "Paused"})
        self.done(machine, "PATCH", "/vm", {"state": "Resumed"})
        self.done(machine, "PATCH", "/drives/root", {"drive_id": "root", "rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
        machine.wait_for("done")
        self.assert_ended(machine, 0)

    def test_wrong_limits_are_refused(self):
        disk = self.disk()
        for option in ("ops=x", "ops=-1", "bandwidth=fast", "rate=1", "ops=1,ops=2"):
            result = self.symvmm("run", "--kernel", "k", "--disk", f"{disk},{option}")
            self.assertEqual(result.returncode, 2, option)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for option in ("rx-ops=x", "tx-bandwidth=fast", "ops=1"):
            result = self.symvmm("run", "--kernel", "k", "--net", f"tap=none,{option}")
            self.assertEqual(result.returncode, 2, option)
            self.assertIn("--net", result.stderr)
