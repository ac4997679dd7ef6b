# SPDX-License-Identifier: Apache-2.0
"""Starts symvmm, uses its console, checks how it ends. For the tests beside this file; uses the standard library only."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
import unittest

from progress import STILL, Progress

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SYMVMM_BUILD_FOLDER", os.path.join(ROOT, "build"))
SYMVMM = os.path.join(BUILD, "symvmm")
GUESTS = os.path.join(ROOT, "Tests", "System", "guests")
# Where the consoles of tests that fail are kept.
LOGS = os.environ.get("SYMVMM_TEST_LOGS", os.path.join(BUILD, "logs", "system"))
# Seconds for something that takes a fraction of a second when nothing is wrong, on a very busy machine.
PATIENCE = 180
# Where the tests' folders are. Not TMPDIR: the path of a socket has at most 107 bytes, and other users must be able to enter.
TEMPORARY = "/tmp"
# The state in `symvmm ps` of a VM that listens and has not answered within 2 seconds: it has not begun to serve, or the machine is busy.
SILENT = "Not answering"
# The state of a VM whose process a signal has stopped, or a tracer holds.
STOPPED = "Stopped"


def kernel_words():
    with open("/proc/cmdline", encoding="ascii", errors="replace") as file:
        return file.read().split()


def in_lab():
    return any(word.startswith("lab.folder=") for word in kernel_words())


def in_mended_lab():
    """Whether this is a lab with the mended QEMU (scripts/lib/build-lab-qemu)."""
    return in_lab() and "lab.qemu=mended" in kernel_words()


def has_hardware_virtualization():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return bool(re.search(r"^flags.*\b(svm|vmx)\b", file.read(), re.M)) and os.path.exists("/dev/kvm")


def kernel(flavour="cloud-6.1", name="vmlinuz"):
    return os.path.join(BUILD, "guest", "kernels", flavour, name)


def initramfs(flavour="cloud-6.1"):
    return os.path.join(BUILD, "guest", f"initramfs-{flavour}.cpio")


def command(*words, timeout=PATIENCE, env=None, **options):
    """Runs a command to its end; the result has `returncode`, `stdout`, `stderr`."""
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=env, check=False, **options
    )


def checked(*words, **options):
    """The same for a command that must succeed; returns its standard output."""
    result = command(*words, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def request(path, method, resource, body="", form=json.loads):
    """Makes one HTTP request over a Unix socket; returns the status and the value of the body."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        head = f"{method} {resource} HTTP/1.1\r\nHost: symvmm\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), form(body.decode()) if body else None


class Machine:
    """A running `symvmm run`, or another command that runs a VM, and its console."""

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
        """Inside the `with`, the thread of this name alone may use the last processor."""
        *others, last = sorted(os.sched_getaffinity(0))
        if not others:
            raise RuntimeError("needs two processors")
        try:
            self.place(lambda name: {last} if name == thread else set(others))
            yield
        finally:
            self.place(lambda name: {*others, last})

    def place(self, processors):
        """Sets each thread's processors by its name."""
        for identity in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{self.pid}/task/{identity}/comm") as file:
                    name = file.read().strip()
                os.sched_setaffinity(int(identity), processors(name))

    def wait_for(self, pattern, within=None, where="seen", still=STILL):
        """Waits for a regular expression in the console's output since the last match; returns the match. Fails if the machine makes no progress
        for `still` seconds. With `within`, fails after so many seconds: for tests of a time."""
        deadline = None if within is None else time.monotonic() + within
        progress = Progress([self])
        with self.news:
            while True:
                start = self.position if where == "seen" else 0
                match = re.compile(pattern, re.M).search(getattr(self, where), start)
                if match:
                    if where == "seen":
                        self.position = match.end()
                    return match
                if deadline is not None and time.monotonic() > deadline:
                    raise AssertionError(f"no {pattern!r} within {within} s")
                if self.process.poll() is not None and not any(reader.is_alive() for reader in self.readers):
                    raise AssertionError(f"symvmm ended (status {self.process.returncode}) before {pattern!r} was seen")
                progress.check(repr(pattern), still)
                self.news.wait(0.5 if within is None else min(within, 0.5))

    def send(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.input, data):]

    def open_shell(self):
        """Waits for the initramfs' shell and prepares it for `shell`."""
        self.wait_for("symvmm-guest: init reached")
        self.wait_for("# ")
        # An interactive shell of busybox 1.35 exits when a background job ends; a shell that reads the terminal as a script does not. The
        # trap keeps the shell when Ctrl-C is sent to the command that it runs.
        self.send("stty -echo; echo ready-$((1)); exec sh /dev/tty\n")
        self.wait_for("ready-1\r*\n")
        self.send("trap : INT; dmesg -n 1\n")
        return self

    def shell(self, words, check=True, still=STILL):
        """Runs a command in the guest's shell; returns its output, or output and status with `check=False`. Fails after `still` seconds without
        progress."""
        self.commands += 1
        mark = f"end-of-command-{self.commands}"
        self.send(f"echo begin-{mark}; {words}\necho {mark} $?\n")
        start = self.wait_for(f"begin-{mark}\r*\n", still=still).end()
        match = self.wait_for(rf"{mark} (\d+)\r*\n", still=still)
        output = self.seen[start:match.start()].replace("\r", "").strip()
        status = int(match.group(1))
        if not check:
            return output, status
        if status != 0:
            raise AssertionError(f"in the guest, {words!r} ended with status {status}: {output}")
        return output

    def end(self, within=None):
        """Waits for the end of symvmm; returns its exit status. With `within`, fails after so many seconds: for tests of a time."""
        deadline = None if within is None else time.monotonic() + within
        progress = Progress([self])
        while self.process.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise AssertionError(f"symvmm has not ended within {within} s")
            progress.check("the end of symvmm")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5 if within is None else min(within, 0.5))
        self.join_readers()
        return self.process.returncode

    def join_readers(self):
        """Waits until all output has been read. A process that outlives symvmm and has its output open, such as a janitor, delays this."""
        for reader in self.readers:
            reader.join(STILL)

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        """Ends the machine if it still runs."""
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


