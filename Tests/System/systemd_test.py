# SPDX-License-Identifier: Apache-2.0
"""The sample units in docs/systemd: systemd-analyze finds no fault in them and finds them confined, their filters of system calls let symvmm pass, and
symvmm accepts their command lines."""

import json
import os
import re
import shlex
import shutil

import vmm
from exporter import Exporter

# What symvmm's own filters allow its threads.
TABLE = os.path.join(vmm.ROOT, "Sources", "VMMSandbox", "SandboxTable.swift")
# The exposure that systemd-analyze may see, from 0 (confined) to 10.
MOST_EXPOSURE = 2.0
UNITS = os.path.join(vmm.ROOT, "docs", "systemd")


class UnitTest(vmm.SystemTest):
    """A test of a unit."""

    group = "host"
    # The unit's file, and a name for systemd: a template unit needs one.
    file = None
    name = None

    def setUp(self):
        super().setUp()
        with open(os.path.join(UNITS, self.file), encoding="utf-8") as file:
            self.lines = [line for line in file.read().splitlines() if line and not line.startswith("#")]

    def value(self, key):
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{key}=")]

    def check_unit(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        # systemd checks that the program can be executed.
        text = "\n".join(self.lines).replace("/usr/local/bin/symvmm", vmm.SYMVMM) + "\n"
        self.write(self.name, text)
        result = vmm.command("systemd-analyze", "verify", "--man=no", self.path(self.name))
        words = [line for line in (result.stdout + result.stderr).splitlines() if self.name.rpartition(".")[0] in line]
        self.assertEqual((result.returncode, words), (0, []), result.stderr)
        # systemd-analyze reports a misspelt setting.
        os.mkdir(self.path("bad"))
        self.write(f"bad/{self.name}", text.replace("NoNewPrivileges=", "NoNewPrivilege="))
        result = vmm.command("systemd-analyze", "verify", "--man=no", self.path(f"bad/{self.name}"))
        self.assertIn("NoNewPrivilege'", result.stdout + result.stderr)

    def exposure(self, lines):
        with open(self.path(self.name), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        text = vmm.checked("systemd-analyze", "security", "--offline=true", "--no-pager", self.path(self.name))
        return float(re.search(r"Overall exposure level .*: ([0-9.]+) ", text).group(1))

    def allowed_calls(self):
        """The system calls that the unit's filter lets pass: systemd.exec(5), SystemCallFilter=."""
        allowed = set()
        for value in self.value("SystemCallFilter"):
            names = members(value.removeprefix("~").split())
            allowed = allowed - names if value.startswith("~") else allowed | names
        # The first rule decides the default, and systemd always lets these pass.
        return allowed | members(["@default"])


class Systemd(UnitTest):
    file = "symvmm@.service"
    name = "symvmm@web.service"

    def test_systemd_accepts_the_unit(self):
        self.check_unit()

    def test_systemd_finds_the_unit_confined(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        self.assertLessEqual(self.exposure(self.lines), MOST_EXPOSURE)
        # A dynamic user has the name of the template if none is given, and so would be that of all VMs.
        self.assertEqual((self.value("DynamicUser"), self.value("User")), (["yes"], ["symvmm-%i"]))
        # systemd-analyze sees it if the unit lacks some of it.
        left = [line for line in self.lines if not re.match("SystemCall|DynamicUser|Protect|Capability", line)]
        self.assertGreater(self.exposure(left), MOST_EXPOSURE)

    def test_the_units_filter_refuses_no_call_of_symvmm(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        allowed = self.allowed_calls()
        for name in ("mount", "ptrace", "bpf", "setuid", "add_key", "init_module", "kexec_load"):
            self.assertNotIn(name, allowed)
        disk = self.write("disk.img", bytes(1 << 20))
        options = ["--kernel", self.assemble("wait"), "--disk", f"{disk},id=d", "--stats-file", self.path("s.json"), "--console", "none"]
        for name, swap in (("memory", "8M"), ("file", f"8M,path={self.path('swap')}"), ("budget", f"8M,path={self.path('part')},budget=2M")):
            with self.subTest(name):
                log = self.path(name)
                machine = vmm.Machine(
                    self, ["--name", name, "--swap", swap, *options], program=["strace", "-f", "-qq", "-o", log, vmm.SYMVMM])
                self.use(name, disk)
                machine.end()
                with open(log, encoding="utf-8", errors="replace") as file:
                    called = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", file.read(), re.M))
                self.assertIn("ioctl", called)
                self.assertEqual(called - allowed - {"resumed"}, set())
                self.assert_nothing_left()

    def test_the_units_filter_refuses_no_call_of_the_sandboxs_table(self):
        if shutil.which("systemd-analyze") is None or not os.path.exists(TABLE):
            self.skipTest("no systemd-analyze, or no sandbox")
        with open(TABLE, encoding="utf-8") as file:
            table = set(re.findall(r"\.allow\(\s*\.(\w+)", file.read()))
        self.assertIn("ioctl", table)
        self.assertEqual(table - self.allowed_calls(), set())

    def use(self, name, disk):
        """Makes requests to a VM, and ends it."""
        self.wait_until_running(name)
        for words in (["stats", name], ["pause", name], ["resume", name], ["bypass", name, "status"], ["ps"]):
            self.assertEqual(self.symvmm(*words).returncode, 0, words)
        socket = os.path.join(self.runtime, "symvmm", f"{name}.sock")
        self.assertEqual(vmm.request(socket, "PATCH", "/drives/d", json.dumps({"drive_id": "d", "path_on_host": disk}))[0], 204)
        self.assertEqual(vmm.request(socket, "GET", "/metrics/openmetrics", form=str)[0], 200)
        self.assertEqual(self.symvmm("stop", name).returncode, 0)

    def test_the_units_command_runs_a_vm_and_sigterm_stops_it(self):
        configuration = {"boot-source": {"kernel_image_path": self.assemble("wait")}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 16}}
        file = self.write("web.json", json.dumps(configuration))
        (command,) = self.value("ExecStart")
        words = shlex.split(command.replace("/etc/symvmm/%i.json", file).replace("%i", "web"))
        self.assertEqual(words[:2], ["/usr/local/bin/symvmm", "run"])
        (environment,) = self.value("Environment")
        self.assertEqual(environment, "XDG_RUNTIME_DIR=/run/symvmm-%i")
        machine = self.run_machine(*words[2:])
        self.wait_until_running("web")
        machine.signal(vmm.signal.SIGTERM)
        status = machine.end()
        self.assertIn(str(status), self.value("SuccessExitStatus"))
        self.assertNotIn(str(status), self.value("RestartPreventExitStatus"))
        self.assert_nothing_left()


class ExporterUnit(UnitTest):
    file = name = "symvmm-exporter.service"

    def test_systemd_accepts_the_exporters_unit(self):
        self.check_unit()

    def test_systemd_finds_the_exporters_unit_confined(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        self.assertLessEqual(self.exposure(self.lines), MOST_EXPOSURE)
        self.assertEqual((self.value("DynamicUser"), self.value("CapabilityBoundingSet")), (["yes"], ["CAP_DAC_OVERRIDE"]))
        self.assertGreater(self.exposure([line for line in self.lines if not re.match("SystemCall|DynamicUser|Protect", line)]), MOST_EXPOSURE)

    def test_the_exporters_command_runs_and_its_filter_refuses_no_call(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        (command,) = self.value("ExecStart")
        words = shlex.split(command)
        self.assertEqual(words[:4], ["/usr/local/bin/symvmm", "exporter", "--listen", "127.0.0.1:9464"])
        machine = self.tiny("wait", "--quiet", "--console", "none", "--name", "web")
        self.wait_until_running("web")
        log = self.path("calls")
        exporter = Exporter(self, *words[4:], program=["strace", "-f", "-qq", "-o", log, vmm.SYMVMM])
        self.assertIn('symvmm_exporter_vm_up{vm="web"} 1\n', exporter.get()[0])
        # strace passes no signal on.
        with open(f"/proc/{exporter.process.pid}/task/{exporter.process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read()), vmm.signal.SIGTERM)
        self.assertEqual(exporter.process.wait(vmm.PATIENCE), 0)
        with open(log, encoding="utf-8", errors="replace") as file:
            called = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", file.read(), re.M))
        self.assertIn("listen", called)
        self.assertEqual(called - self.allowed_calls() - {"resumed"}, set())
        machine.signal(vmm.signal.SIGINT)
        self.assert_ended(machine, 130)


def members(names, seen=()):
    """Expands the sets of systemd, such as @file-system, to the names of system calls."""
    calls = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
        elif name not in seen:
            lines = vmm.checked("systemd-analyze", "syscall-filter", "--no-pager", name).splitlines()
            inner = [line.strip() for line in lines[1:]]
            calls |= members([word for word in inner if word and not word.startswith("#")], (*seen, name))
    return calls
