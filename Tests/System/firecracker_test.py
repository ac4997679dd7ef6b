# SPDX-License-Identifier: Apache-2.0
"""Firecracker's command line, `symvmm firecracker` and the name firecracker: options, defaults, exit statuses, the jailer's line. On any /dev/kvm."""

import json
import os
import signal
import subprocess

import firecracker_api_test
import vmm


class CommandLine(firecracker_api_test.FirecrackerTest):
    def setUp(self):
        super().setUp()
        self.link = self.path("firecracker")
        os.symlink(vmm.SYMVMM, self.link)

    def said(self, *words, status):
        result = vmm.command(self.link, *words, env=self.environment)
        self.assertEqual(result.returncode, status, f"{words}: {result.stderr}")
        return result

    def configuration(self, guest="count", defines=("COUNT=1", "READS=1"), **fields):
        return self.write("vm.json", json.dumps({
            "boot-source": {"kernel_image_path": self.assemble(guest, defines)}, "drives": [],
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 16}, **fields}))

    def test_the_version_is_firecrackers_first(self):
        for words in ([self.link], [vmm.SYMVMM, "firecracker"]):
            output = vmm.checked(*words, "--version")
            self.assertRegex(output, r"\AFirecracker v1\.\d+\.\d+\n\nsymvmm \d+\.\d+\.\d+\n\Z")

    def test_wrong_arguments_have_status_153(self):
        for words in (("--nothing",), ("--id",), ("word",), ("--no-api",), ("--http-api-max-payload-size", "x"), ("--start-time-us", "x")):
            result = self.said(*words, status=153)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_what_is_not_offered_is_refused_with_its_name(self):
        for words in (("--seccomp-filter", "/f"), ("--enable-pci",), ("--snapshot-version",), ("--describe-snapshot", "/s")):
            self.assertIn("not offered by symvmm", self.said(*words, status=153).stderr)

    def test_a_configuration_that_does_not_start_has_status_152(self):
        api = ("--api-sock", self.path("a.sock"))
        for text in ("{", "{}", json.dumps({"boot-source": {"kernel_image_path": "/none"}}),
                     json.dumps({"boot-source": {"kernel_image_path": self.assemble("count", ["COUNT=1", "READS=1"])}, "machine-config": {"mem_size_mib": 16}})):
            path = self.write("bad.json", text)
            self.said(*api, "--config-file", path, status=152)
            self.said("--no-api", "--config-file", path, status=1)
            self.assertFalse(os.path.lexists(self.path("a.sock")))
        self.said(*api, "--level", "Loud", status=152)

    def test_a_guest_from_a_file_without_an_api(self):
        before = os.listdir(self.runtime)
        self.said("--no-api", "--config-file", self.configuration(), "--id", "alone", status=0)
        self.assertEqual(os.listdir(self.runtime), before)

    def test_a_guest_from_a_file_with_an_api(self):
        machine = self.firecracker("--config-file", self.configuration("echo", ()), program=[self.link])
        self.assertEqual(self.ask(machine, "GET", "/").value["state"], "Running")
        machine.send(".")
        self.assert_ended(machine, 0)
        self.assertFalse(os.path.lexists(machine.socket))
        self.assertEqual(machine.errors, "")

    def test_all_options_together(self):
        log, metrics = self.path("log"), self.path("metrics")
        machine = self.firecracker(
            "--log-path", log, "--level", "Debug", "--show-level", "--show-log-origin", "--module", "VMM", "--metrics-path", metrics, "--boot-timer",
            "--no-seccomp", "--http-api-max-payload-size", "1000", "--mmds-size-limit", "1000", "--start-time-us", "1", "--start-time-cpu-us", "2",
            "--parent-cpu-time-us", "3", name="all-of-it", program=[self.link])
        self.assertEqual(self.ask(machine, "PUT", "/boot-source", b" " * 1001).status, 400)
        self.start(machine)
        machine.send(".")
        self.assert_ended(machine, 0)
        with open(log, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"\[all-of-it:Info:VMMControl/VMController\.swift:\d+\] VM started")
        self.assertGreater(os.path.getsize(metrics), 0)

    def test_two_processes_may_have_the_default_identifier(self):
        machines = []
        for name in ("a", "b"):
            path = self.path(f"{name}.sock")
            machine = self.launch(["--api-sock", path], [self.link])
            self.wait_until("the API answers", lambda: os.path.exists(path))
            machine.socket = path
            self.assertEqual(self.ask(machine, "GET", "/").value["id"], "anonymous-instance")
            machines.append(machine)
        for machine in machines:
            machine.signal(signal.SIGTERM)
            self.assertEqual(machine.end(), -signal.SIGTERM)
            self.assertFalse(os.path.lexists(machine.socket))

    def test_signals_end_it_as_they_end_firecracker(self):
        for number, status in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT), (signal.SIGQUIT, -signal.SIGQUIT),
                               (signal.SIGHUP, 156), (signal.SIGXCPU, 154)):
            for starts in (False, True):
                machine = self.firecracker(program=[self.link])
                if starts:
                    self.start(machine)
                    machine.wait_for("ready")
                machine.signal(number)
                self.assert_ended(machine, status)
                self.assertFalse(os.path.lexists(machine.socket))

    def test_how_guests_end(self):
        for guest, defines, status in (("count", ("COUNT=1", "READS=1"), 0), ("count", ("COUNT=1", "READS=1", "RESET=1"), 0), ("triplefault", (), 0)):
            self.said("--no-api", "--config-file", self.configuration(guest, defines), status=status)

    def test_arguments_after_two_hyphens_are_ignored(self):
        self.said("--no-api", "--config-file", self.configuration(), "--", "--nothing", status=0)

    def test_an_identifier_that_is_none(self):
        for name in ("", "a/b", "x" * 65, "a b"):
            result = self.said("--api-sock", self.path("a.sock"), "--id", name, status=1)
            self.assertEqual(len(result.stderr.splitlines()), 1)


