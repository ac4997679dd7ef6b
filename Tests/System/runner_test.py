# SPDX-License-Identifier: Apache-2.0
"""The runner of the system tests, with tests that fail on purpose."""

import json
import os
import shutil

import vmm

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = ["run", "jobs.py", "lab.py", "progress.py", "tally.py", "vmm.py"]

SAMPLES = '''
import os, time
import vmm

class Sample(vmm.SystemTest):
    group = "host"
    limit = 2

    def test_good(self):
        print("said")

    @vmm.slow
    def test_bad(self):
        self.assertEqual(1, 2)

    @vmm.slow
    def test_endless(self):
        while True:
            time.sleep(1)

    @vmm.slow
    def test_dead(self):
        os._exit(1)

    def test_skipped(self):
        self.skipTest("why not")

class InALab(vmm.SystemTest):
    def test_far_away(self):
        print("in the lab")

    def test_farther_away(self):
        pass

class Sharing(vmm.SystemTest):
    group = "host"
    shared = True

    def boot(self):
        machine = self.tiny("wait", "--quiet", "--name", "shared")
        machine.wait_for("[.]")
        return machine

    def guest(self):
        return self.shared_guest(self.boot)

    def end_shared_guest(self):
        if self.home.guest:
            self.home.guest.signal(vmm.signal.SIGTERM)
            self.assert_ended(self.home.guest, 130)
            self.home.guest = None

    def test_first(self):
        print("pid", self.guest().pid)

    def test_again(self):
        print("pid", self.guest().pid)

    @vmm.slow
    def test_broken(self):
        print("pid", self.guest().pid)
        raise AssertionError("broken")

    def test_afterwards(self):
        print("pid", self.guest().pid)
'''

# A test with `alone = True` fails if it sees the mark of another test.
ALONE = '''
import os, time
import vmm

class Beside(vmm.SystemTest):
    group = "host"

    def run_for_a_moment(self):
        open(f"{os.environ['MARKS']}/{os.getpid()}", "w").close()
        time.sleep(0.5)
        os.unlink(f"{os.environ['MARKS']}/{os.getpid()}")

    def test_one(self):
        self.run_for_a_moment()

    def test_two(self):
        self.run_for_a_moment()

class Alone(Beside):
    alone = True

    def run_for_a_moment(self):
        self.assertEqual(os.listdir(os.environ["MARKS"]), [])
        super().run_for_a_moment()
'''

# A lab that fails during a test the first time, and runs the command on this machine the second time.
LAB = """#!/bin/bash
if mkdir "$SYMVMM_BUILD_FOLDER/broken"; then
    printf '%s\\n' 'lab: mended' 'begin sample: far away' 'panic'
    exit 125
fi
while [[ $1 != */run ]]; do shift; done
exec "$@"
"""


