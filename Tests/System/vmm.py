# SPDX-License-Identifier: Apache-2.0
"""Starts symvmm, speaks with its console, looks at how it ends. For the tests beside this file; the standard library only."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SYMVMM_BUILD_FOLDER", os.path.join(ROOT, "build"))
SYMVMM = os.path.join(BUILD, "symvmm")
GUESTS = os.path.join(ROOT, "Tests", "System", "guests")


def kernel_words():
    with open("/proc/cmdline", encoding="ascii", errors="replace") as file:
        return file.read().split()


def in_lab():
    return any(word.startswith("lab.folder=") for word in kernel_words())


def emulator_doubles_interrupts():
    """Whether this is a lab on a QEMU as it is: its AMD-V now and then delivers an interrupt twice, when a vCPU is kicked all the time
    (scripts/lib/build-lab-qemu)."""
    return in_lab() and "lab.qemu=mended" not in kernel_words()


def kernel(flavour="cloud-6.1", name="vmlinuz"):
    return os.path.join(BUILD, "guest", "kernels", flavour, name)


def initramfs(flavour="cloud-6.1"):
    return os.path.join(BUILD, "guest", f"initramfs-{flavour}.cpio")


def command(*words, timeout=20, env=None, **options):
    """Runs a command to its end; the result has `returncode`, `stdout`, `stderr`."""
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=env, check=False, **options
    )


def checked(*words, **options):
    """The same for a command that must succeed; its standard output."""
    result = command(*words, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def request(path, method, resource, body="", form=json.loads):
    """One HTTP request over a Unix socket: the status, and what the answer's body holds."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        head = f"{method} {resource} HTTP/1.1\r\nHost: symvmm\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), form(body.decode()) if body else None


