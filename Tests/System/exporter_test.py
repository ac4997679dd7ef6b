# SPDX-License-Identifier: Apache-2.0
"""`symvmm exporter`, with tiny guests, processes that pretend to be VMs, and hostile clients. On any /dev/kvm."""

import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import vmm
from exporter import OPENMETRICS, TEXT, Exporter, ExporterTest


class PretendedVM:
    """A process that is no VM and answers at a control socket with bytes of its own: all that a VM's process can do which its guest has taken over."""

    def __init__(self, test, name, answer, pause=0):
        folder = os.path.join(test.runtime, "symvmm")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.path = os.path.join(folder, f"{name}.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        test.addCleanup(self.close)
        threading.Thread(target=self.serve, args=(answer, pause), daemon=True).start()

    def serve(self, answer, pause):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection, answer, pause), daemon=True).start()

    def answer(self, connection, answer, pause):
        try:
            with connection:
                if not connection.recv(65536):
                    return
                for index in range(0, len(answer), 1 if pause else len(answer)):
                    connection.sendall(answer[index:index + (1 if pause else len(answer))])
                    time.sleep(pause)
        except OSError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


def http(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class ExporterTests(ExporterTest):
    def test_prometheus_parsers_accept_all_vms_in_both_forms(self):
        self.start("one", "--cpus", "2", "--swap", "1M")
        self.start("two", "--disk", self.write("disk.img", bytes(1 << 20)))
        exporter = Exporter(self)
        self.assertEqual(self.up(exporter), {"one": 1, "two": 1})
        for path in ("/metrics", "/"):
            for accept, expected in ((OPENMETRICS, OPENMETRICS), ("text/plain", TEXT), (None, TEXT), ("*/*", TEXT)):
                text, content_type = exporter.get(path, accept)
                self.assertEqual(content_type, expected)
                families = self.families(text, expected)
                # Each VM has samples in what every VM has.
                for family in ("symvmm_exits", "symvmm_uptime_seconds", "symvmm_vm_state", "symvmm_kvm_events", "symvmm_exit_duration_seconds"):
                    self.assertEqual({labels["vm"] for _, labels, _ in families[family]["samples"]}, {"one", "two"}, family)
        # Names and types are those of a VM's own text, in both of its forms.
        path = os.path.join(self.runtime, "symvmm", "one.sock")
        for accept in (OPENMETRICS, TEXT):
            head = vmm.checked("curl", "-sD-", "-H", f"Accept: {accept}", "--unix-socket", path, "http://localhost/metrics/openmetrics")
            head, _, own = head.partition("\n\n")
            self.assertIn(f"content-type: {accept}\n", head + "\n")
            own = self.families(own, accept)
            merged = self.families(exporter.get(accept=accept)[0], accept)
            self.assertEqual(
                {name: family["type"] for name, family in own.items()},
                {name: family["type"] for name, family in merged.items() if not name.startswith("symvmm_exporter_")})
        # The exporter's own families are documented.
        with open(os.path.join(vmm.ROOT, "docs", "METRICS.md"), encoding="utf-8") as file:
            documented = dict(re.findall(r"^\| `(symvmm_exporter_\w+)` \| (\w+) \|", file.read(), re.M))
        merged = self.families(exporter.get(accept=OPENMETRICS)[0], OPENMETRICS)
        self.assertEqual({name: family["type"] for name, family in merged.items() if name.startswith("symvmm_exporter_")}, documented)
        self.assertEqual(exporter.end(), (0, ""))
        self.end("one", "two")

    def test_values_are_those_of_the_vm(self):
        self.start("held", "--memory", "32M")
        self.wait_until("it leaves", lambda: self.answer("stats", "held")["exit_count"] > 0)
        self.symvmm("pause", "held")
        exporter = Exporter(self)
        text = self.fresh(exporter)
        self.assertIn('\nsymvmm_memory_bytes{vm="held"} 33554432\n', text)
        self.assertIn('\nsymvmm_vm_state{vm="held",symvmm_vm_state="paused"} 1\n', text)
        counts = re.findall(r'^symvmm_exits_total\{vm="held",.*\} (\d+)$', text, re.M)
        self.assertEqual(sum(map(int, counts)), self.answer("stats", "held")["exit_count"])
        self.end("held")
        self.assertEqual(self.up(exporter), {})

    def test_a_stopped_vm_is_left_out_and_counted(self):
        self.start("well")
        stopped = self.start("stopped")
        exporter = Exporter(self)
        self.assertEqual(self.up(exporter), {"stopped": 1, "well": 1})
        stopped.signal(signal.SIGSTOP)
        self.wait_until("it is stopped", lambda: self.up(exporter) == {"stopped": 0, "well": 1})
        text = self.fresh(exporter)
        self.assertEqual(set(self.left_out(text)), {"stopped"})
        self.assertNotIn('vm="stopped",', text)
        stopped.signal(signal.SIGCONT)
        self.wait_until("it goes on", lambda: self.up(exporter) == {"stopped": 1, "well": 1})
        self.end("well", "stopped")

    def test_hostile_vms_spoil_no_answer(self):
        self.start("well")
        good = http(b'# TYPE symvmm_vcpus gauge\nsymvmm_vcpus{vm="well"} 77\n# EOF\n')
        vms = {
            "a-liar": good, "b-type": http(b'# TYPE symvmm_exits gauge\nsymvmm_exits{vm="x"} 1\n# EOF\n'),
            "c-name": http(b'# TYPE symvmm_vcpus gauge\nsymvmm_vcpus{__name__="up"} 1\n# EOF\n'), "d-bytes": http(b"\xff\xfe# EOF\n"),
            "e-nan": http(b"# TYPE symvmm_vcpus gauge\nsymvmm_vcpus{} NaN\n# EOF\n"), "f-cut": http(b"# TYPE symvmm_vcpus gauge\n"),
            "g-status": http(b"{}", "500 No"), "h-junk": b"\0\1\2 no http\r\n\r\n", "i-long": http(b"#" * (8 << 20) + b"\n# EOF\n"),
            "j-close": b"", "k-endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"#" * (1 << 20) + b"\r\n",
            "l-many": http(b"# TYPE symvmm_vcpus gauge\n" + b"".join(b'symvmm_vcpus{a="%d"} 1\n' % n for n in range(30_000)) + b"# EOF\n"),
        }
        for name, answer in vms.items():
            PretendedVM(self, name, answer or b"\n")
        PretendedVM(self, "m-silent", b"x" * 10_000, pause=0.2)
        # So long that on a busy machine all but the silent one have answered; the silent one lets each answer take so long.
        exporter = Exporter(self, "--timeout", "5")
        text = self.fresh(exporter, OPENMETRICS)
        families = self.families(text, OPENMETRICS)
        up = {labels["vm"]: value for _, labels, value in families["symvmm_exporter_vm_up"]["samples"]}
        self.assertEqual({name for name, value in up.items() if value}, {"well", "a-liar"})
        self.assertEqual(set(up), {"well", "m-silent", *vms})
        # A VM gives samples under its own name only.
        vcpus = {labels["vm"]: value for _, labels, value in families["symvmm_vcpus"]["samples"]}
        self.assertEqual(vcpus, {"well": 1, "a-liar": 77})
        self.assertEqual(set(self.left_out(text)), {"invalid", "too_long", "no_answer"})
        self.assertEqual(families["symvmm_exits"]["type"], "counter")
        self.assertEqual(exporter.end(), (0, ""))
        self.symvmm("kill", "well")
        self.assertEqual(self.machines[0].end(), 130)

    def test_it_can_only_be_read_and_bounds_its_clients(self):
        exporter = Exporter(self)
        for method, path, status in (("POST", "/metrics", 405), ("PUT", "/actions", 404), ("DELETE", "/", 405), ("GET", "/vm/config", 404)):
            request = urllib.request.Request(exporter.place.removesuffix("/metrics") + path, method=method, data=b"{}" if method != "GET" else None)
            with self.assertRaises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(request, timeout=vmm.PATIENCE)
            self.assertEqual(error.exception.code, status, (method, path))
            error.exception.close()
        head = vmm.checked("curl", "-sI", exporter.place)
        self.assertIn("HTTP/1.1 200 OK", head)
        # Clients that send nothing, junk or too much.
        clients = [socket.create_connection(("127.0.0.1", exporter.port)) for _ in range(300)]
        try:
            clients[0].sendall(b"junk\r\n\r\n")
            self.assertIn(b"400 Bad Request", clients[0].recv(4096))
            clients[1].sendall(b"GET /metrics HTTP/1.1\r\nAccept: " + b"a" * 40_000 + b"\r\n\r\n")
            self.assertIn(b"400 Bad Request", clients[1].recv(4096))
        finally:
            for client in clients:
                client.close()
        self.wait_until("it answers", lambda: "symvmm_exporter_build_info" in self.patient_get(exporter))
        self.assertEqual(exporter.end(signal.SIGINT), (0, ""))

    def patient_get(self, exporter):
        try:
            return exporter.get()[0]
        except (urllib.error.URLError, ConnectionError):
            return ""

    def test_a_unix_socket_and_sockets_elsewhere(self):
        folder = self.path("elsewhere")
        os.mkdir(folder)
        machine = self.tiny("wait", "--quiet", "--console", "none", "--name", "far", "--api-socket", os.path.join(folder, "web.sock"))
        self.wait_until_running("far")
        # Not under its name: the file's name counts.
        os.unlink(os.path.join(self.runtime, "symvmm", "far.sock"))
        place = self.path("exporter.sock")
        exporter = Exporter(self, "--sockets", f"{folder}/*.sock", "--sockets", "/no/such/*", listen=f"unix:{place}")
        self.assertEqual(exporter.place, place)
        self.assertEqual(os.stat(place).st_mode & 0o777, 0o600)
        text = vmm.request(place, "GET", "/metrics", form=str)[1]
        self.assertIn('symvmm_exporter_vm_up{vm="web"} 1\n', text)
        self.assertEqual(self.names(), [])
        second = self.symvmm("exporter", "--listen", f"unix:{place}")
        self.assertEqual((second.returncode, second.stdout), (2, ""))
        self.assertEqual(second.stderr, f"symvmm: --listen: {place}: another process uses it: choose another --listen\n")
        self.assertEqual(exporter.end(), (0, ""))
        self.assertFalse(os.path.exists(place))
        machine.signal(signal.SIGINT)
        self.assertEqual(machine.end(), 130)

    def test_bad_input_is_one_line(self):
        self.write("file", "")
        used = Exporter(self)
        for words, part in (
            (["--listen", "9464"], "'9464' has no port"), (["--listen", "host:1"], "'host' is not an address"),
            (["--listen", "127.0.0.1:65536"], "'65536' is not a port"), (["--listen", "unix:"], "has no path"),
            (["--listen", "192.0.2.1:0"], "this host has no such address"), (["--listen", f"127.0.0.1:{used.port}"], "Address already in use"),
            (["--listen", f"unix:{self.path('file')}"], "exists and is not a socket"), (["--listen", "unix:/no/such/folder/x"], "No such file"),
            (["--listen", f"unix:/{'x' * 120}"], "at most 107 bytes"), (["--timeout", "0"], "give 1 to 60 seconds"),
            (["--timeout", "x"], "--timeout"), (["--sockets", ""], "--sockets: empty"), (["extra"], "extra"),
        ):
            result = self.symvmm("exporter", *words)
            self.assertEqual((result.returncode, result.stdout), (2, ""), words)
            self.assertRegex(result.stderr, r"^symvmm: [^\n]+\n$", words)
            self.assertIn(part, result.stderr)
        result = self.symvmm("exporter", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("symvmm exporter --listen 127.0.0.1:9464", result.stdout)
        self.assertEqual(used.end(), (0, ""))
