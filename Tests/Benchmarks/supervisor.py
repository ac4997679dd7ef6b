# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark in its own session: shows its progress, limits its time, and ends all its processes."""

import os
import resource
import select
import signal
import subprocess
import sys
import time

import noise
from result import BenchmarkError

# The beginning of a line on standard error that names the benchmark's present step. The other lines are shown only after a failure.
STEP = "step: "
# The least share of a second that counts when other processes use the processors.
LEAST = 0.25
PATIENCE = 15  # seconds for a benchmark that was asked to end
GRACE = 3  # seconds for its child processes to end after it


def run(words, title, usual, limit):
    """Runs a benchmark to its end; returns the noise meanwhile. usual: seconds that it usually takes, or None; limit: the most seconds."""
    show = Progress(title, usual)
    before = noise.moment(children_time())
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            said = follow(process, show, Limit(limit))
        finally:
            left = end_session(process)
    seen = noise.between(before, noise.moment(children_time()))
    if process.returncode != 0:
        show.end("failed")
        raise BenchmarkError(f"status {process.returncode}: {said or 'no output'}")
    if left:
        show.end("failed")
        raise BenchmarkError(f"it left {left} processes behind; they have been ended")
    show.end(f"{seen['seconds']:.0f} s")
    return seen


def follow(process, show, limit):
    """Reads the output until the process ends; returns the last line that names no step. It does not wait for the end of the output, which a
    process left behind may hold open for ever."""
    said = Said(process.stderr.fileno(), show)
    ended = os.pidfd_open(process.pid)
    try:
        while ended not in select.select([ended, *said.open], [], [], 1)[0]:
            said.read()
            show.tick()
            if words := limit.passed(process.pid):
                show.end("ended")
                raise BenchmarkError(f"{words}; it was {show.doing()}")
        said.read()
        return said.last
    finally:
        os.close(ended)


class Said:
    """The output of a pipe: steps, and the last of all other lines."""

    def __init__(self, descriptor, show):
        self.open, self.show, self.rest, self.last = [descriptor], show, b"", ""
        os.set_blocking(descriptor, False)

    def read(self):
        while self.open and select.select(self.open, [], [], 0)[0]:
            part = os.read(self.open[0], 65536)
            *lines, self.rest = (self.rest + part).split(b"\n") if part else [self.rest, b""]
            for line in lines:
                words = line.decode(errors="replace").strip()
                if words.startswith(STEP):
                    self.show.step(words.removeprefix(STEP))
                else:
                    self.last = words or self.last
            if not part:
                self.open = []


class Limit:
    """A limit in seconds on a quiet machine. On a busy one, a second counts only for the share that other processes leave."""

    def __init__(self, seconds):
        self.seconds, self.spent = seconds, 0.0
        self.before = self.start = noise.moment(0)

    def passed(self, session):
        """Returns the message once the limit has passed, before that None."""
        if time.monotonic() - self.before.clock < 1:
            return None
        now = noise.moment(sum(noise.session_time(session).values()))
        seen = noise.between(self.before, now)
        taken = (seen["others_percent"] + seen["steal_percent"]) / 100
        self.spent += (now.clock - self.before.clock) * max(LEAST, 1 - taken)
        self.before = now
        if self.spent <= self.seconds:
            return None
        clock = now.clock - self.start.clock
        later = f", which were {clock:.0f} beside other processes" if clock > 1.1 * self.seconds else ""
        return f"no end within {self.seconds} s{later}"


def end_session(process):
    """Ends all processes of a session; returns how many beside the first had to be ended."""
    end = time.monotonic() + GRACE
    while process.poll() is not None and others(process) and time.monotonic() < end:
        time.sleep(0.1)
    left = len(others(process))
    for one in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + PATIENCE
        while (process.poll() is None or others(process)) and time.monotonic() < end:
            for pid in [*others(process), *([process.pid] if process.poll() is None else [])]:
                try:
                    os.kill(pid, one)
                except ProcessLookupError:
                    pass
            time.sleep(0.3)
    return left


def others(process):
    return [pid for pid in noise.session_time(process.pid) if pid != process.pid and not is_zombie(pid)]


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def children_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Progress:
    """Prints progress: on a terminal one line that changes, otherwise one line for each step."""

    def __init__(self, title, usual):
        self.title, self.usual, self.now, self.start = title, usual, "", time.monotonic()
        self.live = sys.stderr.isatty()
        self.shown = False
        if not self.live and usual:
            self.line(f"{title} (usually {usual} s) ...")
            self.shown = True

    def step(self, words):
        self.now = words
        if not self.live:
            self.announce()
            self.line(f"    {words}")
        self.tick()

    def announce(self):
        """Prints the title once. A preparation without a step prints nothing."""
        if not self.shown:
            self.line(f"{self.title} ...")
            self.shown = True

    def tick(self):
        if self.live:
            usual = f" of usually {self.usual} s" if self.usual else ""
            self.draw(f"{self.title}: {time.monotonic() - self.start:.0f} s{usual}{'; ' + self.now if self.now else ''}")

    def end(self, words):
        if self.live:
            self.draw("")
        if self.shown or self.usual or words == "failed":
            self.line(f"{self.title}: {words}" if self.live else f"    {words}")

    def doing(self):
        return f"at: {self.now}" if self.now else "at its beginning"

    def draw(self, words):
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        print("\r\x1b[K" + words[: max(0, width - 1)], end="", file=sys.stderr, flush=True)

    def line(self, words):
        print(f"bench: {words}", file=sys.stderr, flush=True)