class Jailer(vmm.SystemTest):
    group = "host"

    def said(self, *words):
        return vmm.command(vmm.SYMVMM, "jailer", *words, env=self.environment)

    def test_the_version_and_wrong_lines(self):
        self.assertRegex(self.said("--version").stdout, r"\AJailer v1\.\d+\.\d+\n")
        for words, text in (
            (("--id", "a"), "--exec-file is missing"), (("--exec-file", vmm.SYMVMM, "--uid", "1", "--gid", "1"), "--id is missing"),
            (("--id", "a", "--exec-file", "/none", "--uid", "1", "--gid", "1"), "--exec-file"), (("--nothing",), "--nothing"),
            (("--id", "a", "--exec-file", vmm.SYMVMM, "--uid", "1", "--gid", "1", "--cgroup-version", "1"), "cgroup v2 only"),
        ):
            result = self.said(*words)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn(text, result.stderr)

    def test_a_jailed_firecracker(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        link = self.path("firecracker")
        os.symlink(vmm.SYMVMM, link)
        base = self.path("jails")
        os.mkdir(base)
        # Where Firecracker's users put the guest's files: in the jail's folder on the host.
        root = os.path.join(base, "firecracker", "web", "root")
        os.makedirs(root)
        kernel = self.assemble("echo")
        subprocess.run(["cp", kernel, os.path.join(root, "vmlinux")], check=True)
        words = ["--id", "web", "--exec-file", link, "--uid", "1234", "--gid", "1234", "--chroot-base-dir", base, "--", "--api-sock", "/run/api.sock"]
        machine = vmm.Machine(self, words, program=[vmm.SYMVMM], command="jailer")
        socket = os.path.join(root, "run", "api.sock")
        self.wait_until("the API answers", lambda: machine.process.poll() is not None or os.path.exists(socket))
        self.assertIsNone(machine.process.poll(), machine.errors)
        self.assertEqual(vmm.request(socket, "GET", "/")[1]["id"], "web")
        self.assertEqual(vmm.request(socket, "PUT", "/boot-source", json.dumps({"kernel_image_path": "/vmlinux"}))[0], 204)
        self.assertEqual(vmm.request(socket, "PUT", "/actions", json.dumps({"action_type": "InstanceStart"}))[0], 204)
        machine.wait_for("ready")
        machine.send(".")
        self.assert_ended(machine, 0)