class Machine:
    """A `symvmm run`, or another command that holds a VM, and its console."""

    def __init__(self, test, arguments, terminal=False, preexec=None, program=None, command="run"):
        self.arguments = [str(word) for word in arguments]
        self.seen = ""
        self.errors = ""
        self.position = 0
        self.commands = 0
        self.news = threading.Condition()
        self.master = None
        words = [*(program or [SYMVMM]), command, *self.arguments]
        options = {"stderr": subprocess.PIPE, "env": test.environment, "preexec_fn": preexec}
        if terminal:
            self.master, slave = pty.openpty()
            options["preexec_fn"] = lambda: take_terminal(slave)
            self.process = subprocess.Popen(words, stdin=slave, stdout=slave, **options)
            os.close(slave)
            output, self.input = self.master, self.master
        else:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
            output, self.input = self.process.stdout.fileno(), self.process.stdin.fileno()
        self.readers = [
            threading.Thread(target=self.read, args=(output, "seen"), daemon=True),
            threading.Thread(target=self.read, args=(self.process.stderr.fileno(), "errors"), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        test.machines.append(self)

    def read(self, descriptor, name):
        while True:
            try:
                chunk = os.read(descriptor, 65536)
            except OSError:
                chunk = b""
            with self.news:
                if not chunk:
                    self.news.notify_all()
                    return
                setattr(self, name, getattr(self, name) + chunk.decode("utf-8", "replace"))
                self.news.notify_all()

    @property
    def pid(self):
        return self.process.pid

    @contextlib.contextmanager
    def processor_apart(self, thread):
        """Meanwhile that thread, and no other of this process, has the last of the processors."""
        *others, last = sorted(os.sched_getaffinity(0))
        if not others:
            raise RuntimeError("wants two processors")
        try:
            self.place(lambda name: {last} if name == thread else set(others))
            yield
        finally:
            self.place(lambda name: {*others, last})

    def place(self, processors):
        """Gives each thread the processors that its name gets."""
        for identity in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{self.pid}/task/{identity}/comm") as file:
                    name = file.read().strip()
                os.sched_setaffinity(int(identity), processors(name))

    def wait_for(self, pattern, timeout=60, where="seen"):
        """Waits for a regular expression in what the console has said since the last match; returns the match."""
        deadline = time.monotonic() + timeout
        with self.news:
            while True:
                start = self.position if where == "seen" else 0
                match = re.compile(pattern, re.M).search(getattr(self, where), start)
                if match:
                    if where == "seen":
                        self.position = match.end()
                    return match
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no {pattern!r} within {timeout} s")
                if self.process.poll() is not None and not any(reader.is_alive() for reader in self.readers):
                    raise AssertionError(f"symvmm ended (status {self.process.returncode}) without saying {pattern!r}")
                self.news.wait(min(left, 0.5))

    def send(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.input, data):]

    def open_shell(self, timeout=60):
        """Waits for the initramfs' shell and makes it fit for `shell`."""
        self.wait_for("symvmm-guest: init reached", timeout)
        self.wait_for("# ", timeout)
        # An interactive shell of busybox 1.35 takes the end of a background job for the end of its input, and leaves; one that reads
        # the terminal as a script does not. The trap keeps it when Ctrl-C is sent to what it runs.
        self.send("stty -echo; echo ready-$((1)); exec sh /dev/tty\n")
        self.wait_for("ready-1\r*\n", timeout)
        self.send("trap : INT; dmesg -n 1\n")
        return self

    def shell(self, words, timeout=30, check=True):
        """Runs a command in the guest's shell; its output, or output and status with `check=False`."""
        self.commands += 1
        mark = f"end-of-command-{self.commands}"
        self.send(f"echo begin-{mark}; {words}\necho {mark} $?\n")
        start = self.wait_for(f"begin-{mark}\r*\n", timeout).end()
        match = self.wait_for(rf"{mark} (\d+)\r*\n", timeout)
        output = self.seen[start:match.start()].replace("\r", "").strip()
        status = int(match.group(1))
        if not check:
            return output, status
        if status != 0:
            raise AssertionError(f"in the guest, {words!r} ended with status {status}: {output}")
        return output

    def end(self, timeout=30):
        """Waits for the end of symvmm; its exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"symvmm has not ended within {timeout} s") from None
        for reader in self.readers:
            reader.join(5)
        return status

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        """Ends what still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self.readers:
            reader.join(5)
        if self.master is not None:
            os.close(self.master)
            self.process.stderr.close()
        else:
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


def take_terminal(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


class SystemTest(unittest.TestCase):
    """A test with a folder and a runtime folder of its own; nothing may be left in the latter."""

    # "host": runs on any /dev/kvm. "guest": boots Linux, so needs hardware virtualization or the lab.
    group = "guest"
    # Seconds for one test.
    limit = 120

    def setUp(self):
        self.machines = []
        self.folder = tempfile.mkdtemp(prefix="symvmm-test.")
        os.chmod(self.folder, 0o711)
        self.addCleanup(command, "rm", "-rf", self.folder)
        self.runtime = os.path.join(self.folder, "runtime")
        os.mkdir(self.runtime, 0o700)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self.runtime}
        self.addCleanup(self.close_machines)

    def close_machines(self):
        for machine in self.machines:
            machine.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def run_machine(self, *arguments, **options):
        return Machine(self, arguments, **options)

    def boot(self, *arguments, append="", flavour="cloud-6.1", image="vmlinuz", **options):
        """Boots a Linux guest with the busybox initramfs."""
        line = f"console=ttyS0 reboot=k panic=1 quiet {append}".strip()
        return self.run_machine(
            "--kernel", kernel(flavour, image), "--initrd", initramfs(flavour), "--append", line, "--quiet", *arguments, **options
        )

    def tiny(self, name, *arguments, defines=(), **options):
        """Starts a tiny guest without an operating system, assembled from guests/NAME.S."""
        return self.run_machine("--kernel", self.assemble(name, defines), *arguments, **options)

    def assemble(self, name, defines=()):
        image = self.path(f"{name}.elf")
        symbols = [word for define in defines for word in ("--defsym", define)]
        checked("as", "--64", *symbols, "-I", GUESTS, "-o", image + ".o", os.path.join(GUESTS, f"{name}.S"))
        checked("ld", "--omagic", "--build-id=none", "-Ttext=0x100000", "-o", image, image + ".o")
        return image

    def symvmm(self, *words, **options):
        return command(SYMVMM, *words, env=self.environment, **options)

    def answer(self, *words):
        """What a command of symvmm's says with --json."""
        result = self.symvmm(*words, "--json")
        self.assertEqual(result.returncode, 0, f"symvmm {' '.join(words)}: {result.stderr}")
        return json.loads(result.stdout)

    def names(self):
        return [machine["name"] for machine in self.answer("ps")]

    def wait_until(self, what, condition, timeout=10):
        deadline = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within {timeout} s: {what}")
            time.sleep(0.05)

    def wait_until_running(self, name, timeout=10):
        self.wait_until(f"{name} runs", lambda: name in self.names(), timeout)

    def assert_ended(self, machine, status, timeout=30):
        """symvmm ends with this status and has left nothing in its runtime folder."""
        self.assertEqual(machine.end(timeout), status, f"exit status; it said: {machine.errors.strip()[-600:]}")
        self.assert_nothing_left()

    def assert_nothing_left(self):
        folder = os.path.join(self.runtime, "symvmm")
        left = [name for name in os.listdir(folder) if name.endswith(".sock")] if os.path.isdir(folder) else []
        self.assertEqual(left, [], "sockets left behind")
