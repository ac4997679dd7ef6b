# SPDX-License-Identifier: Apache-2.0
"""The lab (scripts/lab) in which the runner runs a second copy of itself; for the outer runner."""

import contextlib
import os
import subprocess
import time

import vmm
from tally import LINE

HERE = os.path.dirname(os.path.abspath(__file__))
# Most labs of a run: after a lab fails, another one runs the remaining tests.
LABS = 3
# Seconds between two lines of the inner runner, and seconds without a line after which a lab is ended.
TICK = 10
SILENT = 120
# Lines of the inner runner for the outer one.
BEGIN, ALIVE, MENDED = "begin ", "alive", "lab: mended"
# Seconds for the lab's own start and end.
LAB_TIME = 90


class Lab:
    """A lab that runs tests."""

    def __init__(self, tests, jobs, seconds):
        words = [os.path.join(vmm.ROOT, "scripts", "lab"), "--memory", "6G", "--out", vmm.LOGS, "--timeout", str(int(seconds + LAB_TIME))]
        words += [os.path.join(HERE, "run"), "--inside", "--jobs", str(jobs), "--budget", str(int(seconds)), "--exactly", *tests]
        os.makedirs(vmm.LOGS, exist_ok=True)
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "SYMVMM_TEST_LOGS": vmm.LOGS}
        )
        self.left = list(tests)
        self.running = []
        self.text = b""
        self.last = "no output"
        self.looked = time.monotonic()
        self.silent = 0.0

    def fileno(self):
        return self.process.stdout.fileno()

    def take(self, tally):
        """Counts new results; False at the end."""
        chunk = os.read(self.fileno(), 65536)
        if not chunk:
            return False
        self.silent = 0.0
        *lines, self.text = (self.text + chunk).split(b"\n")
        for line in lines:
            self.take_line(line.decode("utf-8", "replace").rstrip("\r"), tally)
        return True

    def take_line(self, line, tally):
        match = LINE.fullmatch(line)
        if line == MENDED:
            tally.mended = True
        elif line.startswith(BEGIN):
            self.running.append(line.removeprefix(BEGIN))
        elif match and match.group(2) in self.left:
            verdict, test = match.group(1), match.group(2)
            if test in self.running:
                self.running.remove(test)
            if verdict != "again":
                self.left.remove(test)
            tally.count(test, verdict, float(match.group(3)), line)
        elif line and line != ALIVE:
            print(line, flush=True)
        if line and line != ALIVE and not line.startswith(BEGIN):
            self.last = line.strip()

    def check(self):
        """Ends a lab that makes no progress."""
        # A long gap counts as 2 s: this process itself may have got no processor.
        now = time.monotonic()
        self.silent += min(now - self.looked, 2)
        self.looked = now
        if self.silent > SILENT:
            self.last = f"no progress: no line in {SILENT} s"
            self.kill()

    def kill(self):
        self.silent = 0.0
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
            return
        self.process.kill()

    def end(self):
        """Waits for the lab's end; returns why it ended before its tests did."""
        status = self.process.wait()
        self.process.stdout.close()
        return f"status {status}: {self.last}"
