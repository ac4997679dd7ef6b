# SPDX-License-Identifier: Apache-2.0
"""Runs where Linux guests run: boots a guest to its shell, and prints symvmm's private memory and the guest's part of it as JSON.

overhead.py SYMVMM KERNEL INITRD MEMORY-MIB
"""

import json
import os
import re
import selectors
import subprocess
import sys
import time

import machine
import private_memory

# The shell asks the terminal for the cursor's position after the prompt.
PROMPT = re.compile(rb"[#$] (\x1b\[6n)?$")
INIT = b"symvmm-guest: init reached"
PATIENCE = 120


def wait_for_shell(process):
    console, end = b"", time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while INIT not in console or not PROMPT.search(console):
            if not selector.select(end - time.monotonic()):
                sys.exit(f"no shell after {PATIENCE} s: {console[-300:]!r}")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                sys.exit(f"symvmm ended: {console[-300:]!r}")
            console += part


def main():
    symvmm, kernel, initrd, memory = sys.argv[1:5]
    words = [symvmm, "run", "--memory", memory + "M", "--cpus", "1", "--kernel", kernel, "--initrd", initrd]
    words += ["--append", "console=ttyS0 panic=1 quiet"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            machine.step("the guest boots")
            wait_for_shell(process)
            time.sleep(2)
            print(json.dumps(private_memory.measure(process.pid, int(memory))))
        finally:
            process.kill()


main()
