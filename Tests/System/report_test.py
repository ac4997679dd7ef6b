# SPDX-License-Identifier: Apache-2.0
"""`symvmm report` in a real browser, headless Chromium. On any /dev/kvm."""

import html.parser
import json
import os
import re
import shutil
import subprocess

import vmm

# Does what a reader does, then writes the results into the page.
VISIT = """
<script>
  const seen = {};
  const chart = document.querySelector("#exits-chart");
  const series = document.querySelector("#exits .legend button");
  seen.polygons = chart === null ? 0 : chart.querySelectorAll("polygon").length;
  seen.hits = chart === null ? 0 : chart.querySelectorAll(".hit").length;
  if (series !== null) {
    series.click();
    seen.hidden = chart.querySelectorAll("polygon.off").length;
    series.click();
    seen.shown = chart.querySelectorAll("polygon.off").length;
  }
  const table = document.querySelector("#places-table");
  const counts = () => [...table.tBodies[0].rows].map(row => row.cells[3].textContent);
  table.tHead.rows[0].cells[3].click();
  seen.down = counts();
  table.tHead.rows[0].cells[3].click();
  seen.up = counts();
  const place = (chart ?? document).querySelector("[data-tip]");
  place.dispatchEvent(new MouseEvent("mousemove", {bubbles: true, clientX: 5, clientY: 5}));
  seen.tip = document.getElementById("tip").textContent;
  seen.images = document.images.length;
  seen.scripts = document.scripts.length;
  document.documentElement.dataset.seen = JSON.stringify(seen);
</script>
"""


class Elements(html.parser.HTMLParser):
    """The elements of a page: names, ids, and addresses that they would load."""

    def __init__(self, text):
        super().__init__()
        self.names, self.ids, self.addresses, self.attributes = [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value)
            if tag == "html":
                self.attributes[name] = value