class Runner(vmm.SystemTest):
    group = "host"

    def setUp(self):
        super().setUp()
        self.tests = self.path("Tests/System")
        os.makedirs(self.tests)
        for name in PROGRAM:
            shutil.copy(os.path.join(HERE, name), self.tests)
        shutil.copytree(vmm.GUESTS, os.path.join(self.tests, "guests"))
        self.write("Tests/System/sample_test.py", SAMPLES)
        os.mkdir(self.path("build"))
        os.symlink(vmm.SYMVMM, self.path("build/symvmm"))
        self.words = {**os.environ, "SYMVMM_BUILD_FOLDER": self.path("build")}
        self.words.pop("SYMVMM_TEST_LOGS", None)

    def run_samples(self, *words):
        """The runner's output lines, and its exit status."""
        result = vmm.command(os.path.join(self.tests, "run"), *words, env=self.words)
        self.assertEqual(result.stderr, "")
        return result.stdout.splitlines(), result.returncode

    def test_each_test_has_its_result(self):
        lines, status = self.run_samples("--group", "host", "sample")
        text = "\n".join(lines)
        self.assertEqual(status, 1)
        self.assertEqual(lines[-2:], ["0 run again", "4 passed, 4 failed"])
        for pattern in (
            r"ok     sample: good \(\d+\.\d s\)\n       \| said\n",
            r"FAILED sample: bad \(\d+\.\d s\): 1 != 2",
            r"FAILED sample: endless \(\d+\.\d s\): not done within 2 s",
            r"FAILED sample: dead \(\d+\.\d s\): its own process died",
            r"skip   sample: skipped \(\d+\.\d s\): why not",
            r"FAILED sample: broken \(\d+\.\d s\): broken \(log: .*sample-broken\.log\)",
        ):
            self.assertRegex(text, pattern)
        with open(self.path("build/logs/test-times.json"), encoding="utf-8") as file:
            times = json.load(file)
        self.assertEqual((times["passed"], times["failed"], times["again"], len(times["tests"])), (4, 4, 0, 9))
        self.assertTrue(os.path.exists(self.path("build/logs/system/sample-broken.log")))

    def test_tests_share_a_guest_until_one_fails(self):
        lines, _ = self.run_samples("first", "again", "broken", "afterwards")
        pids = [line.split()[-1] for line in lines if "pid " in line]
        self.assertEqual(len(pids), 4, lines)
        self.assertEqual(len(set(pids[:3])), 1)
        self.assertNotEqual(pids[3], pids[0])

    def test_tests_beyond_the_budget_fail(self):
        lines, status = self.run_samples("--budget", "0", "good", "bad")
        self.assertEqual(status, 1)
        self.assertEqual(lines[-1], "0 passed, 2 failed")
        self.assertIn("FAILED sample: good: not run: the time for the whole run is over (--budget)", lines)

    def test_quick_leaves_out_what_is_slow(self):
        lines, status = self.run_samples("--quick", "sample")
        self.assertEqual((lines[-1], status), ("4 passed, 0 failed", 0))

    def test_no_other_test_runs_beside_one_that_is_alone(self):
        self.write("Tests/System/alone_test.py", ALONE)
        os.mkdir(self.path("marks"))
        self.words["MARKS"] = self.path("marks")
        lines, status = self.run_samples("--jobs", "4", "--group", "host", "alone: ")
        self.assertEqual((lines[-1], status), ("4 passed, 0 failed", 0), "\n".join(lines))

    def test_another_lab_follows_one_that_failed(self):
        if vmm.has_hardware_virtualization():
            self.skipTest("this host has hardware virtualization, and needs no lab")
        os.mkdir(self.path("scripts"))
        with open(self.write("scripts/lab", LAB), encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o755)
        lines, status = self.run_samples("away")
        self.assertEqual((status, lines[-2:]), (0, ["1 run again", "2 passed, 0 failed"]), lines)
        self.assertIn("panic", lines)
        self.assertIn("run: the lab ended before its tests did (status 125: panic); 2 are left for a new one", lines)
        self.assertIn("again  sample: far away: it ran when the lab ended", lines)
        self.assertIn("       | in the lab", lines)

    def test_too_many_tests_that_ran_again_are_a_failure(self):
        script = "import tally; t = tally.Tally(); t.mended = True\n" \
                 "for n in range(100): t.result(f'test {n}', 'ok', None, 1)\n" \
                 "for n in range({}): t.result(f'test {n}', 'again', 'triple fault', 1)\n" \
                 "raise SystemExit(0 if t.end() else 1)"
        for again, status, last in ((1, 0, "100 passed, 0 failed"), (2, 1, "100 passed, 1 failed")):
            result = vmm.command("python3", "-c", script.replace("{}", str(again)), cwd=self.tests, env=self.words)
            lines = result.stdout.splitlines()
            self.assertEqual((result.returncode, lines[-2:]), (status, [f"{again} run again", last]), result.stderr)
        self.assertIn("FAILED reruns: 2 of 100 tests were run again; at most 1 of 100 may be on the mended QEMU", lines)
