# SPDX-License-Identifier: Apache-2.0
"""scripts/lib/slowest: the times of Swift tests and system tests, the slowest first."""

import json
import os
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOG = '''◇ Test quick() started.
✔ Suite Some passed after 9.000 seconds.
✔ Test quick() passed after 0.250 seconds.
✘ Test "a name" with 2 test cases failed after 3.500 seconds with 1 issue.
✔ Test run with 2 tests in 1 suite passed after 9.500 seconds.
'''


class Slowest(unittest.TestCase):
    def test_each_test_has_its_own_time(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "test-unit.log"), "w", encoding="utf-8") as file:
                file.write(LOG)
            with open(os.path.join(folder, "test-times.json"), "w", encoding="utf-8") as file:
                json.dump({"tests": [{"name": "boot: linux", "seconds": 12.0}]}, file)
            words = [os.path.join(ROOT, "scripts", "lib", "slowest"), folder, "0"]
            result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        lines = ["The slowest of 3 tests:", "    12.0 s  boot: linux", "     3.5 s  a name", "     0.2 s  quick()"]
        self.assertEqual(result.stdout.splitlines(), lines)


if __name__ == "__main__":
    unittest.main()
