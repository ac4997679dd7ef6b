# SPDX-License-Identifier: Apache-2.0
"""`symvmm serve` and its API, for the tests beside this file."""

import json
import os
import socket

import vmm


class Answer:
    """What the API answered: status, body as text and as JSON, and the headers in lower case."""

    def __init__(self, data):
        head, _, content = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.status = int(lines[0].split()[1]) if data else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.text = content.decode("utf-8", "replace")

    @property
    def value(self):
        return json.loads(self.text)

    @property
    def fault(self):
        return self.value["fault_message"]


def exchange(path, data):
    """Sends bytes on a new connection; returns what arrives until the other side closes it."""
    with socket.socket(socket.AF_UNIX) as connection:
        # Without a timeout, connect() waits while the listener's queue is full; with one, Python fails with EAGAIN.
        connection.connect(path)
        connection.settimeout(vmm.PATIENCE)
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
    return answer


def request(path, method, resource, body=None):
    """Makes one request with a JSON body, or with the given bytes."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {resource} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return Answer(exchange(path, head.encode() + b"\r\n" + content))


class ServeTest(vmm.SystemTest):
    """A test with VMs that it configures over their API."""

    group = "host"
    def serve(self, *arguments, name="served", **options):
        """Starts a VM without a configuration and waits for its API."""
        machine = vmm.Machine(self, ["--name", name, "--quiet", *arguments], command="serve", **options)
        machine.socket = os.path.join(self.runtime, "symvmm", f"{name}.sock")
        self.wait_until("the API answers", lambda: machine.process.poll() is not None or os.path.exists(machine.socket))
        return machine

    def ask(self, machine, method, resource, body=None, **options):
        return request(machine.socket, method, resource, body, **options)

    def done(self, machine, method, resource, body):
        """A request that must succeed without a body."""
        answer = self.ask(machine, method, resource, body)
        self.assertEqual((answer.status, answer.text), (204, ""), f"{method} {resource} {body}")

    def refused(self, machine, method, resource, body, *words, status=400):
        """A request that must be refused, with these words in the message."""
        answer = self.ask(machine, method, resource, body)
        self.assertEqual(answer.status, status, f"{method} {resource} {body}: {answer.text}")
        self.assertEqual(list(answer.value), ["fault_message"])
        for word in words:
            self.assertIn(word, answer.fault)

    def start(self, machine, guest="echo", defines=(), memory=16):
        """Configures a tiny guest and starts it."""
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble(guest, defines)})
        self.done(machine, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": memory})
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})

    def state(self, machine):
        return self.ask(machine, "GET", "/").value["state"]
