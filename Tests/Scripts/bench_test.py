# SPDX-License-Identifier: Apache-2.0
"""The parts of scripts/bench: it ends each benchmark with all its processes, and detects a noisy machine."""

import dataclasses
import io
import os
import subprocess
import sys
import time
import unittest
from contextlib import redirect_stderr

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "Tests", "Benchmarks"))
import noise  # noqa: E402 pylint: disable=wrong-import-position
import supervisor  # noqa: E402 pylint: disable=wrong-import-position
from result import BenchmarkError, Result, spread_of_median, table  # noqa: E402 pylint: disable=wrong-import-position

BUSY = "while :; do :; done"
QUIET = {"seconds": 1, "others_percent": 0.5, "steal_percent": 0}


def run(script, limit=30, usual=None):
    """What the supervisor prints about a shell script, and what it returns."""
    said = io.StringIO()
    with redirect_stderr(said):
        seen = supervisor.run(["sh", "-c", script], "it", usual, limit)
    return said.getvalue().splitlines(), seen


class SupervisorTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(setattr, supervisor, "PATIENCE", supervisor.PATIENCE)
        supervisor.PATIENCE = 2

    def failure(self, script, **options):
        with self.assertRaises(BenchmarkError) as caught:
            run(script, **options)
        return str(caught.exception)

    def test_steps_are_shown(self):
        said, seen = run("echo 'step: one' >&2; echo noise >&2; echo 'step: two' >&2", usual=7)
        self.assertEqual(said[:3], ["bench: it (usually 7 s) ...", "bench:     one", "bench:     two"])
        self.assertRegex(said[3], r"^bench:     \d+ s$")
        self.assertLess(seen["seconds"], 60)

    def test_preparation_with_nothing_to_do_prints_nothing(self):
        self.assertEqual(run("true")[0], [])

    def test_a_failure_has_the_last_line(self):
        self.assertEqual(self.failure("echo 'step: one' >&2; echo 'it broke' >&2; exit 3"), "status 3: it broke")

    def test_a_benchmark_that_waits_for_ever_is_ended_with_all_its_processes(self):
        path = f"/tmp/bench-test-{os.getpid()}"
        self.addCleanup(os.unlink, path)
        # The process in the background ignores SIGTERM and holds the pipe open.
        script = f"echo 'step: waiting' >&2; sh -c 'trap \"\" TERM; echo $$ >{path}; while :; do sleep 1; done' & wait"
        words = self.failure(script, limit=2)
        self.assertRegex(words, r"^no end within 2 s.*; it was at: waiting$")
        with open(path, encoding="ascii") as file:
            self.assertTrue(supervisor.is_zombie(int(file.read())), "gone, or a zombie until the orphans are reaped")

    def test_a_benchmark_that_leaves_processes_behind_fails(self):
        self.assertIn("left 1 processes behind", self.failure("sleep 1000 &"))

    def test_a_benchmark_has_more_time_beside_other_processes(self):
        others = [subprocess.Popen(["sh", "-c", BUSY]) for _ in range(4 * os.cpu_count())]
        try:
            start = time.monotonic()
            self.assertIn("beside other processes", self.failure("sleep 1000", limit=3))
            self.assertGreater(time.monotonic() - start, 4.5)
        finally:
            for other in others:
                other.kill()
                other.wait()

    def test_only_other_processes_count_as_noise(self):
        # Its own work does not count. Other processes may use more or less at any time, so their share is compared with that of all at the same time.
        used, before = supervisor.children_time(), noise.moment(0)
        seen = run("timeout 3 sh -c 'while :; do :; done'; true")[1]
        after = noise.moment(supervisor.children_time() - used)
        everything, others = noise.between(before, dataclasses.replace(after, own=0)), noise.between(before, after)
        own = everything["others_percent"] - others["others_percent"]
        self.assertGreater(own, 0)
        self.assertLess(seen["others_percent"], everything["others_percent"] - own / 2)
        other = subprocess.Popen(["sh", "-c", BUSY])
        try:
            both = run("sleep 3")[1]
        finally:
            other.kill()
            other.wait()
        # One whole processor, or half of it on a machine that is busy already.
        self.assertGreater(both["others_percent"], 50 / os.cpu_count())
        self.assertTrue(noise.complaints(both))


class ResultTest(unittest.TestCase):
    def result(self, value=1.0, limit=1.05, **more):
        return Result("name", {"a": 1, "b": 2}, value, "x", limit, {}, **{"noise": QUIET, **more})

    def test_verdicts(self):
        busy = {**QUIET, "others_percent": 40.0}
        for result, verdict in (
            (self.result(), "held"),
            (self.result(1.1), "broken"),
            (self.result(0.5, at_least=True), "broken"),
            (self.result(noise=busy), "noisy"),
            (self.result(1.1, noise=busy), "noisy"),
            (self.result(noise={**QUIET, "steal_percent": 9.0}), "noisy"),
            (self.result(noise=busy, timed=False), "held"),
            (self.result(1.1, noise=busy, timed=False), "broken"),
            (self.result(1.0, spread=(0.9, 1.04)), "held"),
            (self.result(1.0, spread=(0.9, 1.06)), "noisy"),
            (self.result(1.1, spread=(1.0, 1.2)), "noisy"),
        ):
            self.assertEqual(result.verdict, verdict, result)
            self.assertEqual(result.document()["verdict"], verdict)
            self.assertEqual("why_noisy" in result.document(), verdict == "noisy")

    def test_the_table_marks_a_noisy_figure(self):
        rows = table([self.result(noise={**QUIET, "others_percent": 40.0}), self.result()]).splitlines()
        self.assertRegex(rows[1], r"name +1.000 x +1.05 x +yes\? +40.0% +0.0%")
        self.assertIn("noisy: other processes had 40 % of the processors", "\n".join(rows))
        self.assertRegex(rows[-3], r"name +1.000 x +1.05 x +yes +0.5% +0.0%")

    def test_the_spread_of_a_median_narrows_with_more_runs(self):
        few, many = spread_of_median(range(10)), spread_of_median(list(range(10)) * 100)
        self.assertLess(few[0], many[0])
        self.assertLess(many[1], few[1])
        self.assertIsNone(spread_of_median([1, 2, 3]))


if __name__ == "__main__":
    unittest.main()
