# SPDX-License-Identifier: Apache-2.0
"""Guests with the test build of symbiotic.ko, and symcalls into them. For the tests beside this file."""

import json
import os
import socket

import vmm

# The full length of the stress tests, which take hours.
FULL = os.environ.get("SYMVMM_STRESS", "") not in ("", "0")
# Messages that a healthy kernel does not log.
COMPLAINTS = r"WARNING: CPU|BUG:|Oops|Call Trace|soft lockup|hard LOCKUP|general protection|rcu.*stall|leaked|keeps 0x|segfault|hung_task"
# Reasons to refuse a symcall while the guest loads and unloads the module.
PASSING = ("the guest has not loaded symbiotic.ko", "the guest's module is being unloaded", "the vCPU is not armed", "does not have this symcall")


class Refused(Exception):
    """The API refused a request."""


class SymbioticTest(vmm.SystemTest):
    """A test with a symbiotic guest called "sym"."""

    TEST = "/sys/kernel/debug/symbiotic/test"

    def start_guest(self, cpus=1, flavour="cloud-6.1", append="", ping_inside=False, module=True, options=(), test_build=False):
        if ping_inside:
            self.environment["SYMVMM_PING_ON_TEST_DOORBELL"] = "1"
        program = [vmm.SYMVMM + "-test"] if ping_inside or test_build else None
        image = os.path.join(vmm.BUILD, "guest", f"symbiotic-test-{flavour}.cpio") if module else vmm.initramfs(flavour)
        machine = self.run_machine(
            "--name", "sym", "--cpus", cpus, "--memory", "256M", "--kernel", vmm.kernel(flavour), "--initrd", image,
            "--append", f"console=ttyS0 reboot=k panic=1 quiet {append}".strip(), "--quiet", *options, program=program,
        )
        machine.open_shell()
        return machine

    def guest(self, *words, **options):
        """The same, shared by the tests of a class."""
        before = self.home.guest
        machine = self.shared_guest(self.start_guest, *words, **options)
        if machine is before:
            # This test must not see messages that an earlier test caused.
            machine.shell("dmesg -c >/dev/null")
        return machine

    def http(self, method, resource, body=None):
        """Makes one request to the machine's API; returns the value of the answer."""
        text = json.dumps(body) if body is not None else ""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(vmm.PATIENCE)
            connection.connect(os.path.join(self.runtime, "symvmm", "sym.sock"))
            head = f"{method} {resource} HTTP/1.1\r\nHost: symvmm\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall((head + text).encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, content = answer.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            content = b"".join(content.split(b"\r\n")[1::2])
        content = json.loads(content) if content else None
        if int(head.split()[1]) >= 300:
            raise Refused(content.get("fault_message", str(content)))
        return content

    def ask(self, call, **fields):
        return self.http("PUT", "/symcalls", {"call": call, **fields})

    def refusal(self, call, **fields):
        """The reason why a symcall is refused; None if it is made."""
        try:
            self.ask(call, **fields)
        except Refused as error:
            return str(error)
        return None

    def pings(self, count, vcpu=None):
        """Makes `count` PINGs one after the other on random vCPUs, which must all be answered; returns their mean time in microseconds."""
        left, time = count, 0
        while left > 0:
            fields = {"repeat": min(left, 5000)} | ({} if vcpu is None else {"vcpu": vcpu})
            series = self.ask("ping", **fields)
            self.assertEqual(series["wrong"], 0)
            self.assertEqual(series["refused"], {})
            self.assertEqual(series["answered"], series["made"])
            left -= series["made"]
            time += series["total_ns"]
        return time / count / 1000

    def passing_pings(self, count):
        """The same while the guest loads and unloads the module; returns how many were answered."""
        series = self.ask("ping", repeat=count)
        self.assertEqual(series["wrong"], 0)
        for reason in series["refused"]:
            self.assertTrue(any(part in reason for part in PASSING), reason)
        self.assertEqual(series["answered"] + sum(series["refused"].values()), series["made"])
        return series["answered"]

    def counters(self):
        return self.http("GET", "/symcalls")["counters"]

    def outs(self):
        """The number of OUTs to the port without a device."""
        rows = [row for row in self.answer("stats", "sym")["exits"] if row["reason"] == "pio_write" and row.get("address") == 0x505]
        return sum(row["count"] for row in rows)

    def order(self, machine, command, *words):
        """Gives a command to the module's test build; returns its result."""
        text = " ".join(map(str, (command, *words)))
        return machine.shell(f"echo {text} >{self.TEST}; cat {self.TEST}")

    def assert_healthy(self, machine):
        self.assertEqual(machine.shell(f"dmesg | grep -E '{COMPLAINTS}'; true"), "")
        self.assertEqual(machine.shell("echo $((6 * 7))"), "42")

    def power_off(self, machine):
        machine.send("poweroff -f\n")
        self.assert_ended(machine, 0)