class Report(vmm.SystemTest):
    group = "host"

    def start(self, name, guest="wait", *arguments, **options):
        machine = self.tiny(guest, "--quiet", "--console", "none", "--name", name, *arguments, **options)
        self.wait_until_running(name)
        return machine

    def end(self, machine, name):
        self.symvmm("kill", name)
        self.assert_ended(machine, 130)

    def visit(self, page):
        """Opens a page in the browser; returns its elements after the scripts have run, and the visitor's results. No script may fail."""
        self.assertTrue(shutil.which("chromium"), "no chromium: scripts/test system installs it")
        with open(page, encoding="utf-8") as file:
            text = file.read()
        visited = self.write("visited.html", text.replace("</body>", VISIT + "</body>"))
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"]
        words += [f"--user-data-dir={self.path('browser')}", "--virtual-time-budget=3000", "--dump-dom", f"file://{visited}"]
        result = vmm.command("chromium", *words, env={**self.environment, "HOME": self.folder})
        self.assertEqual(result.returncode, 0, result.stderr[-500:])
        self.assertEqual([line for line in result.stderr.splitlines() if "CONSOLE" in line], [])
        elements = Elements(result.stdout)
        self.assertEqual(elements.attributes.get("data-script"), "ran")
        self.check_self_contained(text)
        return elements, json.loads(elements.attributes["data-seen"])

    def check_self_contained(self, text):
        self.assertEqual(Elements(text).addresses, [])
        self.assertNotRegex(text, r"(?i)https?://|@import|url\(")
        self.assertEqual(len(Elements(text).ids), len(set(Elements(text).ids)))

    def number(self, text):
        return int(text.replace(",", ""))

    def log_requests(self, name):
        """Lets a VM that was started with --allow-folder write each request into a log."""
        socket = os.path.join(self.runtime, "symvmm", f"{name}.sock")
        body = json.dumps({"log_path": self.path("requests"), "level": "Debug"})
        self.assertEqual(vmm.request(socket, "PUT", "/logger", body)[0], 204)

    def samples(self):
        """How many samples a report has taken from that VM."""
        with open(self.path("requests"), encoding="utf-8") as file:
            return file.read().count("GET /exit-statistics: 200\n")

    def begin_report(self, *words):
        """Starts a report; returns its process when it has taken some samples."""
        reporter = subprocess.Popen([vmm.SYMVMM, "report", *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(reporter.kill)
        self.wait_until("the report has begun", lambda: self.samples() >= 3 or reporter.poll() is not None)
        return reporter

    def end_report(self, reporter):
        """Waits until the page is written."""
        output, errors = reporter.communicate(timeout=vmm.PATIENCE)
        self.assertEqual((reporter.returncode, output, errors), (0, "", ""))

    @vmm.slow
    def test_a_page_of_a_running_machine(self):
        machine = self.start("drawn", "wait", "--cpus", "2", "--swap", "1M", "--allow-folder", self.folder)
        self.log_requests("drawn")
        page = self.path("drawn.html")
        reporter = self.begin_report("drawn", "--output", page, "--seconds", "3")
        # A guest without the module does not follow, and the command says so, but the request counts.
        self.symvmm("bypass", "drawn", "on")
        self.end_report(reporter)
        samples = self.samples()
        elements, seen = self.visit(page)
        for part in ("exits", "vmm", "swap", "latency", "tasks", "time", "places", "facts0", "facts1"):
            self.assertIn(part, elements.ids)
        self.assertEqual(seen["polygons"], 1)
        # One for each interval between two samples. On a busy machine there are few in 3 s.
        self.assertEqual(seen["hits"], samples - 1)
        self.assertEqual((seen["hidden"], seen["shown"]), (1, 0))
        self.assertIn("exits per second", seen["tip"])
        self.assertEqual(seen["images"], 0)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        self.assertIn("pio_write none 0x505", text)
        self.assertIn("the guest has not loaded symbiotic.ko", text)
        self.assertRegex(text, r"<td>(machine-config\.)?vcpu_count</td><td>2</td>")
        self.assertRegex(text, r"<td>kernel</td><td>\d+\.")
        self.end(machine, "drawn")

    def recorded(self, **changes):
        """Made-up lines of stats --follow."""
        lines = []
        for second in range(30):
            writes, reads = second * 1000, second * second * 10
            exits = [self.row("pio_write", "serial", 0x3F8, writes, 2000), self.row("mmio_read", "virtio-blk.symvmm-swap", 0xD0000070, reads, 9000)]
            swap = {"read_bytes": second * 40960, "written_bytes": min(second, 10) * 81920}
            lines.append({
                "version": 1, "name": "told", "uptime_ns": second * 10**9 + 1, "exit_count": sum(row["count"] for row in exits),
                "exits": [row for row in exits if row["count"]],
                "vcpus": [{"vcpu": 0, "exit_count": writes + reads, "guest_ns": second * 9 * 10**8, "vmm_ns": writes * 2000 + reads * 9000,
                           "kernel": {"exits": writes * 3}}],
                "tasks": [{"vcpu": 0, "tgid": 7, "name": "worker", "reason": "pio_write", "count": writes, "total_ns": writes * 2000}],
                "symbiotic": {"active": True, "counters": {"completed": second}, "symcalls": []},
                "services": [{"name": "swap-bypass", "counters": {"switched": second // 15, "faults": second * 7, "pages_mapped": second * 30}}],
                "devices": [{"name": "virtio-blk.symvmm-swap", "counters": swap}],
            } | changes)
        return "".join(json.dumps(line) + "\n" for line in lines)

    def row(self, reason, device, address, count, time_ns):
        return {
            "vcpu": 0, "reason": reason, "device": device, "address": address, "count": count, "total_ns": count * time_ns,
            "minimum_ns": time_ns, "mean_ns": time_ns, "p50_ns": time_ns, "p99_ns": time_ns, "maximum_ns": time_ns,
            "histogram": [{"up_to_ns": time_ns, "count": count}],
        }

    def test_a_page_of_recorded_lines(self):
        page = self.path("told.html")
        result = self.symvmm("report", "--from", self.write("told.lines", self.recorded()), "--output", page)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        elements, seen = self.visit(page)
        self.assertIn("swap-chart", elements.ids)
        self.assertEqual((seen["polygons"], seen["hits"]), (2, 29))
        self.assertEqual(seen["down"], ["29,000", "8,410"])
        self.assertEqual(seen["up"], ["8,410", "29,000"])
        with open(page, encoding="utf-8") as file:
            text = file.read()
        # Each time chart except the VMM's marks the switch in the sixteenth second.
        self.assertEqual(text.count("bypass switched"), 2)
        self.assertRegex(text, r"<td class=\"n\">7</td><td>worker</td><td class=\"n\">29,000</td>")
        # The chart shows the counted rate: 1,000 a second throughout.
        tips = re.findall(r'data-tip="([^"]*)"', text)
        self.assertEqual(sum("pio_write  1k" in tip for tip in tips), 29)

    def test_text_from_the_guest_is_escaped(self):
        evil = '"><img src=x onerror=document.title=1><script>document.title=2</script>\u202e\x1b'
        row = self.row(evil, evil, 1, 5, 1000)
        lines = self.recorded(
            name=evil, exits=[row], tasks=[{"vcpu": 0, "tgid": 1, "name": evil, "reason": evil, "count": 5, "total_ns": 5}],
            services=[{"name": "swap-bypass", "counters": {evil: 1, "switched": 1}}], symbiotic={"active": False, "counters": {}, "symcalls": []},
        ).splitlines()
        first = json.loads(lines[0]) | {"exits": [], "tasks": []}
        page = self.path("evil.html")
        result = self.symvmm("report", "--from", self.write("evil.lines", "\n".join([json.dumps(first), *lines[1:]]) + "\n"), "--output", page)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        elements, seen = self.visit(page)
        self.assertEqual(seen["images"], 0)
        # The page's own script and the visitor's.
        self.assertEqual(seen["scripts"], 2)
        self.assertNotIn("img", elements.names)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        self.assertIn("&lt;img src=x", text)
        self.assertNotIn("\u202e", text)
        self.assertNotIn("\x1b", text)

    def test_wrong_input_causes_one_line(self):
        machine = self.start("plain")
        lines = self.write("two.lines", self.recorded().splitlines()[3] + "\n" + self.recorded().splitlines()[1] + "\n")
        for words, message in (
            (["--output", "x.html"], "give either"),
            (["plain", "--from", lines, "--output", "x.html"], "give either"),
            (["plain", "--output", "/nonexistent/x.html"], "--output"),
            (["nobody", "--output", self.path("x.html")], "no VM named 'nobody'"),
            (["plain", "--seconds", "-1", "--output", self.path("x.html")], "--seconds"),
            (["--from", self.write("bad.lines", "no report\n"), "--output", self.path("x.html")], "line 1 is not"),
            (["--from", self.write("empty.lines", ""), "--output", self.path("x.html")], "no reports in the file"),
            (["--from", lines, "--output", self.path("x.html")], "another run"),
            (["--from", "/nonexistent", "--output", self.path("x.html")], "--from"),
        ):
            result = self.symvmm("report", *words)
            self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), f"{words}: {result.stderr}")
            self.assertIn(message, result.stderr)
        self.assertFalse(os.path.exists(self.path("x.html")))
        # One report, since the start.
        result = self.symvmm("report", "plain", "--seconds", "0", "--output", "-")
        self.assertIn("no charts over time", result.stdout)
        self.assertTrue(result.stdout.startswith("<!DOCTYPE html>"))
        self.end(machine, "plain")

    @vmm.slow
    def test_a_machine_that_ends_meanwhile_gets_a_page(self):
        machine = self.start("short", "wait", "--allow-folder", self.folder)
        self.log_requests("short")
        page = self.path("short.html")
        # It would take samples for much longer than the test waits for its end.
        reporter = self.begin_report("short", "--output", page, "--seconds", str(10 * vmm.PATIENCE))
        self.symvmm("kill", "short")
        self.end_report(reporter)
        self.assert_ended(machine, 130)
        self.visit(page)
