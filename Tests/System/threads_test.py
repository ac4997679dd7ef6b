# SPDX-License-Identifier: Apache-2.0
"""The threads of a VM's process: all made before the guest runs, with the names that docs/ARCHITECTURE.md lists. On any /dev/kvm."""

import contextlib
import os
import re
import signal

import api
import vmm

DOCUMENT = os.path.join(vmm.ROOT, "docs", "ARCHITECTURE.md")


def threads(pid):
    """The name of each thread of a process by its number, without those that the kernel's KVM adds."""
    names = {}
    for number in os.listdir(f"/proc/{pid}/task"):
        # One of the kernel's may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{number}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            if not name.startswith("kvm-"):
                names[int(number)] = name
    return names


def documented():
    """The names in the first column of the table of threads, as regular expressions."""
    with open(DOCUMENT, encoding="utf-8") as file:
        section = file.read().partition("## Threads\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return [re.escape(name).replace("ID", ".+").replace("vcpuN", "vcpu[0-9]+") for name in names]


class Threads(api.ServeTest):
    def socket(self, name):
        return os.path.join(self.runtime, "symvmm", f"{name}.sock")

    def disk(self, name):
        path = self.path(name)
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        return path

    def named(self, machine, expected):
        """The threads of a machine when they have these names: a thread names itself, a moment after it was made."""
        self.wait_until(f"threads {sorted(expected)}", lambda: sorted(threads(machine.pid).values()) == sorted(expected))
        return threads(machine.pid)

    def check_names(self, names):
        allowed = documented()
        for name in names:
            self.assertTrue(any(re.fullmatch(pattern, name) for pattern in allowed), f"'{name}' is not in {DOCUMENT}")

    def test_run_makes_all_threads_before_the_guest_runs(self):
        self.disk("disk")
        disk = f"{self.path('disk')},id=root"
        machine = self.tiny("resetloop", "--name", "loop", "--disk", disk, "--cpus", "2", "--quiet", defines=["COUNT=1"])
        machine.wait_for("done")
        expected = ["symvmm", "files", "stopper", "signals", "api-life0", "api-life1", "api-work", "api-loop", "console-out", "console-in"]
        expected += ["blk0 root", "blk1 root", "symvmm-io", "vcpu0", "vcpu1", "symcall-limit"]
        first = self.named(machine, expected)
        self.check_names(first.values())
        # Nothing that a client asks for makes one.
        for words in (["stats", "loop"], ["pause", "loop"], ["resume", "loop"], ["symcall", "loop", "tasks"], ["ps"]):
            self.symvmm(*words)
        self.assertEqual(threads(machine.pid), first)
        machine.signal(signal.SIGTERM)
        machine.end()

    def test_a_guest_that_resets_a_disk_in_a_loop_costs_no_thread(self):
        self.disk("disk")
        disk = f"{self.path('disk')},id=root"
        machine = self.tiny("resetloop", "--name", "loop", "--disk", disk, "--quiet", defines=["COUNT=1000000"])
        self.wait_until_running("loop")
        self.wait_until("the disk's threads", lambda: "blk1 root" in threads(machine.pid).values())
        first = threads(machine.pid)

        def resets():
            text = api.request(self.socket("loop"), "GET", "/metrics/openmetrics").text
            return int(re.search(r'symvmm_device_events_total\{[^}]*device="virtio-blk.root",event="resets"[^}]*\} (\d+)', text).group(1))

        start = resets()
        self.wait_until("300 more resets", lambda: resets() > start + 300)
        self.assertEqual(set(threads(machine.pid)), set(first))
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_serve_makes_the_guests_threads_at_its_start_and_none_later(self):
        machine = self.serve("--console", "none")
        self.wait_until("an answer", lambda: self.ask(machine, "GET", "/").status == 200)
        own = ["symvmm", "files", "stopper", "signals", "api-life0", "api-life1", "api-work", "api-loop"]
        before = self.named(machine, own)
        self.done(machine, "PUT", "/metrics", {"metrics_path": self.path("metrics")})
        self.done(machine, "PUT", "/drives/root", {"drive_id": "root", "path_on_host": self.disk("disk"), "is_root_device": False})
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("resetloop", ["COUNT=1"])})
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        started = self.named(machine, [*own, "metrics", "blk0 root", "blk1 root", "symvmm-io", "vcpu0", "symcall-limit"])
        self.assertEqual({number: started[number] for number in before}, before)
        self.check_names(started.values())
        for action in ("FlushMetrics", "Stop", "SendCtrlAltDel"):
            self.ask(machine, "PUT", "/actions", {"action_type": action})
        self.assertEqual(threads(machine.pid), started)
        machine.signal(signal.SIGKILL)
        machine.end()
