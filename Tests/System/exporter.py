# SPDX-License-Identifier: Apache-2.0
"""`symvmm exporter` and the metrics that it serves, for tests."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request

import vmm

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

# Prometheus' own parsers of both forms, which are strict; their families as JSON.
PARSER = """
import importlib, json, sys
parser = importlib.import_module(sys.argv[1])
print(json.dumps([
    {"name": family.name, "type": family.type, "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples]}
    for family in parser.text_string_to_metric_families(sys.stdin.read())]))
"""
PARSERS = {OPENMETRICS: "prometheus_client.openmetrics.parser", TEXT: "prometheus_client.parser"}


class Exporter:
    """A running `symvmm exporter`."""

    def __init__(self, test, *words, listen="127.0.0.1:0", program=None):
        # On a busy machine, a VM may need longer than the 3 seconds that it has without the option.
        words = words if "--timeout" in words else (*words, "--timeout", "60")
        self.process = subprocess.Popen(
            [*(program or [vmm.SYMVMM]), "exporter", "--listen", listen, *words], env=test.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.close)
        line = self.process.stderr.readline()
        match = re.fullmatch(r"symvmm: the metrics are at (\S+)\n", line)
        test.assertIsNotNone(match, line + (self.process.stderr.read() if not match else ""))
        self.place = match[1]

    @property
    def port(self):
        return int(re.search(r":(\d+)/metrics$", self.place)[1])

    def get(self, path="/metrics", accept=None):
        """Returns the answer's text and content type."""
        request = urllib.request.Request(self.place.removesuffix("/metrics") + path, headers={"Accept": accept} if accept else {})
        with urllib.request.urlopen(request, timeout=vmm.PATIENCE) as answer:
            return answer.read().decode(), answer.headers["content-type"]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(vmm.PATIENCE)
        return status, self.process.stdout.read() + self.process.stderr.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class ExporterTest(vmm.SystemTest):
    """A test with tiny guests and an exporter."""

    group = "host"

    def start(self, name, *arguments):
        machine = self.tiny("wait", "--quiet", "--console", "none", "--name", name, *arguments)
        self.wait_until_running(name)
        return machine

    def families(self, text, content_type):
        """The metrics as Prometheus' parser of the form reads them."""
        python = os.path.join(vmm.BUILD, "venv", "bin", "python")
        self.assertTrue(os.path.exists(python), "no virtual environment: scripts/test system makes it")
        result = subprocess.run(
            [python, "-c", PARSER, PARSERS[content_type]], input=text, capture_output=True, text=True, timeout=vmm.PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr[-600:])
        families = json.loads(result.stdout)
        names = [family["name"] for family in families]
        self.assertEqual(len(names), len(set(names)), "a family is there twice")
        return {family["name"]: family for family in families}

    def up(self, exporter):
        """The VMs, and whether their samples are in the answer; a new one, since an answer is served again for a second."""
        text = self.fresh(exporter)
        return {name: int(value) for name, value in re.findall(r'^symvmm_exporter_vm_up\{vm="([^"]*)"\} (\d)$', text, re.M)}

    def fresh(self, exporter, accept=None):
        """The text of a new collection."""
        before = self.collections(exporter.get()[0])
        while True:
            text, _ = exporter.get(accept=accept)
            if self.collections(text) > before:
                return text
            time.sleep(0.1)

    def collections(self, text):
        return int(re.search(r"^symvmm_exporter_collections_total (\d+)$", text, re.M)[1])

    def left_out(self, text):
        return {name: int(value) for name, value in re.findall(r'^symvmm_exporter_left_out_total\{reason="(\w+)"\} (\d+)$', text, re.M) if value != "0"}

    def end(self, *names):
        for name in names:
            self.symvmm("kill", name)
        for machine in self.machines:
            self.assertEqual(machine.end(), 130)
        self.assert_nothing_left()
