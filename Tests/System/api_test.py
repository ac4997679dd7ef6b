# SPDX-License-Identifier: Apache-2.0
"""VMs that are configured, started, controlled and ended over the API, with tiny guests on any /dev/kvm; and Linux as in Firecracker's getting-started guide."""

import json
import os
import signal
import stat
import time

import api
import vmm

SMALL = {"vcpu_count": 1, "mem_size_mib": 16}


class API(api.ServeTest):
    def test_a_machine_is_configured_started_and_ends_by_itself(self):
        machine = self.serve("--stats-file", self.path("stats.json"))
        self.assertEqual(self.ask(machine, "GET", "/").value, {"app_name": "symvmm", "id": "served", "state": "Not started", "vmm_version": self.version()})
        self.assertEqual([line["state"] for line in self.listed()], ["Not started"])
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("echo"), "boot_args": "one two"})
        self.done(machine, "PUT", "/machine-config", SMALL)
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for("ready")
        self.assertEqual(self.state(machine), "Running")
        machine.send("hello.")
        machine.wait_for("HELLO")
        self.assert_ended(machine, 0)
        with open(self.path("stats.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["name"], "served")

    def version(self):
        return self.symvmm("--version").stdout.strip()

    def test_the_version_is_where_firecrackers_clients_look(self):
        machine = self.serve()
        self.assertEqual(self.ask(machine, "GET", "/version").value, {"firecracker_version": self.version(), "vmm_version": self.version()})

    def test_the_machine_configuration_is_put_patched_and_read(self):
        machine = self.serve()
        before = self.ask(machine, "GET", "/machine-config").value
        self.assertEqual((before["vcpu_count"], before["mem_size_mib"], before["smt"]), (1, 256, False))
        self.done(machine, "PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 128, "smt": False, "cpu_template": None, "track_dirty_pages": False})
        self.done(machine, "PATCH", "/machine-config", {"mem_size_mib": 64})
        after = self.ask(machine, "GET", "/machine-config").value
        self.assertEqual((after["vcpu_count"], after["mem_size_mib"]), (2, 64))
        self.refused(machine, "PUT", "/machine-config", {"vcpu_count": 2}, "mem_size_mib", "missing")
        self.refused(machine, "PATCH", "/machine-config", {"cpu_template": "T2"}, "cpu_template", "not offered")
        for field, value in (("huge_pages", "4M"), ("smt", 1)):
            self.refused(machine, "PATCH", "/machine-config", {field: value}, field)
        self.assertEqual(self.ask(machine, "GET", "/machine-config").value, after)

    def test_the_configuration_from_the_api_makes_the_same_machine(self):
        disk = self.write("disk.img", bytes(1 << 20))
        machine = self.serve("--console", "none")
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("wait"), "boot_args": "a=b"})
        self.done(machine, "PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 32})
        self.done(machine, "PUT", "/drives/data", {"drive_id": "data", "path_on_host": disk, "is_root_device": False, "is_read_only": True})
        self.done(machine, "PUT", "/entropy", {})
        self.done(machine, "PUT", "/logger", {"log_path": self.path("log"), "level": "Warning", "show_level": True, "show_log_origin": False})
        configuration = self.ask(machine, "GET", "/vm/config").value
        self.assertEqual(configuration["boot-source"]["boot_args"], "a=b")
        self.assertEqual([drive["path_on_host"] for drive in configuration["drives"]], [disk])
        self.symvmm("kill", "served")
        self.assert_ended(machine, 0)
        file = self.write("vm.json", json.dumps(configuration))
        # With its name, so that `wait_until_running` looks at this process and not at the one that has ended.
        again = self.run_machine("--config", file, "--name", "served", "--quiet")
        self.wait_until_running("served")
        again.socket = machine.socket
        self.assertEqual(self.ask(again, "GET", "/vm/config").value, configuration)
        self.assertEqual(self.listed()[0]["mem_size_mib"], 32)
        self.refused(again, "PUT", "/actions", {"action_type": "InstanceStart"}, "has been started")
        self.symvmm("kill", "served")
        self.assert_ended(again, 130)

    def test_a_request_in_the_wrong_state_is_refused_and_changes_nothing(self):
        machine = self.serve()
        disk = self.write("disk.img", bytes(1 << 20))
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "no kernel")
        self.refused(machine, "PATCH", "/vm", {"state": "Paused"}, "not started")
        self.refused(machine, "PUT", "/actions", {"action_type": "SendCtrlAltDel"}, "not started")
        self.refused(machine, "PUT", "/actions", {"action_type": "FlushMetrics"}, "metrics")
        self.refused(machine, "PATCH", "/drives/d", {"drive_id": "d", "path_on_host": disk}, "not been started")
        self.start(machine)
        machine.wait_for("ready")
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "has been started")
        for method, resource, body in (
            ("PUT", "/boot-source", {"kernel_image_path": "/other"}),
            ("PUT", "/machine-config", SMALL),
            ("PATCH", "/machine-config", {"vcpu_count": 2}),
            ("PUT", "/drives/d", {"drive_id": "d", "path_on_host": disk}),
            ("PUT", "/network-interfaces/n", {"iface_id": "n", "host_dev_name": "tap0"}),
            ("PUT", "/entropy", {}),
            ("PUT", "/serial", {}),
        ):
            self.refused(machine, method, resource, body, "has been started")
        self.refused(machine, "PATCH", "/network-interfaces/n", {"iface_id": "n"}, "no network interface")
        machine.send("still here.")
        machine.wait_for("STILL HERE")
        self.assert_ended(machine, 0)

    def test_a_failed_start_can_be_corrected(self):
        machine = self.serve()
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": "/no/such/kernel"})
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "/no/such/kernel", "No such file")
        self.done(machine, "PUT", "/drives/d", {"drive_id": "d", "path_on_host": "/no/such/disk"})
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("echo")})
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "drive 'd'", "/no/such/disk")
        self.assertEqual(self.state(machine), "Not started")
        self.done(machine, "PUT", "/drives/d", {"drive_id": "d", "path_on_host": self.write("disk.img", bytes(4096))})
        self.done(machine, "PUT", "/machine-config", SMALL)
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for("ready")
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_a_machine_is_paused_and_resumed(self):
        machine = self.serve()
        self.start(machine)
        machine.wait_for("ready")
        self.done(machine, "PATCH", "/vm", {"state": "Paused"})
        self.assertEqual(self.state(machine), "Paused")
        machine.send("x")
        time.sleep(0.3)
        self.assertNotIn("X", machine.seen)
        self.done(machine, "PATCH", "/vm", {"state": "Paused"})
        self.done(machine, "PATCH", "/vm", {"state": "Resumed"})
        machine.wait_for("X")
        self.refused(machine, "PATCH", "/vm", {"state": "Running"}, "one of Paused, Resumed")
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_a_stop_with_a_timeout_ends_a_guest_that_ignores_the_power_button(self):
        machine = self.serve()
        self.start(machine, "wait")
        self.refused(machine, "PUT", "/actions", {"action_type": "Stop"}, "has not enabled the power button")
        self.refused(machine, "PUT", "/actions", {"action_type": "Kill", "timeout_seconds": 1}, "timeout_seconds", "only for Stop")
        self.refused(machine, "PUT", "/actions", {"action_type": "Stop", "timeout_seconds": -1}, "timeout_seconds")
        self.done(machine, "PUT", "/actions", {"action_type": "Stop", "timeout_seconds": 60})
        self.assert_ended(machine, 130, within=50)

    def test_a_drive_gets_another_file_while_the_guest_runs(self):
        first, second = (self.write(name, bytes(1 << 20)) for name in ("first.img", "second.img"))
        machine = self.serve("--allow-folder", self.folder)
        self.done(machine, "PUT", "/drives/data", {"drive_id": "data", "path_on_host": first})
        self.start(machine)
        patch = {"drive_id": "data", "path_on_host": second}
        self.done(machine, "PATCH", "/drives/data", patch)
        self.assertEqual(self.ask(machine, "GET", "/vm/config").value["drives"][0]["path_on_host"], second)
        # The old file is free again and the new one is locked. The same file may be given again: its size may have changed.
        other = self.run_machine("--kernel", self.assemble("wait"), "--quiet", "--name", "other", "--disk", first)
        self.wait_until_running("other")
        self.refused(machine, "PATCH", "/drives/data", {"drive_id": "data", "path_on_host": first}, "busy", "another process")
        os.truncate(second, 2 << 20)
        self.done(machine, "PATCH", "/drives/data", patch)
        os.truncate(second, 0)
        self.refused(machine, "PATCH", "/drives/data", patch, "empty")
        self.refused(machine, "PATCH", "/drives/data", {"drive_id": "data", "path_on_host": self.folder}, "directory")
        self.refused(machine, "PATCH", "/drives/none", {"drive_id": "none", "path_on_host": first}, "no drive 'none'")
        limiter = {"ops": {"size": 10, "refill_time": 1000, "one_time_burst": 5}}
        self.done(machine, "PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": limiter})
        self.assertEqual(self.ask(machine, "GET", "/vm/config").value["drives"][0]["rate_limiter"], limiter)
        self.done(machine, "PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
        self.assertNotIn("rate_limiter", self.ask(machine, "GET", "/vm/config").value["drives"][0])
        self.refused(machine, "PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": {"bandwidth": {"size": 1}}}, "refill_time")
        self.symvmm("kill", "other")
        other.end()
        machine.wait_for("ready")
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_features_of_firecracker_that_symvmm_lacks_are_refused(self):
        machine = self.serve()
        for method, resource in (
            ("PUT", "/snapshot/create"), ("PUT", "/snapshot/load"), ("PUT", "/vsock"), ("GET", "/balloon"), ("PUT", "/balloon"),
            ("PUT", "/cpu-config"), ("PUT", "/pmem/p"), ("PUT", "/hotplug/memory"),
        ):
            self.refused(machine, method, resource, {}, "not offered by symvmm")

    def test_the_console_may_be_a_file_or_a_fifo(self):
        machine = self.serve(name="filed")
        self.done(machine, "PUT", "/serial", {"serial_out_path": self.path("console.log")})
        self.start(machine, "wait")
        self.wait_until("the file has it", lambda: os.path.exists(self.path("console.log")) and os.path.getsize(self.path("console.log")) == 1)
        self.symvmm("kill", "filed")
        self.assertEqual(machine.end(), 130)
        os.mkfifo(self.path("fifo"))
        machine = self.serve(name="piped")
        self.done(machine, "PUT", "/serial", {"serial_out_path": self.path("fifo")})
        # Nobody reads the FIFO yet: neither the start nor the guest waits for a reader.
        self.start(machine, "wait")
        with open(self.path("fifo"), "rb", buffering=0) as fifo:
            self.assertEqual(fifo.read(1), b".")
        self.symvmm("kill", "piped")
        self.assert_ended(machine, 130)

    def test_the_log_has_the_requests_and_events(self):
        machine = self.serve()
        self.refused(machine, "PUT", "/logger", {"log_path": "/no/such/folder/log"}, "/no/such/folder/log")
        self.done(machine, "PUT", "/logger", {"log_path": self.path("log"), "level": "Info", "show_level": True})
        self.start(machine)
        machine.wait_for("ready")
        self.done(machine, "PUT", "/logger", {"level": "Warn"})
        self.done(machine, "PUT", "/logger", {"level": "Warn"})
        self.refused(machine, "PUT", "/nonsense", {}, status=404)
        machine.send(".")
        self.assert_ended(machine, 0)
        with open(self.path("log"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} \[served:(Info|Warning|Error)\] .+$")
        self.assertTrue(any("VM started" in line for line in lines), lines)
        self.assertIn("[served:Warning] PUT /nonsense: 404", lines[-1])

    def test_metrics_are_lines_in_a_file(self):
        machine = self.serve()
        self.done(machine, "PUT", "/metrics", {"metrics_path": self.path("metrics")})
        self.refused(machine, "PUT", "/metrics", {"metrics_path": self.path("other")}, "already")
        self.start(machine)
        machine.wait_for("ready")
        self.done(machine, "PUT", "/actions", {"action_type": "FlushMetrics"})
        self.done(machine, "PUT", "/actions", {"action_type": "FlushMetrics"})
        machine.send(".")
        self.assert_ended(machine, 0)
        with open(self.path("metrics"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        # The first line is written at the start, the last one at the end.
        self.assertEqual(len(lines), 4)
        self.assertTrue(all("utc_timestamp_ms" in line for line in lines), lines[0])

    def test_sigterm_and_ctrl_c_end_a_vm_without_a_guest(self):
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0)):
            machine = self.serve("--api-socket", self.path("api.sock"))
            machine.signal(number)
            self.assert_ended(machine, status)
            self.assertEqual(machine.errors, "")
            self.assertFalse(os.path.lexists(self.path("api.sock")))

    def test_nohup_makes_a_vm_ignore_hang_ups(self):
        machine = vmm.Machine(self, ["--quiet", "--name", "served"], command="serve", preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_until("it serves", lambda: os.path.lexists(os.path.join(self.runtime, "symvmm", "served.sock")))
        for _ in range(3):
            machine.signal(signal.SIGHUP)
        self.assertEqual(self.symvmm("ps", "--json").returncode, 0)
        self.assertIsNone(machine.process.poll())
        machine.signal(signal.SIGTERM)
        self.assert_ended(machine, 0)

    def test_sigterm_ends_a_guest_that_ignores_the_power_button(self):
        machine = self.serve("--api-socket", self.path("api.sock"))
        self.start(machine, "wait")
        machine.signal(signal.SIGTERM)
        self.assert_ended(machine, 130)
        self.assertFalse(os.path.lexists(self.path("api.sock")))

    def test_the_socket_is_never_open_to_other_users(self):
        path = self.path("api.sock")
        machine = vmm.Machine(self, ["--quiet", "--name", "closed", "--api-socket", path], command="serve", preexec=lambda: os.umask(0))
        modes, deadline = set(), time.monotonic() + vmm.PATIENCE
        while time.monotonic() < deadline and not modes:
            try:
                modes.add(stat.S_IMODE(os.lstat(path).st_mode))
            except FileNotFoundError:
                pass
        self.wait_until("the API answers", lambda: "closed" in self.names())
        modes.add(stat.S_IMODE(os.lstat(path).st_mode))
        self.assertEqual(modes, {0o600})
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.runtime, "symvmm")).st_mode), 0o700)
        self.symvmm("kill", "closed")
        self.assert_ended(machine, 0)

    def test_commands_work_on_a_vm_that_was_not_started(self):
        machine = self.serve()
        self.assertEqual(self.names(), ["served"])
        self.assertEqual(self.answer("stats", "served")["exit_count"], 0)
        self.assertEqual(self.symvmm("pause", "served").returncode, 2)
        self.assertEqual(self.symvmm("stop", "served").returncode, 0)
        self.assert_ended(machine, 0)


