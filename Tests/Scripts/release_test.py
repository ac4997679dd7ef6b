# SPDX-License-Identifier: Apache-2.0
"""scripts/release in a throw-away copy of the repository, whose tests and build are stubs: both take minutes."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERSION_FILE = "Sources/VMMBase/SymVMMVersion.swift"
PARTS = [".gitignore", "LICENSE", "LICENSES", "README.md", "SECURITY.md", "docs", "guest", "packaging", "scripts", VERSION_FILE]
DKMS_FILE = "guest/symbiotic/dkms.conf"
# A program that knows its version and describes itself as symvmm does.
PROGRAM = r"""
#include <stdio.h>
#include <string.h>
int main(int count, char **words) {
    if (count == 2 && !strcmp(words[1], "--experimental-dump-help"))
        return puts("{\"serializationVersion\": 0, \"command\": {\"commandName\": \"symvmm\", \"abstract\": \"A.\","
                    "\"subcommands\": [{\"commandName\": \"run\", \"abstract\": \"B.\"}]}}") < 0;
    return puts("9.8.7") < 0;
}
"""
CHANGES = "# Changes\n\n## 9.8.7\n\n### For users\n- `a` and $b.\n\n## 9.8.6\n\n- old\n"


class Release(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.clone = os.path.join(folder.name, "clone")
        # What git knows of or would add: the working tree, committed or not.
        names = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS], check=True, capture_output=True,
            text=True).stdout
        for name in names.split("\0"):
            if os.path.lexists(os.path.join(ROOT, name)) and name:
                os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
                shutil.copy2(os.path.join(ROOT, name), self.path(name), follow_symlinks=False)
        self.write(VERSION_FILE, re.sub('current = ".*"', 'current = "9.8.7"', self.read(VERSION_FILE)))
        self.write("docs/openapi.yaml", re.sub("(?m)^  version: .*", "  version: 9.8.7", self.read("docs/openapi.yaml")))
        self.write("CHANGELOG.md", CHANGES)
        self.write("scripts/test", "#!/bin/sh\ntouch build/tested\n")
        self.write(DKMS_FILE, re.sub('PACKAGE_VERSION=".*"', 'PACKAGE_VERSION="9.8.7"', self.read(DKMS_FILE)))
        self.write("program.c", PROGRAM)
        self.write("scripts/build", "#!/bin/sh\nexec cc $LINK -o build/symvmm program.c\n")
        self.git("init", "--quiet")
        self.git("config", "user.name", "Releaser")
        self.git("config", "user.email", "releaser@example.org")
        os.mkdir(self.path("build"))
        self.commit()

    def path(self, name):
        return os.path.join(self.clone, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def git(self, *words):
        return subprocess.run(["git", "-C", self.clone, *words], check=True, capture_output=True, text=True).stdout

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A release")

    def release(self, *words, link="-static"):
        environment = {name: value for name, value in os.environ.items() if name != "SYMVMM_BUILD_FOLDER"}
        return subprocess.run(
            [self.path("scripts/release"), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
            env={**environment, "LINK": link})

    def assert_nothing_made(self):
        self.assertFalse(os.path.exists(self.path("build/release")))
        self.assertEqual(self.git("tag"), "")

    def test_a_release_is_packed_and_tagged(self):
        result = self.release("9.8.7")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(os.path.exists(self.path("build/tested")))
        files = ["symbiotic-dkms_9.8.7_all.deb", "symvmm-9.8.7-linux-x86_64.tar.gz", "symvmm_9.8.7_amd64.deb"]
        self.assertEqual(sorted(os.listdir(self.path("build/release"))), ["SHA256SUMS", *files])
        digests = []
        for name in files:
            with open(self.path(f"build/release/{name}"), "rb") as file:
                digests.append(f"{hashlib.sha256(file.read()).hexdigest()}  {name}\n")
        self.assertEqual(self.read("build/release/SHA256SUMS"), "".join(digests))
        archive = self.path("build/release/symvmm-9.8.7-linux-x86_64.tar.gz")
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            self.assertEqual({tar.getmember(name).uid for name in names}, {0})
            self.assertEqual(tar.getmember("symvmm-9.8.7/symvmm").mode & 0o777, 0o755)
        self.assertEqual({name.split("/")[0] for name in names}, {"symvmm-9.8.7"})
        for name in (
                "symvmm", "LICENSE", "LICENSES/GPL-2.0-only.txt", "README.md", "CHANGELOG.md", "docs/ABI.md", "docs/systemd/symvmm@.service",
                "man/symvmm-run.1", "completions/symvmm.bash", "guest/symbiotic/main.c", "guest/symbiotic/Makefile", "guest/include/symbiotic_abi.h"):
            self.assertIn("symvmm-9.8.7/" + name, names)
        self.assertEqual(self.git("cat-file", "-t", "v9.8.7"), "tag\n")
        message = self.git("tag", "--list", "--format=%(contents)", "v9.8.7").strip()
        self.assertEqual(message, "symvmm 9.8.7\n\n### For users\n- `a` and $b.")
        self.assertEqual(self.git("rev-parse", "v9.8.7^{commit}"), self.git("rev-parse", "HEAD"))
        self.assertEqual(self.git("status", "--porcelain"), "")
        again = self.release("9.8.7")
        self.assertEqual(again.returncode, 1)
        self.assertIn("there is a tag v9.8.7 already", again.stderr)

    def test_the_same_commit_and_program_give_the_same_bytes(self):
        digests = set()
        for moment in (1, 2000000000):
            # When files were checked out does not matter.
            for name in ("README.md", "docs/ABI.md", "guest/symbiotic/main.c"):
                os.utime(self.path(name), (moment, moment))
            self.assertEqual(self.release("9.8.7", "--no-tests").returncode, 0)
            digests.add(self.read("build/release/SHA256SUMS"))
            self.git("tag", "--delete", "v9.8.7")
        self.assertEqual(len(digests), 1)
        self.assertFalse(os.path.exists(self.path("build/tested")))

    def test_a_dry_run_names_the_steps_and_makes_nothing(self):
        result = self.release("9.8.7", "--dry-run")
        self.assertEqual(result.returncode, 0, result.stderr)
        steps = re.findall(r"would run: (.*)", result.stdout)
        self.assertEqual(steps, ["scripts/test", "scripts/build", f"scripts/package --built --output {self.path('build/release')}", "tag"])
        self.assertFalse(os.path.exists(self.path("build/tested")))
        self.assert_nothing_made()

    def test_all_that_is_missing_is_named(self):
        self.write("CHANGELOG.md", "# Changes\n\n## 9.8.8\n\n## 9.8.6\n\n- old\n")
        self.write("new", "")
        result = self.release("9.8.8", "--dry-run")
        self.assertEqual(result.returncode, 1)
        for words in ("changes that are not committed", "SymVMMVersion.swift has version 9.8.7, not 9.8.8",
                      "openapi.yaml has version 9.8.7, not 9.8.8", "dkms.conf has version 9.8.7, not 9.8.8", "no section '## 9.8.8' with text"):
            self.assertIn(words, result.stderr)
        self.assert_nothing_made()

    def test_a_program_that_is_not_static_or_of_another_version_is_refused(self):
        result = self.release("9.8.7", "--no-tests", link="")
        self.assertEqual(result.returncode, 1)
        self.assertIn("is not static", result.stderr)
        self.write("program.c", PROGRAM.replace("9.8.7", "9.8.6"))
        self.commit()
        result = self.release("9.8.7", "--no-tests")
        self.assertEqual(result.returncode, 1)
        self.assertIn("has version 9.8.6, not 9.8.7", result.stderr)
        self.assert_nothing_made()

    def test_failing_tests_end_it(self):
        self.write("scripts/test", "#!/bin/sh\nexit 1\n")
        self.commit()
        self.assertEqual(self.release("9.8.7").returncode, 1)
        self.assert_nothing_made()

    def test_what_is_not_a_version_is_refused(self):
        for words in ([], ["1.2"], ["v9.8.7"], ["9.8.7", "9.8.8"], ["--push"]):
            self.assertEqual(self.release(*words).returncode, 2, words)


if __name__ == "__main__":
    unittest.main()
