# SPDX-License-Identifier: Apache-2.0
"""What a person meets in daily use: signals, FIFOs without readers, stopped processes, images in other formats, ways to reboot, messages. On any
/dev/kvm."""

import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import termios

import api
import vmm

# fcntl(2): sets the capacity of a pipe.
F_SETPIPE_SZ = 1031


def waiting_bytes(pipe):
    """Bytes that a pipe holds."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


class Signals(vmm.SystemTest):
    group = "host"

    def test_a_file_size_limit_ends_no_guest(self):
        log = self.path("console.log")
        machine = self.tiny(
            "echo", "--quiet", "--name", "limited", "--console", f"file:{log}",
            preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3)))
        self.wait_until("the file is full", lambda: os.path.exists(log) and os.path.getsize(log) == 3)
        self.wait_until_running("limited")
        # The guest has written all of it when it waits for input.
        self.wait_until("the guest reads", lambda: self.answer("stats", "limited", "--reason", "pio_read")["exit_count"] > 0)
        self.assertEqual(self.symvmm("kill", "limited").returncode, 0)
        self.assert_ended(machine, 130)
        self.assertRegex(machine.errors, r"symvmm: \d+ bytes of console output were dropped")

    def test_a_file_size_limit_is_an_error_of_the_disk(self):
        guest = self.path("virtio")
        vmm.checked("make", "-s", "-C", os.path.join(vmm.ROOT, "guest", "tests", "virtio"), f"OUTPUT={guest}")
        disk = self.path("disk.img")
        with open(disk, "wb") as file:
            file.truncate(2048 * 512)
        machine = self.run_machine(
            "--kernel", os.path.join(guest, "virtio.elf"), "--memory", "128M", "--disk", f"{disk},id=disk", "--quiet", "--name", "full",
            "--console", "none", "--stats-file", "/dev/stdout", preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)))
        self.assertEqual(machine.end(), 0, machine.errors)
        devices = {device["name"]: device["counters"] for device in json.loads(machine.seen)["devices"]}
        self.assertGreater(devices["virtio-blk.disk"]["host_errors"], 0)

    def test_signals_that_do_not_ask_for_the_end_end_no_guest(self):
        machine = self.tiny("echo", "--quiet", "--name", "calm")
        machine.wait_for("ready")
        ended = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGXCPU, signal.SIGKILL)
        faults = (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS)
        stops = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
        for number in sorted(signal.valid_signals()):
            if number in (*ended, *faults, *stops) or number in (32, 33):
                continue
            machine.signal(number)
            machine.send(f"s{int(number)} ")
            machine.wait_for(f"S{int(number)} ")
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_the_processor_time_limit_asks_for_the_end(self):
        machine = self.tiny("wait", "--quiet", "--name", "costly")
        self.wait_until_running("costly")
        machine.signal(signal.SIGXCPU)
        self.assert_ended(machine, 130)

    def test_serve_ended_by_a_signal_before_the_start(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            machine = vmm.Machine(self, ["--name", "early", "--quiet"], command="serve")
            self.wait_until_running("early")
            machine.signal(number)
            self.assert_ended(machine, 0)


class Ends(vmm.SystemTest):
    group = "host"

    def count(self, *arguments, **options):
        return self.tiny("count", "--quiet", *arguments, defines=["COUNT=1", "READS=1"], **options)

    def test_a_statistics_fifo_without_a_reader(self):
        fifo = self.path("stats.fifo")
        os.mkfifo(fifo)
        machine = self.count("--stats-file", fifo)
        self.assert_ended(machine, 3)
        self.assertIn("the FIFO has no reader", machine.errors)

    def test_a_statistics_fifo_whose_reader_reads_nothing_yields_to_a_signal(self):
        fifo = self.path("stats.fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        # Less room than the report needs.
        fcntl.fcntl(reader, F_SETPIPE_SZ, 4096)
        machine = self.count("--stats-file", fifo, "--name", "stuck")
        self.wait_until("the FIFO is full", lambda: machine.process.poll() is not None or waiting_bytes(reader) == 4096)
        self.assertEqual(waiting_bytes(reader), 4096, machine.errors)
        self.assertEqual(self.listed()[0]["state"], "Ended")
        machine.signal(signal.SIGTERM)
        # Without the signal, it gives up after 10 s, with status 3.
        self.assertEqual(machine.end(), 130)
        self.assert_nothing_left()

    def test_a_statistics_fifo_with_a_reader_gets_the_report(self):
        fifo = vmm.Fifo(self.path("stats.fifo"))
        machine = self.count("--stats-file", fifo.path, "--name", "read")
        self.assert_ended(machine, 0)
        self.assertEqual(json.loads(fifo.text())["name"], "read")

    def test_statistics_on_standard_output(self):
        target = self.path("out")
        with open(target, "wb") as file:
            result = subprocess.run(
                [vmm.SYMVMM, "run", "--kernel", self.assemble("count", ["COUNT=1", "READS=1"]), "--quiet", "--stats-file", "/dev/stdout",
                 "--console", "none"], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, env=self.environment,
                timeout=vmm.PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(os.path.islink("/dev/stdout"))
        with open(target, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["vcpus"][0]["vcpu"], 0)

    def test_a_stopped_process_is_seen_and_killed(self):
        for command in ("kill", "stop"):
            machine = self.tiny("wait", "--quiet", "--name", "stopped")
            self.wait_until_running("stopped")
            machine.signal(signal.SIGSTOP)
            self.wait_until("it is stopped", lambda: self.answer("ps")[0]["state"] == "Stopped")
            self.assertEqual(self.answer("ps")[0]["pid"], machine.pid)
            self.assertEqual(self.answer(command, "stopped"), {"name": "stopped", "result": "killed"})
            self.assertEqual(machine.end(), -signal.SIGKILL)
            self.assert_nothing_left()

    def test_a_stopped_process_with_its_own_socket_leaves_nothing(self):
        path = self.path("own.sock")
        machine = self.tiny("wait", "--quiet", "--name", "own", "--api-socket", path)
        self.wait_until_running("own")
        self.assertEqual(self.answer("ps")[0]["socket"], path)
        machine.signal(signal.SIGSTOP)
        self.assertEqual(self.symvmm("kill", "own").returncode, 0)
        machine.end()
        self.assertFalse(os.path.lexists(path))
        self.assert_nothing_left()

    def test_commands_take_several_names(self):
        machines = [self.tiny("wait", "--quiet", "--name", name) for name in ("one", "two", "three")]
        for name in ("one", "two", "three"):
            self.wait_until_running(name)
        self.assertEqual(
            self.answer("pause", "one", "two"), [{"name": "one", "result": "paused"}, {"name": "two", "result": "paused"}])
        self.assertEqual([line["state"] for line in self.listed()], ["Paused", "Running", "Paused"])
        result = self.symvmm("resume", "one", "nobody", "two")
        self.assertEqual((result.returncode, result.stdout), (2, "one: resumed\ntwo: resumed\n"))
        self.assertIn("no VM named 'nobody'", result.stderr)
        self.assertEqual(self.symvmm("stop", "one", "two").returncode, 0)
        self.assertEqual(self.symvmm("kill", "three").returncode, 0)
        for machine in machines:
            self.assert_ended(machine, 130)


class Reboots(vmm.SystemTest):
    group = "host"

    def test_ways_to_reset_the_machine(self):
        for way in (1, 2, 3):
            machine = self.tiny("reboot", "--quiet", defines=[f"WAY={way}"])
            self.assert_ended(machine, 0)
            self.assertEqual(machine.errors, "")


class Images(vmm.SystemTest):
    group = "host"

    HEADERS = {
        "qcow2": (0, b"QFI\xfb"), "VHD": (0, b"conectix"), "VHDX": (0, b"vhdxfile"), "VMDK": (0, b"KDMV"), "QED": (0, b"QED\0"),
        "VDI": (64, b"\x7f\x10\xda\xbe"),
    }

    def image(self, offset, mark, name="disk.img"):
        data = bytearray(1 << 20)
        data[offset:offset + len(mark)] = mark
        return self.write(name, bytes(data))

    def boot_with(self, disk):
        return self.tiny("count", "--quiet", "--disk", disk, defines=["COUNT=1", "READS=1"])

    def test_images_in_other_formats_are_refused(self):
        for name, (offset, mark) in [*self.HEADERS.items(), ("VHD", ((1 << 20) - 512, b"conectix"))]:
            path = self.image(offset, mark)
            machine = self.boot_with(path)
            self.assert_ended(machine, 2)
            self.assertEqual(len(machine.errors.splitlines()), 1, machine.errors)
            for word in (f"a {name} image", "qemu-img convert", "format=raw", path):
                self.assertIn(word, machine.errors)
            self.assert_ended(self.boot_with(f"{path},format=raw"), 0)
            self.assert_ended(self.boot_with(f"{path},format=raw,readonly"), 0)

    def test_a_real_qcow2_image(self):
        path = self.path("real.qcow2")
        if vmm.command("sh", "-c", "command -v qemu-img").returncode != 0:
            self.skipTest("no qemu-img")
        vmm.checked("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
        machine = self.boot_with(path)
        self.assert_ended(machine, 2)
        self.assertIn("a qcow2 image", machine.errors)

    def test_a_header_elsewhere_is_contents(self):
        self.assert_ended(self.boot_with(self.image(512, b"QFI\xfb")), 0)

    def test_the_formats_that_there_are(self):
        machine = self.boot_with(f"{self.image(0, b'')},format=qcow2")
        self.assert_ended(machine, 2)
        self.assertIn("'qcow2' is not an image format", machine.errors)

    def test_a_comma_in_a_name(self):
        path = self.image(0, b"", name="a,b,,c.img")
        self.assert_ended(self.boot_with(path.replace(",", ",,") + ",readonly"), 0)
        machine = self.boot_with(path)
        self.assert_ended(machine, 2)
        self.assertIn("write a comma in the file's name twice", machine.errors)

    def test_one_file_for_two_drives(self):
        path = self.image(0, b"")
        again = self.path("link.img")
        os.link(path, again)
        machine = self.tiny("count", "--quiet", "--disk", f"{path},id=a", "--disk", f"{again},id=b", defines=["COUNT=1", "READS=1"])
        self.assert_ended(machine, 2)
        self.assertIn("drive 'a' of this VM is the same file", machine.errors)
        machine = self.tiny(
            "count", "--quiet", "--disk", f"{path},readonly", "--disk", f"{again},readonly", defines=["COUNT=1", "READS=1"])
        self.assert_ended(machine, 0)


class ImagesOverTheAPI(api.ServeTest):
    def test_images_in_other_formats_over_the_api(self):
        machine = self.serve()
        path = self.write("disk.qcow2", b"QFI\xfb" + bytes((1 << 20) - 4))
        raw = self.write("raw.img", bytes(1 << 20))
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("echo")})
        drive = {"drive_id": "d", "path_on_host": path}
        self.done(machine, "PUT", "/drives/d", drive)
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "qcow2", "format=raw")
        self.done(machine, "PUT", "/drives/d", {**drive, "path_on_host": raw})
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        self.refused(machine, "PATCH", "/drives/d", drive, "qcow2", "format=raw")
        self.done(machine, "PATCH", "/drives/d", {**drive, "path_on_host": raw})
        machine.send(".")
        self.assert_ended(machine, 0)


class HTTP(api.ServeTest):
    def setUp(self):
        super().setUp()
        self.machine = self.serve()

    def tearDown(self):
        self.symvmm("kill", "served")

    def half_closed(self, data):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(vmm.PATIENCE)
            connection.connect(self.machine.socket)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def test_a_client_that_closes_its_side_gets_its_answer(self):
        for _ in range(50):
            self.assertRegex(self.half_closed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), rb"\AHTTP/1\.1 200 ")
        answers = self.half_closed(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        self.assertEqual(answers.count(b"HTTP/1.1 200 "), 20)

    def test_answers_come_before_the_error_for_junk(self):
        for _ in range(20):
            answers = api.exchange(self.machine.socket, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"junk\r\n\r\n")
            self.assertEqual([part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]], [b"200", b"200", b"400"])

    def test_a_body_that_ends_early(self):
        head = b"PUT /boot-source HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        self.assertRegex(self.half_closed(head), rb"\AHTTP/1\.1 400 ")
        self.assertRegex(self.half_closed(b"GET / HTT"), rb"\A(HTTP/1\.1 400 |\Z)")
        self.assertEqual(self.half_closed(b""), b"")

    def test_a_client_that_expects_to_continue(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(vmm.PATIENCE)
            connection.connect(self.machine.socket)
            body = b'{"vcpu_count": 1, "mem_size_mib": 64}'
            connection.sendall(
                b"PUT /machine-config HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertRegex(connection.recv(4096), rb"\AHTTP/1\.1 100 Continue\r\n(.*\r\n)?\r\n\Z")
            connection.sendall(body)
            self.assertRegex(connection.recv(4096), rb"\AHTTP/1\.1 204 ")

    def test_absolute_targets_and_old_clients(self):
        answer = api.exchange(self.machine.socket, b"GET http://localhost/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b'"vmm_version"', answer)
        answer = api.exchange(self.machine.socket, b"GET http://localhost HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b'"app_name"', answer)
        request = b"GET /version HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        answers = api.exchange(self.machine.socket, request + b"GET /version HTTP/1.0\r\n\r\n")
        self.assertEqual(answers.count(b'"vmm_version"'), 2)
        self.assertIn(b"connection: keep-alive", answers.lower())


class Messages(vmm.SystemTest):
    group = "host"

    def said(self, *words):
        result = self.symvmm(*words)
        self.assertEqual((result.returncode, result.stdout), (2, ""), words)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        return result.stderr

    def test_what_the_user_may_have_meant(self):
        self.assertIn("did you mean '--memory'?", self.said("run", "--mem", "1G"))
        self.assertIn("did you mean '--kernel'?", self.said("run", "--kernle", "x"))
        self.assertNotIn("mean", self.said("run", "--zzzzzz", "x"))
        self.assertIn("there is no command 'rnu': did you mean 'run'?", self.said("rnu", "--kernel", "x"))
        self.assertIn("did you mean 'resume'?", self.said("resum"))
        self.assertIn("there is no command 'nope'", self.said("help", "nope"))
        self.assertEqual(self.symvmm("help", "run").returncode, 0)

    def test_values_that_begin_with_a_hyphen(self):
        kernel = self.assemble("count", ["COUNT=1", "READS=1"])
        self.assertIn("'-1' is not a size", self.said("run", "--kernel", kernel, "--memory", "-1"))
        self.assertIn("--cpus: ", self.said("run", "--kernel", kernel, "--cpus", "-1"))
        machine = self.run_machine("--kernel", kernel, "--append", "--x", "--quiet")
        self.assert_ended(machine, 0)

    def test_sizes_with_a_fraction(self):
        kernel = self.assemble("count", ["COUNT=1", "READS=1"])
        for text, whole in (("1.5G", "1536M"), ("0.5G", "512M"), ("2.0G", "2G"), ("1.25M", "1280K")):
            self.assertIn(f"write {whole}", self.said("run", "--kernel", kernel, "--memory", text))
        for text in ("1.3G", "1.5", ".5G", "1..5G", "1.5X", "9999999999.5G", "1.5E"):
            self.assertIn("is not a", self.said("run", "--kernel", kernel, "--memory", text))

    def test_where_the_api_is(self):
        machine = vmm.Machine(self, ["--name", "spoken"], command="serve")
        path = os.path.join(self.runtime, "symvmm", "spoken.sock")
        machine.wait_for(f"symvmm: the API is at {path}\n", where="errors")
        self.wait_until_running("spoken")
        self.assertEqual(self.answer("ps")[0]["socket"], path)
        self.assertRegex(self.table(), rf"(?m)^NAME .* SOCKET$\n^spoken .* {path}$")
        self.symvmm("kill", "spoken")
        self.assert_ended(machine, 0)


class APIMessages(api.ServeTest):
    def test_no_doubled_colons(self):
        machine = self.serve()
        for body in (b"1.5", b'"x"', b"[]", b"{", b"null", b'{"a": 1}', b'"\\u0000"', b"1e400"):
            answer = api.request(machine.socket, "PUT", "/boot-source", body)
            self.assertEqual(answer.status, 400, body)
            self.assertNotIn("::", answer.fault, body)
        self.symvmm("kill", "served")