class ManyMachines(api.ServeTest):
    COUNT = 20

    @vmm.slow
    def test_twenty_at_once_each_with_its_socket_and_statistics(self):
        names = [f"vm{number:02d}" for number in range(self.COUNT)]
        machines = {}
        for number, name in enumerate(names):
            # Two run for ever; each of the others makes its own number of exits and halts.
            busy = number in (7, 19)
            image = self.assemble("wait") if busy else self.assemble("count", [f"COUNT={100 + number}", "READS=1", "HALT=1"])
            machines[name] = self.run_machine(
                "--kernel", image, "--memory", "64M", "--quiet", "--name", name, "--console", "none", "--stats-file", self.path(f"{name}.json"),
                "--api-socket", self.path(f"{name}.sock"),
            )
            self.wait_until_running(name)
        lines = self.listed()
        self.assertEqual({line["name"]: line["pid"] for line in lines}, {name: machine.pid for name, machine in machines.items()})
        self.assertEqual({line["mem_size_mib"] for line in lines}, {64})
        for number, name in enumerate(names):
            self.assertEqual(api.request(self.path(f"{name}.sock"), "GET", "/").value["id"], name)
            if number not in (7, 19):
                self.wait_until(f"{name} has made its exits", lambda: self.written(name) == 100 + number)
        # A request to one VM changes no other VM.
        self.assertEqual(self.symvmm("pause", "vm07").returncode, 0)
        self.assertEqual([line["name"] for line in self.listed() if line["state"] == "Paused"], ["vm07"])
        held, before = self.written("vm07"), self.written("vm19")
        self.wait_until("the other goes on", lambda: self.written("vm19") > before)
        self.assertEqual(self.written("vm07"), held)
        for name in names:
            self.assertEqual(self.symvmm("stop", name).returncode, 0)
        for machine in machines.values():
            self.assertEqual(machine.end(), 130, machine.errors)
        self.assert_nothing_left()
        self.assertEqual(self.names(), [])
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".sock")], [])
        for name in names:
            with open(self.path(f"{name}.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["name"], name)

    def written(self, name):
        """Bytes that the guest has written to the port without a device."""
        return sum(row["count"] for row in self.answer("stats", name)["exits"] if (row["reason"], row.get("address")) == ("pio_write", 0x505))


class GettingStarted(api.ServeTest):
    """The requests of Firecracker's getting-started guide, by curl as there, with an initial RAM disk instead of the root file system."""

    group = "guest"

    def curl(self, method, resource, body):
        answer = vmm.checked(
            "curl", "--silent", "--show-error", "--unix-socket", self.path("firecracker.sock"), "-i", "-X", method, f"http://localhost{resource}",
            "-H", "Accept: application/json", "-H", "Content-Type: application/json", "-d", json.dumps(body, indent=4),
        )
        self.assertRegex(answer, r"\AHTTP/1\.1 204 No Content\n")

    def test_curl_boots_linux_and_gives_its_drive_another_file(self):
        path = self.path("firecracker.sock")
        machine = self.serve("--api-socket", path, "--allow-folder", self.folder)
        disk, other = self.write("rootfs.img", bytes(8 << 20)), self.write("other.img", bytes(24 << 20))
        self.curl("PUT", "/boot-source", {
            "kernel_image_path": vmm.kernel(), "initrd_path": vmm.initramfs(), "boot_args": "console=ttyS0 reboot=k panic=1 quiet pci=off",
        })
        self.curl("PUT", "/drives/rootfs", {"drive_id": "rootfs", "path_on_host": disk, "is_root_device": True, "is_read_only": False})
        self.curl("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256})
        self.curl("PUT", "/actions", {"action_type": "InstanceStart"})
        machine.open_shell()
        self.assertIn("root=/dev/vda rw", machine.shell("cat /proc/cmdline"))
        self.assertEqual(machine.shell("grep -c ^processor /proc/cpuinfo"), "2")
        self.assertEqual(machine.shell("cat /sys/block/vda/size"), str(8 << 11))
        # The first requests went to the first file; the next ones go to the second, whose size the guest sees.
        machine.shell("echo first >/dev/vda; sync")
        self.curl("PATCH", "/drives/rootfs", {"drive_id": "rootfs", "path_on_host": other})
        self.wait_until("the guest sees the new size", lambda: machine.shell("cat /sys/block/vda/size") == str(24 << 11))
        machine.shell("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/zero of=/dev/vda bs=4k seek=4000 count=1 2>/dev/null; echo second >/dev/vda; sync")
        for file, word in ((disk, b"first\n"), (other, b"second\n")):
            with open(file, "rb") as stream:
                self.assertEqual(stream.read(len(word)), word)
        self.curl("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
        self.assert_ended(machine, 0)
        self.assertIn("power button pressed", machine.seen)
