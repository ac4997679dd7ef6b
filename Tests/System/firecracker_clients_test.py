# SPDX-License-Identifier: Apache-2.0
"""The order in which Firecracker's clients call it, written down from their sources: command line, requests, fields. With tiny guests.

firecracker-go-sdk v1 (handlers.go, machine.go), firecracker-containerd (runtime/service.go, on that SDK), firecracker-task-driver of Nomad (driver/options.go,
on that SDK), flintlock (infrastructure/microvm/firecracker), Kata Containers in Go (virtcontainers/fc.go) and in Rust (hypervisor/src/firecracker). Where one
needs what symvmm does not have, a vsock device, the refusal is part of the test, and the order goes on as if the client did not ask for it.
"""

import importlib.util
import json
import os
import signal

import firecracker_api_test
import vmm


class Clients(firecracker_api_test.FirecrackerTest):
    def setUp(self):
        super().setUp()
        self.link = self.path("firecracker")
        os.symlink(vmm.SYMVMM, self.link)
        self.kernel = self.assemble("echo")
        self.root = self.write("root.img", bytes(1 << 20))

    def sdk_start(self, machine, log=None, metrics=None):
        """What the Go SDK does between the process and the configuration."""
        # waitForSocket: until this answers.
        self.assertEqual(self.ask(machine, "GET", "/machine-config").status, 200)
        if log:
            self.done(machine, "PUT", "/logger", {"log_path": log, "level": "Debug", "show_level": True, "show_log_origin": False})
        if metrics:
            self.done(machine, "PUT", "/metrics", {"metrics_path": metrics})

    def sdk_machine(self, machine, **fields):
        self.done(machine, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 16, "smt": False, "track_dirty_pages": False, **fields})
        # refreshMachineConfiguration
        answer = self.ask(machine, "GET", "/machine-config").value
        self.assertEqual((answer["vcpu_count"], answer["mem_size_mib"]), (1, 16))
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.kernel, "boot_args": "console=ttyS0"})

    def stop_by_sigterm(self, machine):
        """StopVMM of the SDK."""
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), -signal.SIGTERM)

    def test_firecracker_go_sdk(self):
        log, metrics = vmm.Fifo(self.path("log.fifo")), vmm.Fifo(self.path("metrics.fifo"))
        machine = self.firecracker(name="sdk", program=[self.link])
        self.sdk_start(machine, log.path, metrics.path)
        self.sdk_machine(machine)
        self.done(machine, "PUT", "/drives/root_drive", {"drive_id": "root_drive", "path_on_host": self.root, "is_root_device": True, "is_read_only": False})
        self.done(machine, "PUT", "/drives/1", {
            "drive_id": "1", "path_on_host": self.write("data.img", bytes(4096)), "is_root_device": False, "is_read_only": True, "io_engine": "Async",
            "cache_type": "Writeback", "rate_limiter": {"bandwidth": {"one_time_burst": 0, "refill_time": 100, "size": 1 << 20}}})
        self.done(machine, "PUT", "/mmds", {"latest": {"meta-data": {"a": "b"}}})
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for("ready")
        self.assertEqual(self.ask(machine, "GET", "/").value["state"], "Running")
        self.done(machine, "PATCH", "/vm", {"state": "Paused"})
        self.assertEqual(self.ask(machine, "GET", "/").value["state"], "Paused")
        self.done(machine, "PATCH", "/vm", {"state": "Resumed"})
        self.done(machine, "PATCH", "/drives/1", {"drive_id": "1", "path_on_host": self.write("other.img", bytes(8192))})
        self.done(machine, "PATCH", "/mmds", {"latest": {"meta-data": {"a": "c"}}})
        self.assertEqual(self.ask(machine, "GET", "/mmds").value, {"latest": {"meta-data": {"a": "c"}}})
        self.assertRegex(self.ask(machine, "GET", "/version").value["firecracker_version"], r"^1\.\d+\.\d+$")
        self.stop_by_sigterm(machine)
        self.assertIn("VM started\n", log.text())
        self.assertTrue(json.loads(metrics.text().splitlines()[0])["vcpu"])

    def test_firecracker_containerd(self):
        machine = self.firecracker(name="containerd", program=[self.link])
        self.sdk_start(machine)
        self.sdk_machine(machine)
        self.done(machine, "PUT", "/drives/root_drive", {"drive_id": "root_drive", "path_on_host": self.root, "is_root_device": True, "is_read_only": True})
        stubs = []
        for number in range(3):
            # A placeholder for a container's file system.
            path = self.write(f"stub{number}", b"\0" * 512)
            stubs.append(f"MN2HE43UOVRDA{number}")
            self.done(machine, "PUT", f"/drives/{stubs[-1]}", {"drive_id": stubs[-1], "path_on_host": path, "is_root_device": False, "is_read_only": False})
        self.refused(machine, "PUT", "/vsock", {"guest_cid": 3, "uds_path": self.path("vsock"), "vsock_id": "agent_api"}, "not offered by symvmm")
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for("ready")
        for stub in stubs:
            self.done(machine, "PATCH", f"/drives/{stub}", {"drive_id": stub, "path_on_host": self.write(stub, bytes(1 << 20))})
        self.assertEqual(self.ask(machine, "GET", "/").value["state"], "Running")
        self.stop_by_sigterm(machine)

    def test_nomads_driver(self):
        machine = self.firecracker(name="nomad", program=[self.link])
        self.sdk_start(machine)
        self.sdk_machine(machine)
        # Its drives and interfaces count from 1, each kind for itself.
        self.done(machine, "PUT", "/drives/1", {"drive_id": "1", "path_on_host": self.root, "is_root_device": True, "is_read_only": False})
        self.done(machine, "PUT", "/drives/2", {"drive_id": "2", "path_on_host": self.write("2.img", bytes(4096)), "is_root_device": False, "is_read_only": False})
        self.done(machine, "PUT", "/network-interfaces/1", {"iface_id": "1", "host_dev_name": "lo", "guest_mac": "AA:FC:00:00:00:01"})
        answer = self.ask(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        # The loopback device is no tap: only the order is tested here.
        self.assertEqual(answer.status, 400)
        self.assertIn("network interface '1'", answer.fault)
        self.stop_by_sigterm(machine)

    def test_flintlock(self):
        metadata = self.write("metadata.json", json.dumps({"latest": {"meta-data": "aW5zdGFuY2U=", "user-data": "I2Nsb3Vk"}}))
        log, metrics = self.write("firecracker.log", ""), self.write("firecracker.metrics", "")
        config = self.write("firecracker.cfg", json.dumps({
            "drives": [{"drive_id": "root", "path_on_host": self.root, "is_root_device": True, "is_read_only": False, "cache_type": "Unsafe"}],
            "boot-source": {"kernel_image_path": self.kernel, "boot_args": "console=ttyS0 ds=nocloud-net;s=http://169.254.169.254/latest/ pci=off reboot=k"},
            "logger": {"log_path": log, "level": "Debug", "show_level": True, "show_log_origin": True},
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 16, "smt": True, "track_dirty_pages": False},
            "metrics": {"metrics_path": metrics}, "network-interfaces": [],
        }))
        machine = self.launch(
            ["--id", "01FZZJV1XD3EKYR8Q2KA8FM1A7", "--boot-timer", "--no-api", "--config-file", config, "--metadata", metadata], [self.link])
        machine.wait_for("ready")
        machine.send(".")
        self.assert_ended(machine, 0)
        with open(log, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"\[01FZZJV1XD3EKYR8Q2KA8FM1A7:Info:VMMControl/VMController\.swift:\d+\] VM started")
        with open(metrics, encoding="utf-8") as file:
            self.assertTrue(json.loads(file.readline())["block_root"])

    def kata_drives(self):
        """The root file system, and five empty placeholders for those of containers."""
        drives = [{"drive_id": "rootfs", "path_on_host": self.root, "is_root_device": False, "is_read_only": True}]
        for number in range(1, 6):
            path = self.write(f"drive{number}", b"")
            drives.append({"drive_id": f"drive{number}", "path_on_host": path, "is_root_device": False, "is_read_only": False})
        return drives

    def test_kata_in_go(self):
        self.assertRegex(vmm.checked(self.link, "--version"), r"\AFirecracker v\d+\.\d+\.\d+\n")
        log, metrics = vmm.Fifo(self.path("logs.fifo")), vmm.Fifo(self.path("metrics.fifo"))
        configuration = {
            "boot-source": {"kernel_image_path": self.kernel, "boot_args": "pci=off"}, "drives": self.kata_drives(), "logger": {"level": "Error", "log_path": log.path},
            "machine-config": {"mem_size_mib": 16, "smt": False, "vcpu_count": 1}, "metrics": {"metrics_path": metrics.path},
        }
        # It always asks for a vsock device.
        config = self.write("fcConfig.json", json.dumps({**configuration, "vsock": {"guest_cid": 3, "uds_path": "kata.hvsock", "vsock_id": "root"}}))
        result = vmm.command(self.link, "--api-sock", self.path("kata.sock"), "--config-file", config, env=self.environment)
        self.assertEqual(result.returncode, 152)
        self.assertRegex(result.stderr, r"\Asymvmm: .*vsock: not offered by symvmm\n\Z")
        config = self.write("fcConfig.json", json.dumps(configuration, indent="\t"))
        machine = self.firecracker("--config-file", config, name="kata", program=[self.link])
        self.assertEqual(self.ask(machine, "GET", "/").value["state"], "Running")
        machine.wait_for("ready")
        self.done(machine, "PATCH", "/drives/drive1", {"drive_id": "drive1", "path_on_host": self.write("container.img", bytes(1 << 20))})
        self.done(machine, "PUT", "/actions", {"action_type": "FlushMetrics"})
        machine.send(".")
        self.assert_ended(machine, 0)
        log.text()
        self.assertIn("block_drive1", json.loads(metrics.text().splitlines()[0]))

    def test_kata_in_rust(self):
        machine = self.firecracker(name="kata-rs", program=[self.link])
        self.refused(machine, "PUT", "/vsock", {"guest_cid": 3, "uds_path": "kata.hvsock", "vsock_id": "root"}, "not offered by symvmm")
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.kernel, "boot_args": "pci=off iommu=off"})
        self.done(machine, "PUT", "/machine-config", {"mem_size_mib": 16, "vcpu_count": 1})
        for drive in self.kata_drives():
            self.done(machine, "PUT", f"/drives/{drive['drive_id']}", drive)
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for("ready")
        self.done(machine, "PATCH", "/drives/drive1", {
            "drive_id": "drive1", "path_on_host": self.write("container.img", bytes(1 << 20)), "rate_limiter": {"bandwidth": None, "ops": None}})
        self.done(machine, "PATCH", "/vm", {"state": "Paused"})
        self.done(machine, "PATCH", "/vm", {"state": "Resumed"})
        machine.process.kill()
        machine.end()

    def test_firecracker_python(self):
        """Its API module, unmodified, with requests-unixsocket: create, pause, resume, status, configuration."""
        if importlib.util.find_spec("firecracker") is None or importlib.util.find_spec("requests_unixsocket") is None:
            self.skipTest("pip install firecracker-python==0.0.5")
        from firecracker.api import Api  # pylint: disable=import-outside-toplevel,import-error
        from firecracker.exceptions import APIError  # pylint: disable=import-outside-toplevel,import-error

        machine = self.firecracker(name="python", program=[self.link])
        client = Api(machine.socket)
        self.addCleanup(client.close)
        client.boot.put(kernel_image_path=self.kernel, boot_args="console=ttyS0", initrd_path=None)
        client.drive.put(drive_id="rootfs", path_on_host=self.root, is_root_device=True, is_read_only=False)
        client.machine_config.put(vcpu_count=1, mem_size_mib=16)
        client.actions.put(action_type="InstanceStart")
        self.assertEqual(client.describe.get().json()["state"], "Running")
        client.vm.patch(state="Paused")
        self.assertEqual(client.describe.get().json()["state"], "Paused")
        client.vm.patch(state="Resumed")
        self.assertEqual(client.vm_config.get().json()["machine-config"]["mem_size_mib"], 16)
        with self.assertRaisesRegex(APIError, "not supported after starting"):
            client.machine_config.put(vcpu_count=2, mem_size_mib=16)
        machine.send(".")
        self.assert_ended(machine, 0)
