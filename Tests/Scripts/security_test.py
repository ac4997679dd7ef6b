# SPDX-License-Identifier: Apache-2.0
"""docs/SECURITY.md: each test that it names exists. (scripts/lib/check-docs checks the names of files.)"""

import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Security(unittest.TestCase):
    def test_each_named_test_exists(self):
        with open(os.path.join(ROOT, "docs", "SECURITY.md"), encoding="utf-8") as file:
            named = set(re.findall(r"\[(\w+: [\w ]+)\]", file.read()))
        self.assertGreater(len(named), 10)
        listed = subprocess.run(
            [os.path.join(ROOT, "Tests", "System", "run"), "--list"], check=True, capture_output=True, text=True).stdout.splitlines()
        self.assertEqual(sorted(named - {line[6:] for line in listed}), [])


if __name__ == "__main__":
    unittest.main()
