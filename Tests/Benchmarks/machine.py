# SPDX-License-Identifier: Apache-2.0
"""Where things are, and how programs are run on this machine or in the lab."""

import os
import re
import subprocess
import sys

from result import BenchmarkError

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("SYMVMM_BUILD_FOLDER", os.path.join(ROOT, "build"))
TOOLS = os.path.join(BUILD, "bench")
GUESTS = os.path.join(BUILD, "guest", "bare-metal")
SYMVMM = os.environ.get("SYMVMM_BENCH_BINARY", os.path.join(BUILD, "symvmm"))
FLAVOUR = "cloud-6.1"


def guest(name):
    return os.path.join(GUESTS, name + ".elf")


def run(*words, timeout=120, **options):
    """Runs a program to its end and returns its output; anything but status 0 is an error."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, **options
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"no end after {timeout} s: {' '.join(words)}") from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise BenchmarkError(f"status {done.returncode}: {' '.join(words)}: {' '.join(last)}")
    return done.stdout


def build(target, *words):
    """Runs a build step whose words are shown when it fails."""
    os.makedirs(TOOLS, exist_ok=True)
    log = os.path.join(TOOLS, f"build-{target}.log")
    with open(log, "wb") as file:
        status = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, check=False).returncode
    if status != 0:
        raise BenchmarkError(f"cannot build {target} (log: {log})")


def compile_c(name, *options, others=()):
    """Compiles a C file of this folder, and others with it, when one of them is newer than the program, and returns the program."""
    output = os.path.join(TOOLS, name)
    sources = [os.path.join(HERE, file) for file in (name + ".c", *others)]
    headers = [os.path.join(HERE, file) for file in os.listdir(HERE) if file.endswith(".h")]
    if not os.path.exists(output) or os.path.getmtime(output) < max(map(os.path.getmtime, sources + headers)):
        build(name, "cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", *options, "-o", output, *sources)
    return output


def compile_vmm(name):
    """The same for a VMM in C."""
    return compile_c(name, others=("tiny-machine.c",))


def build_guests():
    build("guests", "make", "-C", "guest/bare-metal", f"OUTPUT={GUESTS}")


def run_symvmm(name, command_line, *options, binary=None, **run_options):
    """Runs a tiny guest under symvmm to its end; what it wrote on its serial port."""
    return run(
        binary or SYMVMM, "run", "--quiet", "--memory", "16M", "--kernel", guest(name), "--append", command_line,
        *options, **run_options,
    )


def hexadecimal(text, word):
    """The numbers of all lines that begin with a word: a list for each line."""
    return [
        [int(number, 16) for number in line.split()[1:]] for line in text.splitlines() if line.startswith(word + " ")
    ]


def has_hardware_virtualization():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return re.search(r"^flags\b.*\b(svm|vmx)\b", file.read(), re.MULTILINE) is not None


def linux_host(*words, timeout, icount=False, **options):
    """Runs a program where Linux guests run: here with hardware virtualization, else in the lab.

    With icount, the lab counts virtual time: instructions, of all its processors.
    """
    if has_hardware_virtualization():
        return run(*words, timeout=timeout, **options)
    lab = [os.path.join(ROOT, "scripts", "lab"), "--timeout", str(timeout)]
    lab += ["--icount", "--memory", "1G"] if icount else []
    return run(*lab, *words, timeout=timeout + 60, **options)


def linux_guest():
    """The kernel and initial RAM disk of the Linux guest, made when missing."""
    image = os.path.join(ROOT, "scripts", "guest-image")
    folder = run(image, "kernel", FLAVOUR, timeout=1200).strip()
    initrd = run(image, "initramfs", "--kernel", FLAVOUR, timeout=600).strip()
    return os.path.join(folder, "vmlinuz"), initrd


def symbiotic_guest():
    """The same with the test build of symbiotic.ko."""
    return with_module("--test")


def with_module(*kind, others=()):
    """The same with symbiotic.ko: a kind of build, and files to add."""
    image = os.path.join(ROOT, "scripts", "guest-image")
    kernel, _ = linux_guest()
    module = run(image, "module", FLAVOUR, *kind, timeout=600).strip()
    output = os.path.join(TOOLS, f"symbiotic{'-test' if kind else ''}{f'-{len(others)}' if others else ''}-{FLAVOUR}.cpio")
    os.makedirs(TOOLS, exist_ok=True)
    words = ["initramfs", "--kernel", FLAVOUR, "--module", module, *(word for name in others for word in ("--add", name)), "--output", output]
    return kernel, run(image, *words, timeout=600).strip()


def python(script, *words):
    """The command line that runs a Python file of this folder."""
    return [os.path.realpath(sys.executable), os.path.join(HERE, script), *words]
