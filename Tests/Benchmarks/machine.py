# SPDX-License-Identifier: Apache-2.0
"""Paths, and functions that run programs on this machine or in the lab."""

import os
import re
import select
import subprocess
import sys
import tempfile
import time

from result import BenchmarkError
from supervisor import STEP

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
import watched  # noqa: E402 pylint: disable=wrong-import-position

BUILD = os.environ.get("SYMVMM_BUILD_FOLDER", os.path.join(ROOT, "build"))
TOOLS = os.path.join(BUILD, "bench")
GUESTS = os.path.join(BUILD, "guest", "bare-metal")
SYMVMM = os.environ.get("SYMVMM_BENCH_BINARY", os.path.join(BUILD, "symvmm"))
# With the service that makes a symcall at the test doorbell (scripts/build --test).
TEST_SYMVMM = os.environ.get("SYMVMM_BENCH_TEST_BINARY", os.path.join(BUILD, "symvmm-test"))
# Environment variable: a folder that exists during this run of scripts/bench.
RUN_FOLDER = "SYMVMM_BENCH_RUN_FOLDER"
FLAVOUR = "cloud-6.1"


def guest(name):
    return os.path.join(GUESTS, name + ".elf")


def step(words):
    """Prints the present step, on the host or in the lab."""
    print(STEP + words, file=sys.stderr, flush=True)


def run(*words, timeout=120, **options):
    """Runs a program to its end and returns its output; a status other than 0 is an error. Prints its steps."""
    # Files, not pipes: a child that outlives the program would hold a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, **options)
        except OSError as error:
            raise BenchmarkError(f"cannot run {words[0]}: {error.strerror}") from None
        with process:
            try:
                wait(process, timeout, errors)
            finally:
                end(process)
        text, said = (os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace") for file in (output, errors))
    if process.returncode != 0:
        last = [line for line in (said or text).splitlines() if line.strip() and not line.startswith(STEP)][-1:]
        raise BenchmarkError(f"status {process.returncode}: {' '.join(words)}: {' '.join(last)}")
    return text


def wait(process, timeout, errors):
    ended, limit, place = os.pidfd_open(process.pid), time.monotonic() + timeout, 0
    try:
        while not select.select([ended], [], [], 0.5)[0]:
            if time.monotonic() > limit:
                raise BenchmarkError(f"no end after {timeout} s: {' '.join(process.args)}")
            new = os.pread(errors.fileno(), 65536, place)
            new = new[: new.rfind(b"\n") + 1]
            place += len(new)
            for line in new.decode(errors="replace").splitlines():
                if line.startswith(STEP):
                    print(line, file=sys.stderr, flush=True)
    finally:
        os.close(ended)


def end(process):
    """Asks a program to end, and kills it if it does not: the lab ends all its processes when asked."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def build(target, *words):
    """Runs a build step; its output goes to a log."""
    os.makedirs(TOOLS, exist_ok=True)
    log = os.path.join(TOOLS, f"build-{target}.log")
    with open(log, "wb") as file:
        status = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, check=False).returncode
    if status != 0:
        raise BenchmarkError(f"cannot build {target} (log: {log})")


def compile_c(name, *options, others=()):
    """Compiles a C file of this folder, with others, if one of them is newer than the program; returns the program's path."""
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
    """Runs a tiny guest under symvmm to its end; returns the output of its serial port."""
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
    """Runs a program where Linux guests run: on a host with hardware virtualization, otherwise in the lab.

    With icount, the lab counts virtual time: the instructions of all its processors.
    """
    if has_hardware_virtualization():
        return run(*words, timeout=timeout, **options)
    step(f"the lab starts{', which counts instructions' if icount else ''}")
    lab = [os.path.join(ROOT, "scripts", "lab"), "--timeout", str(timeout)]
    lab += ["--icount", "--memory", "1G"] if icount else []
    return run(*lab, *words, timeout=timeout + 60, **options)


def watch(name, words, limit):
    """Starts a guest's VMM, and ends it if it makes no progress or takes too long."""
    return watched.Watched(name, words, limit, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def exit_with(main):
    """Runs a program's main function, and prints an error as one line."""
    try:
        sys.exit(main())
    except (BenchmarkError, watched.Stopped) as error:
        sys.exit(str(error))


def prepare_lab():
    """Prepares the lab with its QEMU, and checks that it works: once in a run of scripts/bench."""
    ready = os.path.join(os.environ.get(RUN_FOLDER, ""), "lab-is-ready")
    if not has_hardware_virtualization() and not os.path.exists(ready):
        step("the lab, and its QEMU (some minutes, the first time)")
        run(os.path.join(ROOT, "scripts", "lab"), "--timeout", "300", "true", timeout=2400)
        with open(ready, "x", encoding="ascii"):
            pass


def linux_guest():
    """Returns the kernel and initial RAM disk of the Linux guest; makes them if they are missing."""
    image = os.path.join(ROOT, "scripts", "guest-image")
    folder = run(image, "kernel", FLAVOUR, timeout=1200).strip()
    initrd = run(image, "initramfs", "--kernel", FLAVOUR, timeout=600).strip()
    return os.path.join(folder, "vmlinuz"), initrd


def symbiotic_guest():
    """The same with the test build of symbiotic.ko."""
    return with_module("--test")


def with_module(*kind, others=()):
    """The same with symbiotic.ko, built with the given options, and with further files."""
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
