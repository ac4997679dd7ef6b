# SPDX-License-Identifier: Apache-2.0
"""The output for monitoring systems. On any /dev/kvm."""

import json
import os
import re
import shutil

import vmm

DOCS = os.path.join(vmm.ROOT, "docs")
MONITORING = os.path.join(DOCS, "monitoring")

# Prometheus' own parser of OpenMetrics, which is strict; its families as JSON.
PARSER = """
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
print(json.dumps([
    {"name": family.name, "type": family.type, "unit": family.unit, "help": family.documentation,
     "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples]}
    for family in text_string_to_metric_families(sys.stdin.read())]))
"""


class OpenMetrics(vmm.SystemTest):
    group = "host"

    def start(self, name, *arguments):
        machine = self.tiny("wait", "--quiet", "--console", "none", "--name", name, *arguments)
        self.wait_until_running(name)
        return machine

    def text(self, name):
        socket = os.path.join(self.runtime, "symvmm", f"{name}.sock")
        status, text = vmm.request(socket, "GET", "/metrics/openmetrics", form=str)
        self.assertEqual(status, 200)
        return text

    def families(self, text):
        """The metrics as Prometheus' parser reads them."""
        python = os.path.join(vmm.BUILD, "venv", "bin", "python")
        self.assertTrue(os.path.exists(python), "no virtual environment: scripts/test system makes it")
        source = self.write("openmetrics", text)
        with open(source, encoding="utf-8") as file:
            result = vmm.subprocess.run([python, "-c", PARSER], stdin=file, capture_output=True, text=True, timeout=vmm.PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr[-600:])
        return {family["name"]: family for family in json.loads(result.stdout)}

    def documented(self):
        """The families of a VM."""
        with open(os.path.join(DOCS, "METRICS.md"), encoding="utf-8") as file:
            rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", file.read(), re.M)
        return {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows if not name.startswith("symvmm_exporter_")}

    def end(self, machine, name):
        self.symvmm("kill", name)
        self.assert_ended(machine, 130)

    def test_prometheus_parser_accepts_the_text_and_every_family_is_documented(self):
        machine = self.start("measured", "--cpus", "2", "--swap", "1M")
        self.wait_until("it leaves", lambda: self.answer("stats", "measured")["exit_count"] > 20)
        families = self.families(self.text("measured"))
        documented = self.documented()
        self.assertEqual(set(families), set(documented))
        for name, family in families.items():
            kind, labels = documented[name]
            self.assertEqual(family["type"], kind, name)
            self.assertTrue(family["help"].endswith("."), name)
            for _, given, _ in family["samples"]:
                self.assertEqual(given["vm"], "measured")
                self.assertLessEqual(set(given) - {"vm", "le"}, set(labels), name)
        # Without a symcall and a module, all other families have samples.
        empty = {name for name, family in families.items() if not family["samples"]}
        self.assertEqual(empty, {"symvmm_symcall_duration_seconds", "symvmm_service_guest_events"})
        self.end(machine, "measured")

    def samples(self, families, family, sample, **labels):
        return [
            value
            for name, given, value in families[family]["samples"]
            if name == sample and all(given.get(key) == value for key, value in labels.items())
        ]

    def test_the_values_are_those_of_the_statistics(self):
        machine = self.start("held", "--cpus", "2", "--memory", "32M")
        self.wait_until("it leaves", lambda: self.answer("stats", "held")["exit_count"] > 20)
        before = self.families(self.text("held"))
        self.symvmm("pause", "held")
        families, report = self.families(self.text("held")), self.answer("stats", "held")
        self.assertEqual(sum(self.samples(families, "symvmm_exits", "symvmm_exits_total")), report["exit_count"])
        self.assertEqual(
            sum(self.samples(families, "symvmm_exit_duration_seconds", "symvmm_exit_duration_seconds_count")), report["exit_count"]
        )
        total = sum(row["total_ns"] for row in report["exits"]) / 1e9
        self.assertAlmostEqual(sum(self.samples(families, "symvmm_vcpu_vmm_seconds", "symvmm_vcpu_vmm_seconds_total")), total, places=8)
        self.assertAlmostEqual(
            sum(self.samples(families, "symvmm_exit_duration_seconds", "symvmm_exit_duration_seconds_sum")), total, places=8
        )
        self.assertEqual(self.samples(families, "symvmm_memory_bytes", "symvmm_memory_bytes"), [32 << 20])
        self.assertEqual(self.samples(families, "symvmm_vm_state", "symvmm_vm_state", symvmm_vm_state="paused"), [1])
        self.assertEqual(self.samples(families, "symvmm_vm_state", "symvmm_vm_state", symvmm_vm_state="running"), [0])
        self.check_growth(before, families)
        # A reset of the statistics does not affect OpenMetrics.
        self.symvmm("stats", "held", "--reset")
        self.check_growth(families, self.families(self.text("held")))
        self.end(machine, "held")

    def check_growth(self, before, after):
        for name, family in before.items():
            if family["type"] not in ("counter", "histogram"):
                continue
            now = {(sample, tuple(sorted(labels.items()))): value for sample, labels, value in after[name]["samples"]}
            for sample, labels, value in family["samples"]:
                self.assertGreaterEqual(now[(sample, tuple(sorted(labels.items())))], value, (sample, labels))

    def test_the_content_type_is_openmetrics(self):
        machine = self.start("typed")
        socket = os.path.join(self.runtime, "symvmm", "typed.sock")
        head = vmm.checked("curl", "-s", "-D", "-", "-o", "/dev/null", "--unix-socket", socket, "http://localhost/metrics/openmetrics")
        self.assertIn("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r", head.replace("\n", "\r"))
        self.assertTrue(self.text("typed").endswith("\n# EOF\n"))
        # A client that prefers it gets the older form (exporter_test.py reads both).
        older = vmm.checked(
            "curl", "-s", "-D", "-", "-H", "Accept: text/plain; version=0.0.4", "--unix-socket", socket, "http://localhost/metrics/openmetrics")
        self.assertIn("content-type: text/plain; version=0.0.4; charset=utf-8", older)
        self.assertIn("\n# TYPE symvmm_exits_total counter\n", older)
        self.assertNotIn("# EOF", older)
        self.end(machine, "typed")

    def test_the_textfile_script_writes_one_file_for_each_vm(self):
        machines = [self.start(name) for name in ("one", "two")]
        folder = self.path("textfiles")
        os.mkdir(folder)
        self.write("textfiles/symvmm-gone.prom", "old\n")
        environment = {**self.environment, "PATH": f"{vmm.BUILD}:{os.environ['PATH']}"}
        script = os.path.join(MONITORING, "symvmm-textfile")
        self.assertEqual(vmm.checked(script, folder, env=environment), "")
        self.assertEqual(sorted(os.listdir(folder)), ["symvmm-one.prom", "symvmm-two.prom"])
        with open(os.path.join(folder, "symvmm-one.prom"), encoding="utf-8") as file:
            text = file.read()
        self.assertRegex(text, r'(?m)^# TYPE symvmm_exits_total counter\n# HELP symvmm_exits_total .*\nsymvmm_exits_total{vm="one",')
        self.assertEqual(set(re.findall(r"(?m)^# TYPE \w+ (\w+)$", text)), {"counter", "gauge", "histogram", "untyped"})
        self.assertNotIn("EOF", text)
        for name in ("one", "two"):
            self.symvmm("kill", name)
        for machine in machines:
            self.assertEqual(machine.end(), 130)
        vmm.checked(script, folder, env=environment)
        self.assertEqual(os.listdir(folder), [])
        self.assertEqual(vmm.command(script, env=environment).returncode, 2)

    def test_promtool_accepts_the_sample_configuration(self):
        if not shutil.which("promtool"):
            self.skipTest("promtool is not installed (Debian's package prometheus)")
        for words in (["check", "config", "prometheus.yml"], ["check", "rules", "symvmm-alerts.yml"], ["test", "rules", "symvmm-alerts-test.yml"]):
            self.assertIn("SUCCESS", vmm.checked("promtool", *words, cwd=MONITORING))
