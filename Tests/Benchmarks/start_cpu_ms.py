# SPDX-License-Identifier: Apache-2.0
"""CPU time from exec until the machine runs and the API answers.

The guest halts at once and for good, and uses no time. The process' CPU-time clock gives the CPU time of all threads at the first answer of
the API socket, and again when the process is idle. The second reading includes the first KVM_RUN and has the limit.
"""

import os
import socket
import statistics
import subprocess
import tempfile
import time

import machine
from result import BenchmarkError, Result, spread_of_median

LIMIT = 8
USUAL = 10  # seconds on two quiet cores
RUNS = 21
PATIENCE = 20


def measure():
    runs = [start() for _ in range(RUNS)]
    at_answer, settled = (statistics.median(times) for times in zip(*runs))
    return Result(
        "start_cpu_ms",
        {"cpu_ms_until_api_answers": round(at_answer, 3), "cpu_ms_until_guest_halts": round(settled, 3)},
        settled,
        "ms",
        LIMIT,
        {"until_api_answers": [run[0] for run in runs], "until_guest_halts": [run[1] for run in runs]},
        spread=spread_of_median(run[1] for run in runs),
    )


def start():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "api")
        words = [
            machine.SYMVMM, "run", "--quiet", "--memory", "16M", "--kernel", machine.guest("halt"), "--console", "none",
            "--api-socket", path,
        ]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for_answer(path, process)
                at_answer = cpu_milliseconds(process.pid)
                return at_answer, wait_until_idle(process.pid)
            finally:
                process.kill()


def cpu_milliseconds(pid):
    # CLOCK_PROCESS_CPUTIME_ID of another process (clock_getcpuclockid(3)): all threads, also those that have ended, in nanoseconds.
    return time.clock_gettime(~pid << 3 | 2) * 1000


def wait_for_answer(path, process):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE)
                connection.connect(path)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if connection.recv(1):
                    return
        except OSError:
            pass
        time.sleep(0.001)
    raise BenchmarkError("symvmm's API did not answer")


def wait_until_idle(pid):
    last = cpu_milliseconds(pid)
    for _ in range(50):
        time.sleep(0.05)
        now = cpu_milliseconds(pid)
        if now - last < 0.02:
            return now
        last = now
    raise BenchmarkError("symvmm does not become idle with a guest that halts")
