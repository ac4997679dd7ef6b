# SPDX-License-Identifier: Apache-2.0
"""Jobs: tests that run one after the other in their own process group and report each result to the runner."""

import contextlib
import io
import json
import os
import signal
import time
import traceback
import unittest

import vmm

# The beginning of a skipped test's reason. Such a test counts neither as passed nor as failed.
SKIPPED = "not here: "
# The reason why a test is not run when the budget is used up.
OVER = "the time for the whole run is over (--budget)"
# Seconds beyond its own limit after which a test's process is killed.
GRACE = 60


def name(test):
    module, _, function = test.id().split(".")
    return module.removesuffix("_test") + ": " + function.removeprefix("test_").replace("_", " ")


class OutOfTime(BaseException):
    pass


def out_of_time(_number, _frame):
    raise OutOfTime


class Job:
    """Tests that share a process: one test, or the tests of a class with `shared = True`."""

    def __init__(self, tests):
        self.tests = tests

    @property
    def alone(self):
        """Whether no other job may run beside it."""
        return any(test.alone for test in self.tests)


def jobs_of(tests):
    """Groups tests into jobs, in the same order."""
    jobs = []
    for test in tests:
        if test.shared and jobs and type(jobs[-1].tests[-1]) is type(test):
            jobs[-1].tests.append(test)
        else:
            jobs.append(Job([test]))
    return jobs


class Worker:
    """The process of a job, for the runner."""

    def __init__(self, job, seconds_left):
        """`seconds_left()` is the time left for the whole run."""
        self.job = job
        self.left = list(job.tests)
        self.text = b""
        self.killed = False
        self.begun = time.monotonic()
        self.deadline = self.begun + self.left[0].limit + GRACE
        self.reading, writing = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            try:
                with os.fdopen(writing, "w", encoding="utf-8") as stream:
                    run_job(job, seconds_left, stream)
            except BaseException:  # pylint: disable=broad-except
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writing)

    def fileno(self):
        return self.reading

    def take(self):
        """Returns new results: (test, problem, details, output, seconds); None when the process group has ended."""
        chunk = os.read(self.reading, 65536)
        if not chunk:
            return None
        *lines, self.text = (self.text + chunk).split(b"\n")
        results = []
        for line in lines:
            self.begun = time.monotonic()
            results.append((self.left.pop(0), *json.loads(line)))
            if self.left:
                self.deadline = self.begun + self.left[0].limit + GRACE
        return results

    def check(self):
        if time.monotonic() > self.deadline:
            self.kill()

    def kill(self):
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)

    def end(self):
        """Cleans up. Returns the result of the test during which the process ended, or None; and a job with the remaining tests, or None."""
        # The child makes the process group. Before that, there is only the child.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        os.close(self.reading)
        if not self.left:
            return None, None
        test = self.left.pop(0)
        problem = f"its process hung for {test.limit + GRACE} s and was killed" if self.killed else "its own process died"
        return (test, problem, "", "", time.monotonic() - self.begun), Job(self.left) if self.left else None


def run_job(job, seconds_left, stream):
    """Runs a job in its process, and writes a line of JSON for each test."""
    os.setsid()
    # nohup and shells ignore these signals for background commands, and the tests' programs would inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for test in job.tests:
        start = time.monotonic()
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            problem, details = run_test(test, min(test.limit, seconds_left()), test is job.tests[-1])
        stream.write(json.dumps([problem, details, said.getvalue(), time.monotonic() - start]) + "\n")
        stream.flush()
    type(job.tests[-1]).end_class()


def run_test(test, limit, last):
    """Runs a test. Returns one line about its failure, or None; and the traceback with the consoles of its machines."""
    if limit <= 0:
        return f"not run: {OVER}", ""
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, limit)
    problem, trace, consoles = None, "", ""
    try:
        respect_skip(test)
        test.setUp()
        getattr(test, test._testMethodName)()
        if last:
            test.end_shared_guest()
    except OutOfTime:
        whole = "" if limit == test.limit else f": {OVER}"
        problem, trace = f"not done within {limit:.0f} s{whole}", traceback.format_exc(limit=-4)
    except unittest.SkipTest as reason:
        problem = f"{SKIPPED}{reason}"
    except Exception as error:  # pylint: disable=broad-except
        problem, trace = one_line(error), traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if trace:
        consoles = "\n".join(map(picture, test.machines))
        problem += keep_consoles(test)
    try:
        if trace and test.home:
            test.drop_shared_guest()
        test.doCleanups()
    except Exception as error:  # pylint: disable=broad-except
        problem = problem or f"while cleaning up: {one_line(error)}"
    return problem, trace + consoles


def respect_skip(test):
    """Skips a test that unittest's decorators skip: they mark the class or the function."""
    for marked in (type(test), getattr(test, test._testMethodName)):
        if getattr(marked, "__unittest_skip__", False):
            raise unittest.SkipTest(marked.__unittest_skip_why__)


def one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".removeprefix("AssertionError: ").removeprefix("NoProgress: ").split())[:400]


def picture(machine):
    """The last lines of a machine's output."""
    output = "\n".join(line.rstrip("\r").encode("unicode_escape").decode() for line in machine.seen.split("\n")[-25:])
    errors = "\n".join(machine.errors.replace("\r", "").splitlines()[-12:])
    return f"--- symvmm run {' '.join(machine.arguments)}\n--- console:\n{output}\n--- errors:\n{errors}\n---"


def keep_consoles(test):
    """Writes the whole output of a test's machines to a log; returns its path as the end of a line."""
    if not test.machines:
        return ""
    path = os.path.join(vmm.LOGS, f"{name(test).replace(': ', '-').replace(' ', '-')}.log")
    try:
        os.makedirs(vmm.LOGS, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            for machine in test.machines:
                file.write(f"--- symvmm {' '.join(machine.arguments)}\n--- console:\n{machine.seen}\n--- errors:\n{machine.errors}\n")
    except OSError as error:
        return f" (no log: {error})"
    return f" (log: {path})"
