# SPDX-License-Identifier: Apache-2.0
"""Runs where Linux guests run: boots a guest under several VMMs in turn, and prints the times until its init as JSON.

boot_times.py SYMVMM KERNEL INITRD COMMAND-LINE ROUNDS [FOLDER FOR THE CONSOLES' LOGS]
"""

import json
import os
import selectors
import subprocess
import sys
import time

import machine

INIT = b"symvmm-guest: init reached"
PATIENCE = 120


def commands(symvmm, kernel, initrd, command_line):
    boot = ["-kernel", kernel, "-initrd", initrd, "-append", command_line]
    qemu = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", "1", "-nodefaults", "-no-user-config"]
    qemu += ["-no-reboot", "-display", "none", "-serial", "stdio", *boot]
    ours = [symvmm, "run", "--memory", "256M", "--cpus", "1", "--kernel", kernel, "--initrd", initrd, "--append", command_line]
    return {"symvmm": ours, "qemu_pc": [*qemu, "-M", "pc"], "qemu_microvm": [*qemu, "-M", "microvm"]}


def time_to_init(words, log):
    """Seconds from the start of the process until its output has the line of the guest's init."""
    started = time.monotonic()
    console = b""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while INIT not in console:
                    if not selector.select(started + PATIENCE - time.monotonic()):
                        sys.exit(f"no init after {PATIENCE} s: {words[0]}: {console[-300:]!r}")
                    part = os.read(process.stdout.fileno(), 65536)
                    if not part:
                        sys.exit(f"{words[0]} ended before init: {console[-300:]!r}")
                    console += part
                return time.monotonic() - started
        finally:
            process.kill()
            if log:
                with open(log, "wb") as file:
                    file.write(console)


def main():
    symvmm, kernel, initrd, command_line, rounds = sys.argv[1:6]
    logs = sys.argv[6] if len(sys.argv) > 6 else None
    programs = commands(symvmm, kernel, initrd, command_line)
    for name, words in programs.items():
        machine.step(f"{name} boots, not counted")
        # The first boot does not count: it reads the files into the page cache.
        time_to_init(words, logs and os.path.join(logs, name + ".log"))
    times = {name: [] for name in programs}
    for turn in range(int(rounds)):
        machine.step(f"round {turn + 1} of {rounds}")
        order = list(programs) if turn % 2 == 0 else list(reversed(programs))
        for name in order:
            times[name].append(time_to_init(programs[name], None))
    print(json.dumps(times))


main()
