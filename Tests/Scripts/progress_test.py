# SPDX-License-Identifier: Apache-2.0
"""scripts/lib/common.sh: slow steps print what they do and how long it took; scripts/lib/limited: ends commands that make no progress."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMON = os.path.join(ROOT, "scripts", "lib", "common.sh")
LIMITED = os.path.join(ROOT, "scripts", "lib", "limited")
# Seconds for something that takes a moment, on a very busy machine.
PATIENCE = 60


def shell(script):
    return ["bash", "-c", f"set -euo pipefail; source {COMMON}; {script}", "script"]


def in_pipe(words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)


def on_terminal(words, interrupt_at=None):
    """What a command writes to a terminal, and its exit status. Types Ctrl-C once it has written what the expression `interrupt_at` matches."""
    pid, terminal = pty.fork()
    if pid == 0:
        # A shell that started the tests in the background has made them ignore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvp(words[0], words)
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
        if interrupt_at and re.search(interrupt_at, written):
            os.write(terminal, b"\x03")
            interrupt_at = None
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return written.decode(), os.waitstatus_to_exitcode(status)


def processes_of(mark):
    """The processes whose command line has this word."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(name))
        except OSError:
            pass
    return found


def wait_until(condition):
    """Waits for what takes a moment on a quiet machine; whether it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class SlowStepTest(unittest.TestCase):
    def test_in_a_pipe_a_step_has_a_line_before_and_a_line_after(self):
        result = in_pipe(shell("slow '2 s' 'making it' sleep 0.1"))
        self.assertRegex(result.stderr, r"^script: making it \(usually 2 s\) \.\.\.\nscript: making it: done after \d+ s\n$")
        self.assertEqual(result.returncode, 0)

    def test_a_failure_is_not_called_done(self):
        result = in_pipe(shell("slow '2 s' 'making it' false || echo status $?"))
        self.assertEqual(result.stdout, "status 1\n")
        self.assertRegex(result.stderr, r"making it: failed after \d+ s\n")

    def test_an_error_inside_a_step_ends_the_script(self):
        result = in_pipe(shell("step() { false; echo went on; }; slow '2 s' 'making it' step; echo went on"))
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.returncode, 1)

    def test_on_a_terminal_one_line_counts_the_seconds(self):
        written, status = on_terminal(shell("slow '2 s' 'making it' sleep 2.5"))
        # A line each second, but not each number: a line is a little late, and a busy machine skips some.
        self.assertRegex(written, r"\r\x1b\[Kscript: making it \(usually 2 s\): [1-9]\d* s")
        self.assertEqual(written.count("\n"), 1, written)
        done = re.search(r"making it: done after (\d+) s\r\n$", written)
        self.assertIsNotNone(done, written)
        # A busy machine makes it longer, never shorter.
        self.assertGreaterEqual(int(done[1]), 2)
        self.assertEqual(status, 0)

    def test_ctrl_c_leaves_a_clean_line_for_the_prompt(self):
        # A shell, as the user's, which prints its prompt when the script has ended.
        script = shell("slow '9 s' 'making it' sleep 60")
        written, status = on_terminal(["bash", "-c", 'trap : INT; "$@"; printf "prompt"', "sh", *script], interrupt_at=rb": [1-9]\d* s")
        self.assertEqual(status, 0)
        self.assertTrue(written.endswith("\r\x1b[Kprompt"), written)

    def test_a_step_that_waits_for_its_lock_prints_that(self):
        folder = os.path.join(os.environ.get("SYMVMM_BUILD_FOLDER", os.path.join(ROOT, "build")), "locks")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "progress-test"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with subprocess.Popen(shell("with_lock progress-test true"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as script:
                self.assertIn("waiting for another script that holds build/locks/progress-test", script.stderr.readline())
                self.assertIsNone(script.poll())
                fcntl.flock(lock, fcntl.LOCK_UN)
                script.communicate(timeout=PATIENCE)
        self.assertEqual(script.returncode, 0)


class LimitedTest(unittest.TestCase):
    def limited(self, still, limit, script):
        return in_pipe([LIMITED, str(still), str(limit), "bash", "-c", script])

    def test_output_and_status_come_through(self):
        result = self.limited(5, 30, "echo one; echo two >&2; exit 3")
        self.assertEqual((result.stdout, result.returncode), ("one\ntwo\n", 3))

    def test_a_command_without_progress_is_ended_with_all_its_processes(self):
        result = self.limited(3, 60, "echo one; sleep 1001.25 & sleep 1002.25")
        self.assertEqual(result.returncode, 124)
        self.assertRegex(result.stdout, "limited: bash made no progress: nothing new in its output and its processor time for 3 s; last output: 'one'\n$")
        self.assertTrue(wait_until(lambda: processes_of("1001.25") + processes_of("1002.25") == []))

    def test_work_of_any_of_its_processes_is_progress(self):
        result = self.limited(3, 60, "timeout 8 sh -c 'while :; do :; done' | cat; echo done")
        self.assertEqual((result.stdout, result.returncode), ("done\n", 0))

    def test_a_command_with_endless_output_has_a_limit(self):
        result = self.limited(5, 2, "while :; do echo word; sleep 0.1; done")
        self.assertEqual(result.returncode, 124)
        self.assertRegex(result.stdout, "limited: bash took longer than 2 s")

    def test_ended_by_a_signal_it_leaves_no_process(self):
        with subprocess.Popen([LIMITED, "50", "60", "sleep", "1003.25"], stdout=subprocess.DEVNULL) as process:
            self.assertTrue(wait_until(lambda: len(processes_of("1003.25")) >= 2))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE), 143)
        self.assertTrue(wait_until(lambda: processes_of("1003.25") == []))


if __name__ == "__main__":
    unittest.main()
