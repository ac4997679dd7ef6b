# SPDX-License-Identifier: Apache-2.0
"""Counts and prints the results of the tests, and their times."""

import json
import os
import re

import vmm
from jobs import SKIPPED

LINE = re.compile(r"(ok|skip|FAILED|again) +(.*?) \((\d+\.\d) s\)(?:: (.*))?")
SLOWEST = 20
# On the mended QEMU, at most one of so many tests may run again because of a fault of the emulator.
AGAIN = 100


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.again = 0
        self.mended = False
        self.times = []

    def verdict(self, problem):
        if problem is None:
            return "ok"
        return "skip" if problem.startswith(SKIPPED) else "FAILED"

    def count(self, test, verdict, seconds, line):
        """Counts a result and prints its line."""
        self.passed += verdict == "ok"
        self.failed += verdict == "FAILED"
        self.again += verdict == "again"
        if seconds is not None:
            self.times.append({"name": test, "verdict": verdict, "seconds": round(seconds, 1)})
        print(line, flush=True)

    def result(self, test, verdict, problem, seconds, details="", said=""):
        """The same for a test that ran on this machine."""
        reason = (problem or "").removeprefix(SKIPPED) if verdict == "skip" else problem
        self.count(test, verdict, seconds, f"{verdict:7}{test} ({seconds:.1f} s){f': {reason}' if reason else ''}")
        for line in said.splitlines() + (details.splitlines() if verdict != "ok" else []):
            print(f"       | {line}", flush=True)

    def unreached(self, test, reason):
        self.count(test, "FAILED", None, f"FAILED {test}: not run: {reason}")

    def end(self, inside=False):
        """Prints the last lines; returns whether tests ran and none failed."""
        if inside:
            return self.failed == 0
        done = len({time["name"] for time in self.times})
        if self.mended and self.again > max(1, done // AGAIN):
            self.count("reruns", "FAILED", None, f"FAILED reruns: {self.again} of {done} tests were run again; at most 1 of {AGAIN} may be on the mended QEMU")
        self.write_times()
        self.print_slowest()
        print(f"{self.again} run again")
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return self.failed == 0 and self.passed > 0

    def print_slowest(self):
        slowest = sorted(self.times, key=lambda time: -time["seconds"])[:SLOWEST]
        if len(self.times) > SLOWEST:
            print(f"       the {SLOWEST} slowest tests:")
            for time in slowest:
                print(f"       {time['seconds']:7.1f} s  {time['name']}")

    def write_times(self):
        path = os.path.join(vmm.BUILD, "logs", "test-times.json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump({"passed": self.passed, "failed": self.failed, "again": self.again, "tests": self.times}, file, indent=1)
            file.write("\n")
        os.replace(path + ".part", path)
