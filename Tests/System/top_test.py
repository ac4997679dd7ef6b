# SPDX-License-Identifier: Apache-2.0
"""`symvmm top` in a real terminal (tmux). On any /dev/kvm."""

import os
import re
import shlex
import signal
import subprocess
import time

import vmm


class Terminal:
    """A terminal with a shell, in its own tmux server."""

    def __init__(self, test, columns=100, rows=24):
        self.socket = test.path("tmux")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), "bash --norc --noprofile")
        test.addCleanup(vmm.command, "tmux", "-S", self.socket, "kill-server")
        environment = f"XDG_RUNTIME_DIR={shlex.quote(test.runtime)} PATH={shlex.quote(vmm.BUILD)}:$PATH PS1='shell> '"
        self.keys(f"export {environment}; clear", "Enter")
        self.wait_for(lambda text: text.strip() == "shell>")

    def tmux(self, *words):
        return vmm.checked("tmux", "-S", self.socket, *words)

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    @property
    def text(self):
        return self.tmux("capture-pane", "-p")

    def wait_for(self, condition):
        """Waits until the text meets a condition or contains a word; returns the text."""
        is_so = condition if callable(condition) else lambda text: condition in text
        waited, looked = 0.0, time.monotonic()
        while True:
            text = self.text
            if is_so(text):
                return text
            # A long look counts as one second, as in `wait_until`.
            now = time.monotonic()
            waited, looked = waited + min(now - looked, 1), now
            if waited > vmm.PATIENCE:
                raise AssertionError(f"not within {vmm.PATIENCE} s; the screen:\n{text}")
            time.sleep(0.05)

    def is_given_back(self):
        """Whether this is the normal screen with a cursor."""
        return self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip() == "0 1"


