# SPDX-License-Identifier: Apache-2.0
"""API clients that send malformed, large or many requests, or that send or read slowly or not at all. The guest continues, and the next client gets its answer."""

import os
import resource
import signal
import socket
import threading
import time

import api
import vmm

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class APIFaults(api.ServeTest):
    def setUp(self):
        super().setUp()
        self.machine = self.serve()
        self.start(self.machine)
        self.machine.wait_for("ready")
        self.echoes = 0

    def end(self):
        """Checks that the guest and the API answer, and that nothing is left at the end."""
        self.guest_answers()
        self.assertEqual(self.state(self.machine), "Running")
        self.machine.send(".")
        self.assert_ended(self.machine, 0)

    def guest_answers(self):
        self.echoes += 1
        self.machine.send(f"echo{self.echoes} ")
        self.machine.wait_for(f"ECHO{self.echoes} ")

    def exchange(self, data, **options):
        return api.exchange(self.machine.socket, data, **options)

    def memory(self):
        """The VMM's anonymous memory in MiB. Pages of the program's file do not count: whether they are private depends on other VMs."""
        with open(f"/proc/{self.machine.pid}/smaps_rollup", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
        return int(fields["Anonymous"].split()[0]) / 1024

    def test_requests_that_are_not_http(self):
        for data in (
            b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x00\x01\x02\r\n\r\n",
            b"GET / HTTP/1.1\r\nbroken header\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzzzz",
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\n", b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100), bytes(range(256)) * 16,
        ):
            answer = self.exchange(data)
            # The server waits for the rest of data that begins a valid request.
            if answer:
                self.assertRegex(answer, rb"\AHTTP/1\.[01] 400 ", data[:60])
                self.assertIn(b"fault_message", answer)
        self.end()

    def test_headers_without_an_end(self):
        for data in (
            b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(100000)) + b"\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"y" * (4 << 20) + b"\r\n\r\n",
            b"GET /" + b"a" * (4 << 20) + b" HTTP/1.1\r\n\r\n",
        ):
            self.assertNotRegex(self.exchange(data), rb"\AHTTP/1\.1 200 ")
        self.end()

    def test_bodies_of_ten_megabytes(self):
        before = self.memory()
        body = b"{" + b" " * (10 << 20) + b"}"
        for _ in range(3):
            answer = api.request(self.machine.socket, "PUT", "/actions", body)
            self.assertEqual(answer.status, 413, answer.line)
            self.assertIn("at most 65536 bytes", answer.fault)
        chunked = b"PUT /actions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join([b"100000\r\n", bytes(1 << 20), b"\r\n"] * 10)
        self.assertRegex(self.exchange(chunked + b"0\r\n\r\n"), rb"\AHTTP/1\.1 413 ")
        # A body whose announced length exceeds the memory.
        head = b"PUT /actions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999999999\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(vmm.PATIENCE)
            connection.connect(self.machine.socket)
            connection.sendall(head)
            self.assertRegex(connection.recv(4096), rb"\AHTTP/1\.1 413 ")
        self.assertLess(self.memory() - before, 4, "MiB more than before")
        self.end()

    def test_invalid_and_deeply_nested_json(self):
        for body in (
            b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 60000, b'{"a":' * 10000,
            b"[" * 33 + b"]" * 33, b'{"a":' * 400, b'{"a":' * 500 + b"1" + b"}" * 500, b"[" * 500 + b"]" * 500, b"[" + b"1," * 30000 + b"1]",
            '{"\u2200": [[{}]]}'.encode("utf-16"),
            b'{"action_type": "InstanceStart",}', b"{}{}",
            b'{"action_type": 5}', b'{"action_type": null}', b'{"action_type": ["InstanceStart"]}', b'{"action_type": "Explode"}',
            b'{"action_type": "SendCtrlAltDel", "surplus": 1}', b'{"Action_Type": "Kill"}',
        ):
            self.refused(self.machine, "PUT", "/actions", body)
        self.end()

    def test_unknown_resources_and_methods(self):
        for resource_path in ("/nothing", "//", "/vm/", "/drives", "/drives/", "/drives/a/b", "/../etc/passwd", "/%00", "*", "/vm%2fconfig"):
            answer = self.ask(self.machine, "GET", resource_path)
            self.assertIn(answer.status, (400, 404, 405), resource_path)
            self.assertIn("fault_message", answer.text)
        for method in ("POST", "HEAD", "DELETE", "TRACE", "BREW"):
            answer = self.ask(self.machine, method, "/vm")
            self.assertIn(answer.status, (400, 405), method)
        self.assertEqual(self.ask(self.machine, "DELETE", "/vm").headers["allow"], "PATCH, OPTIONS")
        self.end()

    def test_a_thousand_clients_at_once(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
        before = self.memory()
        statuses, lock, go = [], threading.Lock(), threading.Event()

        def client():
            go.wait()
            try:
                status = api.Answer(self.exchange(GET)).status
            except OSError as error:
                status = str(error)
            with lock:
                statuses.append(status)

        threading.stack_size(256 << 10)
        threads = [threading.Thread(target=client, daemon=True) for _ in range(1000)]
        for thread in threads:
            thread.start()
        go.set()
        self.guest_answers()
        for thread in threads:
            thread.join(vmm.PATIENCE)
        self.assertEqual(len(statuses), 1000)
        self.assertLessEqual(set(statuses), {200, 503})
        # As many as may wait for a thread are not refused, however slow the threads are.
        self.assertGreaterEqual(statuses.count(200), 128)
        self.assertLess(self.memory() - before, 16, "MiB more than before")
        self.end()

    def test_clients_that_hold_every_connection(self):
        held = []
        for _ in range(400):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.connect(self.machine.socket)
            held.append(connection)
        # The next client is refused, at once or as soon as one of the refused connections closes.
        answer = api.Answer(self.exchange(GET))
        self.assertEqual(answer.status, 503)
        self.assertIn("too many connections", answer.fault)
        self.assertLess(len(os.listdir(f"/proc/{self.machine.pid}/fd")), 500)
        self.guest_answers()
        for connection in held:
            connection.close()
        self.wait_until("there is room again", lambda: api.Answer(self.exchange(GET)).status == 200)
        self.end()

    def test_clients_that_never_read(self):
        before = self.memory()
        wish = b"GET /vm/config HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
        for _ in range(20):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.setblocking(False)
            connection.connect(self.machine.socket)
            try:
                while wish:
                    connection.send(wish)
            except BlockingIOError:
                pass
        for _ in range(5):
            self.guest_answers()
            self.assertEqual(self.state(self.machine), "Running")
        self.assertLess(self.memory() - before, 16, "MiB more than before")
        self.end()

    @vmm.slow
    def test_slow_clients_and_clients_that_disconnect(self):
        slow = []
        for data in (b"", b"GET / HT", b"PUT /actions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"):
            for _ in range(10):
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self.machine.socket)
                connection.sendall(data)
                slow.append(connection)
        self.assertEqual(self.state(self.machine), "Running")
        for connection in slow[::2]:
            connection.close()
        # A client has 30 seconds to send a request.
        deadline = time.monotonic() + vmm.PATIENCE
        for connection in slow[1::2]:
            connection.settimeout(max(1, deadline - time.monotonic()))
            self.assertEqual(connection.recv(100), b"")
            connection.close()
        self.end()


