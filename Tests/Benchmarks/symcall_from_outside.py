# SPDX-License-Identifier: Apache-2.0
"""PINGs over the API, injected into a tiny guest that spins with interrupts off. For symcall_vs_exit, beside this file."""

import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading

import machine
from result import BenchmarkError

SERIES = 20
REPEAT = 100
BLOCKS = 100
COUNT = 32
PATIENCE = 60


def measure():
    """Microseconds of a PING, and of a plain OUT of the same guest before it began to spin: the medians of many series and blocks."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "api")
        words = [
            machine.SYMVMM, "run", "--quiet", "--memory", "16M", "--kernel", machine.guest("symcall"), "--api-socket", path,
            "--append", f"blocks={BLOCKS} count={COUNT} spin=1",
        ]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            # A guest that never spins must not delay the others.
            end = threading.Timer(PATIENCE, process.kill)
            end.start()
            try:
                text = until_spinning(process.stdout)
                return statistics.median(series(path) for _ in range(SERIES)), exit_microseconds(text)
            finally:
                end.cancel()
                process.kill()


def until_spinning(output):
    text = ""
    for line in output:
        if line.startswith("spinning"):
            return text
        text += line
    raise BenchmarkError(f"the guest did not spin: {text.strip()[-100:]}")


def exit_microseconds(text):
    blocks = machine.hexadecimal(text, "block")
    if len(blocks) != BLOCKS:
        raise BenchmarkError(f"the guest reported {len(blocks)} of {BLOCKS} blocks")
    return statistics.median(block[0] for block in blocks) / COUNT / float(machine.run(machine.compile_c("tick-rate")))


def series(path):
    """Microseconds of one PING of a series, which must all have completed."""
    answer = put(path, {"call": "ping", "repeat": REPEAT, "vcpu": 0})
    if answer.get("answered") != REPEAT:
        raise BenchmarkError(f"not all of {REPEAT} symcalls from outside completed: {answer}")
    return answer["total_ns"] / REPEAT / 1000


def put(path, document):
    body = json.dumps(document)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(path)
            head = f"PUT /symcalls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"symvmm's API: {error}") from None
