# SPDX-License-Identifier: Apache-2.0
"""The sample unit in docs/systemd: systemd has nothing to say against it, and its command line is one that symvmm takes."""

import json
import os
import shlex
import shutil

import vmm

UNIT = os.path.join(vmm.ROOT, "docs", "systemd", "symvmm@.service")


class Systemd(vmm.SystemTest):
    group = "host"

    def setUp(self):
        super().setUp()
        with open(UNIT, encoding="utf-8") as file:
            self.lines = [line for line in file.read().splitlines() if line and not line.startswith("#")]

    def value(self, key):
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{key}=")]

    def test_systemd_takes_the_unit(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        # Where the program is, for systemd looks whether it can be executed; and a name, for it is a template.
        with open(self.path("symvmm@web.service"), "w", encoding="utf-8") as file:
            file.write("\n".join(self.lines).replace("/usr/local/bin/symvmm", vmm.SYMVMM) + "\n")
        result = vmm.command("systemd-analyze", "verify", "--man=no", self.path("symvmm@web.service"))
        words = [line for line in (result.stdout + result.stderr).splitlines() if "symvmm@" in line]
        self.assertEqual((result.returncode, words), (0, []), result.stderr)
        # A misspelt setting is what it would say something about.
        with open(self.path("symvmm@bad.service"), "w", encoding="utf-8") as file:
            file.write("\n".join(self.lines).replace("KillMode=mixed", "KillMood=mixed").replace("/usr/local/bin/symvmm", vmm.SYMVMM) + "\n")
        result = vmm.command("systemd-analyze", "verify", "--man=no", self.path("symvmm@bad.service"))
        self.assertIn("KillMood", result.stdout + result.stderr)

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