class SocketFaults(api.ServeTest):
    """Files, folders and sockets at the control socket's path."""

    def refused_start(self, status, words, *arguments):
        machine = vmm.Machine(self, ["--quiet", *arguments], command="serve")
        self.assertEqual(machine.end(), status, machine.errors)
        self.assertEqual(len(machine.errors.splitlines()), 1, machine.errors)
        for word in words:
            self.assertIn(word, machine.errors)

    def test_a_path_that_is_too_long(self):
        self.refused_start(2, ("at most 107 bytes",), "--api-socket", self.path("x" * 120))
        self.assert_nothing_left()

    def test_a_path_in_a_missing_folder(self):
        self.refused_start(2, ("/no/such/folder",), "--api-socket", "/no/such/folder/socket")
        self.assert_nothing_left()

    def test_a_path_and_a_name_that_a_running_vm_uses(self):
        path = self.path("api.sock")
        machine = self.serve("--api-socket", path)
        self.refused_start(2, ("a running VM uses it", path), "--api-socket", path, "--name", "other")
        self.refused_start(2, ("a VM named 'served' is running",), "--name", "served")
        self.refused_start(2, ("a VM named 'served' is running",), "--name", "served", "--api-socket", self.path("other.sock"))
        self.assertEqual(self.state(machine), "Not started")
        self.assertEqual(self.names(), ["served"])
        self.symvmm("kill", "served")
        self.assert_ended(machine, 0)

    def test_sockets_that_a_killed_vm_left(self):
        path = self.path("api.sock")
        for arguments in (["--api-socket", path], []):
            machine = self.serve(*arguments)
            machine.signal(signal.SIGKILL)
            self.assertEqual(machine.end(), -signal.SIGKILL)
            machine = self.serve(*arguments)
            self.wait_until("the new one answers", lambda: self.names() == ["served"])
            self.symvmm("kill", "served")
            self.assert_ended(machine, 0)
        # `ps` removes a socket whose VM was killed.
        machine = self.serve()
        machine.signal(signal.SIGKILL)
        machine.end()
        self.assertEqual(self.names(), [])
        self.assert_nothing_left()

    def test_a_file_at_the_sockets_path_is_kept(self):
        precious = self.write("precious", "text")
        self.refused_start(2, ("is not a socket",), "--api-socket", precious)
        with open(precious, encoding="ascii") as file:
            self.assertEqual(file.read(), "text")