class Fifo:
    """A FIFO that has a reader from now on, as programs open theirs before they start a VM: symvmm does not wait for a reader. A thread reads it."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.contents = ""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        # Until the first writer comes, a read would report the end. poll(2) does not.
        select.select([self.descriptor], [], [])
        os.set_blocking(self.descriptor, True)
        with open(self.descriptor, encoding="utf-8") as file:
            self.contents = file.read()

    def text(self):
        """What the writers have written, once all of them have closed the FIFO."""
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            raise AssertionError(f"{self.path}: its writer has not closed it within {PATIENCE} s")
        return self.contents


def take_terminal(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def quick(test):
    """Marks a test that `Tests/System/run --quick` includes although it boots Linux."""
    test.quick = True
    return test


def slow(test):
    """Marks a test that `--quick` excludes although it runs on any /dev/kvm."""
    test.quick = False
    return test


class Home:
    """What a test uses: a folder, a runtime folder in it, and the machines that it started. The tests of a class with `shared = True` use the same
    one."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="symvmm-test.", dir=TEMPORARY)
        os.chmod(self.folder, 0o711)
        self.runtime = os.path.join(self.folder, "runtime")
        os.mkdir(self.runtime, 0o700)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self.runtime}
        self.machines = []
        # The guest that the tests of a class share, and the arguments with which it was booted.
        self.guest = None
        self.recipe = None
        self.cleanups = []

    def close(self):
        for machine in self.machines:
            machine.close()
        for function, *words in reversed(self.cleanups):
            function(*words)
        command("rm", "-rf", self.folder)


