# SPDX-License-Identifier: Apache-2.0
"""scripts/lib/check-docs in a small tree of its own: it accepts correct documents and finds each kind of fault."""

import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = {
    "README.md": "[text](docs/ARCHITECTURE.md#part), [web](https://example.org), `docs/*.md`, `Sources/Engine/Loop.swift`, `main.c`\n",
    "docs/ARCHITECTURE.md": "# A\n\n## Follow one through the code\n\n1. `Engine/Loop.swift`: `run()` runs,\n   and `stop()` ends it.\n"
                            "2. `module/main.c`: `start()` begins.\n\n## Next\n",
    "Sources/Engine/Loop.swift": "func run() {\n    work()\n}\n\nfunc stop() {}\n",
    "Sources/SymVMM/SymVMM.docc/Article.md": "Text.\n\n<!-- lines of Sources/Engine/Loop.swift -->\n```swift\nfunc run() {\n    work()\n```\n",
    "guest/module/main.c": "int start(void)\n{\n\treturn 0;\n}\n",
}


class CheckDocs(unittest.TestCase):
    def check(self, changes=None):
        """Checks the tree with some files changed; the status and the faults."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**FILES, **(changes or {})}.items():
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)
            os.makedirs(os.path.join(folder, "scripts", "lib"))
            program = shutil.copy2(os.path.join(ROOT, "scripts", "lib", "check-docs"), os.path.join(folder, "scripts", "lib"))
            result = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return result.returncode, result.stderr

    def test_correct_documents_have_no_fault(self):
        self.assertEqual(self.check(), (0, ""))

    def test_each_fault_is_found(self):
        article, walks, code = "Sources/SymVMM/SymVMM.docc/Article.md", "docs/ARCHITECTURE.md", "Sources/Engine/Loop.swift"
        for name, text, words in (
            (article, FILES[article].replace("work()", "play()"), "Loop.swift does not have these lines"),
            (article, FILES[article].replace("Loop.swift -->", "Gone.swift -->"), "there is no file Sources/Engine/Gone.swift"),
            (article, "```swift\nlet a = 1\n```\n", "put `<!-- lines of FILE -->` above this block"),
            ("README.md", "`docs/GONE.md`\n", "there is no docs/GONE.md"),
            ("README.md", "`Gone.swift`\n", "there is no file Gone.swift"),
            ("README.md", "[text](GONE.md)\n", "the link leads to GONE.md"),
            (walks, FILES[walks].replace("Loop.swift", "Gone.swift"), "0 files are Sources/Engine/Gone.swift"),
            (walks, FILES[walks].replace("`start()`", "it"), "name a function of module/main.c"),
            (walks, "# A\n", "has no section"),
            (code, FILES[code].replace("func stop", "func halt"), "Engine/Loop.swift has no stop()"),
        ):
            status, faults = self.check({name: text})
            self.assertEqual((status, words in faults), (1, True), f"{words}: {faults}")


if __name__ == "__main__":
    unittest.main()
