# SPDX-License-Identifier: Apache-2.0
"""Runs a program, reads its output line by line, and ends it when it makes no progress or takes too long."""

import os
import select
import subprocess
import time

# Seconds without output or work after which a program is ended.
STILL = float(os.environ.get("SYMVMM_STILL", 60))
LONGEST = 65536  # most bytes of a line
TIDYING = 5  # seconds for a program to end after it was asked to
LOOK = 5  # seconds between two checks of its work


class Stopped(Exception):
    """The program made no progress, or took too long; the text says which."""


class Watched:
    """A running program. Leaving the `with` ends it in any case.

    work: a function that is called now and then; a changed result counts as progress. Without it, processor time counts.
    name: the program's name in messages; limit: seconds for all of it; still: seconds without progress; signs: what counts as progress, for
    messages; ask: a function that asks the program to end, so that it can clean up; it is killed if it has not ended some seconds later.
    """

    def __init__(self, name, words, limit, work=None, still=STILL, signs="its output and its processor time", ask=None, **options):
        self.name, self.limit, self.still, self.signs, self.ask = name, limit, still, signs, ask
        self.work = work or (lambda: processor_time(self.process.pid))
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, **options)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.started = time.monotonic()
        self.last = ""  # the last line with text
        self._rest, self._ended = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.ask and self.process.poll() is None:
            self.ask()
            try:
                self.process.wait(TIDYING)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self.process.stdin:
            self.process.stdin.close()

    def lines(self):
        """Yields each line of the output when it arrives, until the program closes its output."""
        while not self._ended or self._rest:
            line, newline, rest = self._rest.partition(b"\n")
            if newline or self._ended or len(self._rest) > LONGEST:
                self._rest = rest
                words = line.decode(errors="replace").rstrip("\r")
                self.last = words.strip() or self.last
                yield words
            else:
                self._read_more()

    def end(self):
        """Reads the rest of the output, and returns the exit status."""
        for _ in self.lines():
            pass
        try:
            return self.process.wait(self.still)
        except subprocess.TimeoutExpired:
            raise Stopped(f"{self.name} closed its output, but did not end within {self.still:g} s") from None

    def _read_more(self):
        moved, before = time.monotonic(), None
        while not select.select([self.process.stdout], [], [], min(LOOK, self.still / 4))[0]:
            now, work = time.monotonic(), self.work()
            if work != before:
                moved, before = now, work
            self._check_limit(now)
            if now - moved > self.still:
                raise Stopped(f"{self.name} made no progress: nothing new in {self.signs} for {self.still:g} s{self._last_words()}")
        part = os.read(self.process.stdout.fileno(), 65536)
        self._ended = not part
        self._rest += part
        self._check_limit(time.monotonic())

    def _check_limit(self, now):
        if now - self.started > self.limit:
            raise Stopped(f"{self.name} took longer than {self.limit} s{self._last_words()}")

    def _last_words(self):
        last = self._rest.decode(errors="replace").strip() or self.last
        return f"; last output: {last[-200:]!r}" if last else "; no output at all"


def kill_vm(symvmm, name):
    """Ends a VM at once; its symvmm removes the control socket."""
    try:
        subprocess.run([symvmm, "kill", name], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIDYING, check=False)
    except subprocess.TimeoutExpired:
        pass  # the caller kills its process


def processor_time(pid):
    """Processor time that a process has used, in whole seconds; unchanged while all of its threads wait. None: it has ended."""
    used = exact_processor_time(pid)
    return None if used is None else int(used)


def exact_processor_time(pid):
    """The same, with fractions of a second."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