class SystemTest(unittest.TestCase):
    """A test with its own folder and runtime folder. No socket may remain in the runtime folder."""

    # "host": runs on any /dev/kvm. "guest": boots Linux, which needs hardware virtualization or the lab.
    group = "guest"
    # Most seconds for one test, even if it makes progress: against guests that spin.
    limit = 600
    # Whether the tests of the class run in one process, in the order in which they are written, and share a guest (`shared_guest`).
    shared = False
    # Whether no other test may run on the same machine meanwhile.
    alone = False
    home = None

    def setUp(self):
        if type(self).home is None:
            self.home = Home()
            if self.shared:
                type(self).home = self.home
            else:
                self.addCleanup(self.home.close)

    @property
    def machines(self):
        return self.home.machines if self.home else []

    @property
    def folder(self):
        return self.home.folder

    @property
    def runtime(self):
        return self.home.runtime

    @property
    def environment(self):
        return self.home.environment

    def shared_guest(self, boot, *words, **options):
        """Returns the guest that an earlier test booted with the same arguments, or a new one. The test must leave it as it found it."""
        recipe = (boot.__name__, words, sorted(options.items()))
        if self.home.recipe != recipe or self.home.guest.process.poll() is not None:
            self.end_shared_guest()
            self.home.guest = boot(*words, **options)
            self.home.recipe = recipe
        return self.home.guest

    def end_shared_guest(self):
        """Powers the shared guest off, and checks that it ends."""
        machine, self.home.guest, self.home.recipe = self.home.guest, None, None
        if machine is not None and machine.process.poll() is None:
            machine.send("poweroff -f\n")
            self.assert_ended(machine, 0)

    def drop_shared_guest(self):
        """After a failure: ends the shared guest, so that the next test gets a new one."""
        machine, self.home.guest, self.home.recipe = self.home.guest, None, None
        if machine is not None:
            machine.close()

    def at_end(self, function, *words):
        """Calls a function after the test, or after the tests that share its folder."""
        self.home.cleanups.append((function, *words))

    @classmethod
    def end_class(cls):
        if cls.home is not None:
            cls.home.close()
            cls.home = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def run_machine(self, *arguments, **options):
        # A test that starts its own guest ends the shared one.
        self.end_shared_guest()
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
        image = self.path("-".join([name, *defines]) + ".elf")
        # A running machine may be reading it.
        if os.path.exists(image):
            return image
        symbols = [word for define in defines for word in ("--defsym", define)]
        checked("as", "--64", *symbols, "-I", GUESTS, "-o", image + ".o", os.path.join(GUESTS, f"{name}.S"))
        checked("ld", "--omagic", "--build-id=none", "-Ttext=0x100000", "-o", image, image + ".o")
        return image

    def symvmm(self, *words, **options):
        return command(SYMVMM, *words, env=self.environment, **options)

    def answer(self, *words):
        """Runs a command of symvmm with --json; returns its answer."""
        result = self.symvmm(*words, "--json")
        self.assertEqual(result.returncode, 0, f"symvmm {' '.join(words)}: {result.stderr}")
        return json.loads(result.stdout)

    def listed(self):
        """What `symvmm ps --json` lists when every VM has answered, or is stopped."""
        rows = []

        def all_answer():
            rows[:] = self.answer("ps")
            return all(row["state"] != SILENT for row in rows)

        self.wait_until("every VM answers", all_answer)
        return rows

    def table(self):
        """The same as text."""
        table = []

        def all_answer():
            result = self.symvmm("ps")
            self.assertEqual(result.returncode, 0, result.stderr)
            table[:] = [result.stdout]
            return SILENT not in result.stdout

        self.wait_until("every VM answers", all_answer)
        return table[0]

    def names(self):
        return [machine["name"] for machine in self.answer("ps")]

    def wait_until(self, what, condition, within=PATIENCE):
        """Waits until a condition holds. Fails if no machine of the test makes progress, and after `within` seconds. A long look at the condition
        counts as one second: on a busy machine, the condition is looked at as often as on a quiet one."""
        waited, looked = 0.0, time.monotonic()
        progress = Progress(self.machines)
        while not condition():
            now = time.monotonic()
            waited, looked = waited + min(now - looked, 1), now
            if waited > within:
                raise AssertionError(f"not within {within} s: {what}")
            progress.check(what)
            time.sleep(0.05)

    def wait_until_running(self, name):
        """Waits until a VM serves its API: its guest runs, or `serve` waits for the configuration. Before, it is listed as silent, or as stopped if
        strace holds it."""

        def serves():
            return any(row["name"] == name and row["state"] not in (SILENT, STOPPED) for row in self.answer("ps"))

        self.wait_until(f"{name} runs", lambda: self.has_ended(name) or serves())
        self.assertFalse(self.has_ended(name), f"{name} has ended")

    def has_ended(self, name):
        """Whether the last machine that was started with this name has ended."""
        named = [machine for machine in self.machines if name in machine.arguments]
        return bool(named) and named[-1].process.poll() is not None

    def assert_ended(self, machine, status, within=None):
        """symvmm ends with this status and leaves no socket in its runtime folder."""
        self.assertEqual(machine.end(within), status, f"exit status; standard error: {machine.errors.strip()[-600:]}")
        self.assert_nothing_left()

    def assert_nothing_left(self):
        folder = os.path.join(self.runtime, "symvmm")
        left = [name for name in os.listdir(folder) if name.endswith(".sock")] if os.path.isdir(folder) else []
        self.assertEqual(left, [], "sockets left behind")
