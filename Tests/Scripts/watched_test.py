# SPDX-License-Identifier: Apache-2.0
"""scripts/lib/watched.py ends a program that makes no progress or takes too long, with a line that says which."""

import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
import watched  # noqa: E402 pylint: disable=wrong-import-position


class WatchedTest(unittest.TestCase):
    pid = 0

    def run_shell(self, script, limit=60, still=2.0):
        """The output lines of a shell script, and its exit status."""
        with watched.Watched("it", ["sh", "-c", script], limit, self.work, still=still) as program:
            self.pid = program.process.pid
            lines = [line for line, _ in zip(program.lines(), range(3))]
            return lines, program.end()

    def work(self):
        used = watched.exact_processor_time(self.pid)
        return None if used is None else int(20 * used)

    def stopped(self, script, **limits):
        """The message about a script that has to be ended; its process must be gone."""
        with self.assertRaises(watched.Stopped) as caught:
            self.run_shell(script, **limits)
        self.assertFalse(os.path.exists(f"/proc/{self.pid}"))
        return str(caught.exception)

    def test_lines_and_status_come_through(self):
        self.assertEqual(self.run_shell("echo one; echo; printf two; exit 3"), (["one", "", "two"], 3))

    def test_a_program_that_waits_for_ever_makes_no_progress(self):
        words = "it made no progress: nothing new in its output and its processor time for 2 s; last output: 'hello'"
        self.assertEqual(self.stopped("echo hello; exec sleep 1000"), words)
        self.assertIn("no output at all", self.stopped("exec sleep 1000"))
        self.assertIn("half a line", self.stopped("printf 'half a line'; exec sleep 1000"))

    def test_a_program_that_works_has_a_limit(self):
        self.assertIn("took longer than 12 s", self.stopped("while :; do :; done", limit=12, still=6.0))
        self.assertIn("took longer than 2 s", self.stopped("while :; do echo word; done", limit=2))

    def test_a_program_is_asked_to_end_before_it_is_killed(self):
        with tempfile.TemporaryDirectory() as folder:
            mark = os.path.join(folder, "mark")
            script = f"trap 'echo tidy >{mark}; exit' TERM; echo here; while :; do sleep 0.1; done"
            with watched.Watched("it", ["sh", "-c", script], 60, ask=lambda: program.process.terminate()) as program:
                self.assertEqual(next(program.lines()), "here")
            self.assertEqual(program.process.returncode, 0)
            self.assertTrue(os.path.exists(mark))

    def test_a_program_that_closes_its_output_has_to_end(self):
        self.assertIn("closed its output", self.stopped("exec sleep 1000 >&-"))


if __name__ == "__main__":
    unittest.main()
