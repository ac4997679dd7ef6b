# SPDX-License-Identifier: Apache-2.0
"""virtio-net on tap devices, in a network namespace of the test: pings and data in both directions."""

import hashlib
import os
import subprocess

import vmm

NAMESPACE = f"symvmm-test-{os.getpid()}"
SIZE = 3 << 20


class Network(vmm.SystemTest):
    """The second test uses the guest of the first one."""

    shared = True

    def setUp(self):
        super().setUp()
        if self.home.guest is None:
            self.make_namespace()

    def make_namespace(self):
        # The process number makes the name unique: two runs may overlap.
        vmm.command("ip", "netns", "del", NAMESPACE)
        vmm.checked("ip", "netns", "add", NAMESPACE)
        self.at_end(vmm.command, "ip", "netns", "del", NAMESPACE)
        self.host("ip", "link", "set", "lo", "up")
        for number in (0, 1):
            self.host("ip", "tuntap", "add", f"tap{number}", "mode", "tap")
            self.host("ip", "addr", "add", f"10.77.{number}.1/24", "dev", f"tap{number}")
            self.host("ip", "link", "set", f"tap{number}", "up")

    def host(self, *words, **options):
        return vmm.checked("ip", "netns", "exec", NAMESPACE, *words, **options)

    def boot_networked(self):
        return self.boot(
            "--net", "tap=tap0,mac=52:54:00:12:34:56", "--net", "tap=tap1", "--name", "networked", "--cpus", "2", "--memory", "128M",
            program=["ip", "netns", "exec", NAMESPACE, vmm.SYMVMM],
        ).open_shell()

    def test_two_interfaces_ping_and_carry_data_both_ways(self):
        machine = self.shared_guest(self.boot_networked)
        self.assertEqual(machine.shell("cat /sys/class/net/eth0/address"), "52:54:00:12:34:56")
        derived = machine.shell("cat /sys/class/net/eth1/address")
        self.assertRegex(derived, r"\A52:54(:[0-9a-f]{2}){4}\Z")
        for number in (0, 1):
            machine.shell(f"ip addr add 10.77.{number}.2/24 dev eth{number} && ip link set eth{number} up")
        for number in (0, 1):
            self.assertIn(" 0% packet loss", machine.shell(f"ping -c 3 -W 30 -i 0.2 10.77.{number}.1"))
        self.assertIn(" 0% packet loss", self.host("ping", "-c", "3", "-W", "30", "-i", "0.2", "10.77.0.2"))
        # The largest datagrams, in fragments.
        self.assertIn(" 0% packet loss", machine.shell("ping -c 2 -W 30 -s 20000 10.77.1.1"))
        # Both sides offload segmentation: a frame holds many segments of the link's size.
        before = self.carried("net0")
        self.check_to_the_guest(machine)
        self.assert_segments_together(before, self.carried("net0"), "rx")
        before = self.carried("net1")
        self.check_from_the_guest(machine)
        self.assert_segments_together(before, self.carried("net1"), "tx")
        packets = machine.shell("cat /sys/class/net/eth0/statistics/rx_errors /sys/class/net/eth0/statistics/tx_errors")
        self.assertEqual(packets.split(), ["0", "0"])

    def carried(self, interface):
        """The interface's counters."""
        devices = self.answer("stats", "networked")["devices"]
        return next(device["counters"] for device in devices if device["name"] == f"virtio-net.{interface}")

    def assert_segments_together(self, before, after, way):
        data = after[f"{way}_bytes"] - before[f"{way}_bytes"]
        frames = after[f"{way}_frames"] - before[f"{way}_frames"]
        print(f"{way}: {frames} frames of {data // frames} bytes")
        self.assertGreater(data, SIZE)
        # Ethernet's largest frame without offload has 1514 bytes. How many segments TCP puts into one depends on how fast the other side answers:
        # often two on a busy machine.
        self.assertGreater(data / frames, 1514)

    def check_to_the_guest(self, machine):
        data = os.urandom(SIZE)
        sender = (
            "import socket, sys, time\n"
            "for attempt in range(900):\n"
            "    try:\n"
            "        s = socket.create_connection(('10.77.0.2', 5001), 10)\n"
            "        break\n"
            "    except OSError:\n"
            "        time.sleep(0.2)\n"
            "else:\n"
            "    sys.exit('the guest does not listen')\n"
            "s.settimeout(300)\n"
            "s.sendall(sys.stdin.buffer.read())\n"
            "s.shutdown(socket.SHUT_WR)\n"
            "s.recv(1)\n"
        )
        words = ["ip", "netns", "exec", NAMESPACE, "/usr/bin/python3", "-c", sender]
        with open(self.write("data", data), "rb") as file, subprocess.Popen(words, stdin=file) as process:
            machine.shell("nc -l -p 5001 </dev/null >/tmp/received")
            self.assertEqual(process.wait(vmm.PATIENCE), 0)
        self.assertEqual(machine.shell("sha256sum </tmp/received").split()[0], hashlib.sha256(data).hexdigest())

    def check_from_the_guest(self, machine):
        machine.shell(f"dd if=/dev/urandom of=/tmp/sent bs=64k count={SIZE >> 16} 2>/dev/null")
        # It writes large pieces. nc writes 1 KiB at a time, and what TCP makes of that depends on when the acknowledgements come.
        machine.shell("httpd -p 10.77.1.2:5002 -h /tmp")
        received = self.path("received")
        words = ["--silent", "--show-error", "--fail", "--max-time", "300", "--output", received]
        self.host("curl", *words, "http://10.77.1.2:5002/sent", timeout=310)
        with open(received, "rb") as file:
            self.assertEqual(hashlib.file_digest(file, "sha256").hexdigest(), machine.shell("sha256sum </tmp/sent").split()[0])

    def test_a_derived_mac_depends_on_the_machines_name_alone(self):
        addresses = [self.shared_guest(self.boot_networked).shell("cat /sys/class/net/eth1/address")]
        # A different machine with the same name, and a machine with another name.
        for name in ("networked", "other"):
            machine = self.boot(
                "--net", "tap=tap0", "--net", "tap=tap1", "--name", name, append='symvmm.exec="cat /sys/class/net/eth1/address"',
                program=["ip", "netns", "exec", NAMESPACE, vmm.SYMVMM],
            )
            self.assert_ended(machine, 0)
            addresses.append(vmm.re.search(r"(52:54(:[0-9a-f]{2}){4})", machine.seen).group(1))
        self.assertEqual(addresses[0], addresses[1])
        self.assertNotEqual(addresses[0], addresses[2])