class Top(vmm.SystemTest):
    group = "host"

    def setUp(self):
        super().setUp()
        self.assertEqual(vmm.command("tmux", "-V").returncode, 0)
        self.started = {}
        for name, guest, words in (
            ("busy", "count", ["--memory", "64M"]), ("calm", "wait", ["--cpus", "2"]), ("held", "wait", ["--memory", "32M"])
        ):
            defines = ["COUNT=0x7fffffff", "READS=1"] if guest == "count" else []
            self.started[name] = self.tiny(guest, "--quiet", "--console", "none", "--name", name, *words, defines=defines)
            self.wait_until_running(name)
        self.symvmm("pause", "held")

    def end(self):
        for name, machine in self.started.items():
            self.symvmm("kill", name)
            self.assertEqual(machine.end(), 130)
        self.assert_nothing_left()

    def names_in(self, text):
        return [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in self.started]

    def test_a_terminal_shows_sorts_and_opens_machines(self):
        terminal = Terminal(self)
        terminal.keys("symvmm top --interval 0.3", "Enter")
        # On a busy machine, another guest may get more processor time in a short interval.
        text = terminal.wait_for(lambda text: "3 VMs, 2 running" in text and "pio_write none" in text and self.names_in(text)[:1] == ["busy"])
        self.assertEqual(text.splitlines()[2].split()[:3], ["NAME", "PID", "STATE"])
        self.assertIn("q: quit", text.splitlines()[-1])
        terminal.keys("n")
        terminal.wait_for(lambda text: self.names_in(text) == ["busy", "calm", "held"] and "by name" in text)
        terminal.keys("r")
        terminal.wait_for(lambda text: self.names_in(text) == ["held", "calm", "busy"] and "reversed" in text)
        # One VM, grouped by each property of an exit, now and since the start.
        machine = self.started["busy"].pid
        terminal.keys("r", "Down", "Down", "k", "k", "k", "Enter")
        terminal.wait_for(lambda text: f"busy: process {machine}, running, 1 vCPU, 64M" in text and "per second" in text)
        for key, heading in (("r", "REASON +COUNT"), ("d", "DEVICE"), ("a", "ADDRESS +DEVICE"), ("v", "VCPU +REASON"), ("t", "symbiotic.ko")):
            terminal.keys(key)
            terminal.wait_for(lambda text, heading=heading: re.search(heading, text))
        terminal.keys("p", "s")
        terminal.wait_for(lambda text: "s: since the start" in text and "PER S" not in text)
        terminal.keys("Escape")
        terminal.wait_for("q: quit")
        terminal.keys("h")
        terminal.wait_for("Press any key to continue.")
        terminal.keys("x")
        terminal.wait_for("q: quit")
        terminal.keys("q")
        terminal.wait_for("shell>")
        terminal.wait_for(lambda text: terminal.is_given_back())
        self.end()

    def test_top_follows_the_terminals_size(self):
        terminal = Terminal(self)
        terminal.keys("symvmm top --interval 0.3", "Enter")
        terminal.wait_for("3 VMs, 2 running")
        for columns, rows in ((40, 6), (120, 30), (20, 3)):
            terminal.tmux("resize-window", "-x", str(columns), "-y", str(rows))
            terminal.wait_for(lambda text, rows=rows, columns=columns: self.fills(text, columns, rows))
        terminal.keys("q")
        terminal.wait_for("shell>")
        self.end()

    def fills(self, text, columns, rows):
        lines = text.split("\n")[:rows]
        keys = "Enter: one VM  n e c v m u: sort  r: reverse  h: help  q: quit"[:columns]
        return lines[0].startswith("symvmm top: 3 VMs"[:columns]) and lines[-1].strip() == keys.strip()

    def test_a_machine_that_ends_disappears_from_the_list(self):
        terminal = Terminal(self)
        terminal.keys("symvmm top --interval 0.3", "Enter")
        terminal.wait_for("3 VMs, 2 running")
        terminal.keys("n", "Enter")
        terminal.wait_for("busy: process")
        self.symvmm("kill", "busy")
        self.started.pop("busy").end()
        terminal.wait_for("busy has ended")
        terminal.keys("q")
        terminal.wait_for(lambda text: "2 VMs, 1 running" in text and self.names_in(text) == ["calm", "held"])
        terminal.keys("C-c")
        terminal.wait_for("shell>")
        terminal.wait_for(lambda text: terminal.is_given_back())
        self.end()

    @vmm.slow
    def test_a_machine_that_does_not_answer_delays_no_other(self):
        self.started["calm"].signal(signal.SIGSTOP)
        self.addCleanup(self.started["calm"].signal, signal.SIGCONT)
        terminal = Terminal(self)
        terminal.keys("symvmm top --interval 0.3", "Enter")
        terminal.wait_for("Stopped")
        terminal.keys("n")
        terminal.wait_for("by name")
        self.started["calm"].signal(signal.SIGCONT)
        terminal.wait_for(lambda text: "Stopped" not in text and "2 running" in text)
        terminal.keys("q")
        terminal.wait_for("shell>")
        self.end()

    @vmm.slow
    def test_every_way_to_end_top_restores_the_terminal(self):
        terminal = Terminal(self)
        for number, status in ((signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGINT, 130), (signal.SIGSEGV, 139), (signal.SIGABRT, 134)):
            terminal.keys("clear; symvmm top --interval 0.3; echo status $?", "Enter")
            terminal.wait_for("3 VMs, 2 running")
            self.assertFalse(terminal.is_given_back())
            os.kill(self.pid_of_top(), number)
            terminal.wait_for(f"status {status}")
            terminal.wait_for(lambda text: terminal.is_given_back())
            terminal.keys("clear; stty -a | tr ';' '\\n' | grep -ow -e '-*icanon' -e '-*echo' | tr '\\n' ' '", "Enter")
            terminal.wait_for("icanon echo")
        # Ctrl-Z suspends top.
        terminal.keys("clear; symvmm top --interval 0.3", "Enter")
        terminal.wait_for("3 VMs, 2 running")
        terminal.keys("C-z")
        terminal.wait_for("Stopped")
        terminal.wait_for(lambda text: terminal.is_given_back())
        terminal.keys("clear; fg", "Enter")
        terminal.wait_for("3 VMs, 2 running")
        terminal.keys("q")
        terminal.wait_for("shell>")
        self.end()

    def pid_of_top(self):
        """The process of the top that this test started, found by its runtime folder."""
        for pid in vmm.checked("pgrep", "-x", "symvmm").split():
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    mine = f"XDG_RUNTIME_DIR={self.runtime}".encode() in file.read()
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if mine and file.read().split(b"\0")[1:2] == [b"top"]:
                        return int(pid)
            except OSError:
                # A process of another test, which has ended meanwhile.
                continue
        raise AssertionError("no top runs")

    def take_rows(self, rows):
        """The rows that top shows now, by machine; whether each VM has answered twice, within a second each time, and the busy one got processor time
        between the answers: on a busy machine, not in each interval."""
        rows.update({row["name"]: row for row in self.answer("top", "--once", "--interval", "0.3")})
        return all("exits_per_second" in row for row in rows.values()) and rows["busy"].get("cpu_share", 0) > 0

    def plain_table(self):
        """What top prints once, when all VMs have answered."""
        tables = []

        def all_answer():
            result = self.symvmm("top", "--once", "--interval", "0.3", "--sort", "name")
            self.assertEqual(result.returncode, 0, result.stderr)
            tables.append(result.stdout)
            return vmm.SILENT not in result.stdout

        self.wait_until("all VMs answer", all_answer)
        return tables[-1]

    def test_a_pipe_gets_plain_tables(self):
        text = self.plain_table()
        # With a decimal if there are few: on a busy machine, a guest may not run in this interval.
        self.assertRegex(text.splitlines()[0], r"^symvmm top: 3 VMs, 2 running, [\d,.]+ exits/s$")
        self.assertEqual(self.names_in(text), ["busy", "calm", "held"])
        self.assertNotIn("\x1b", text)
        twice = self.symvmm("top", "--count", "2", "--interval", "0.2")
        self.assertEqual(twice.stdout.count("symvmm top: 3 VMs"), 2)
        rows = {}
        self.wait_until("the busy one leaves most", lambda: self.take_rows(rows) and rows["busy"]["exits_per_second"] > rows["calm"]["exits_per_second"])
        self.assertEqual(set(rows), {"busy", "calm", "held"})
        self.assertEqual(rows["held"]["exits_per_second"], 0)
        self.assertGreater(rows["busy"]["cpu_share"], 0)
        self.assertGreater(rows["busy"]["resident_bytes"], 1 << 20)
        for words in (["--interval", "0"], ["--once", "--count", "2"], ["--sort", "colour"]):
            self.assertEqual(self.symvmm("top", *words).returncode, 2)
        self.end()

    @vmm.slow
    def test_a_closed_pipe_ends_top(self):
        for words in ("top --interval 0.1", "top --interval 0.1 --json", "stats busy --follow --watch 0.1", "stats busy --watch 0.1"):
            shell = subprocess.run(
                ["bash", "-c", f'{vmm.SYMVMM} {words} | head -n 1; echo "${{PIPESTATUS[0]}}"'], env=self.environment, capture_output=True, text=True,
                timeout=vmm.PATIENCE, check=False)
            self.assertEqual(shell.stdout.split()[-1], str(128 + signal.SIGPIPE), words)
            self.assertEqual(shell.stderr, "", words)
        full = subprocess.run(f"{vmm.SYMVMM} ps >/dev/full", shell=True, env=self.environment, capture_output=True, text=True, timeout=vmm.PATIENCE, check=False)
        self.assertEqual(full.returncode, 3)
        self.assertEqual(full.stderr, "symvmm: write to standard output: No space left on device\n")
        self.end()

    def test_top_without_a_machine_succeeds(self):
        self.end()
        self.started = {}
        self.assertIn("symvmm top: 0 VMs, 0 running", self.symvmm("top", "--once", "--interval", "0.1").stdout)
        reader = subprocess.run(
            f"{vmm.SYMVMM} top --interval 0.1 | head -n 1", shell=True, env=self.environment, capture_output=True, text=True, timeout=vmm.PATIENCE, check=False
        )
        self.assertEqual(reader.stderr, "")
