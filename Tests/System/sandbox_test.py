# SPDX-License-Identifier: Apache-2.0
"""The sandbox of a VM's process: each kind of thread makes the calls of its table and no other, and no file opens that was not named. On any
/dev/kvm. All other system tests run in the sandbox, too: a call outside the table ends the VM, and the test fails."""

import ctypes
import json
import os
import re
import resource
import signal
import stat

import api
import vmm
from threads_test import threads

# The test build makes a call of the test's choice on any thread (Sources/TestServices/TestCall.swift).
PROGRAM = os.path.join(vmm.BUILD, "symvmm-test")
LIBC = ctypes.CDLL(None, use_errno=True)

# Numbers of x86-64.
MMAP, MPROTECT, IOCTL, SOCKET, CLONE, EXECVE, KILL, PTRACE, PRCTL, TGKILL, OPENAT = 9, 10, 16, 41, 56, 59, 62, 101, 157, 234, 257
SETSOCKOPT, FALLOCATE, BPF, PROCESS_VM_READV, USERFAULTFD, IO_URING_SETUP, CLONE3, GETPID, FCNTL = 54, 285, 321, 310, 323, 425, 435, 39, 72
AT_FDCWD = -100
# Requests of ioctl.
KVM_RUN, KVM_CREATE_VM, KVM_IRQ_LINE, KVM_SET_USER_MEMORY_REGION, TUNSETOFFLOAD, TIOCSTI = 0xAE80, 0xAE01, 0x4008AE61, 0x4020AE46, 0x400454D0, 0x5412
BLKGETSIZE64 = 0x80081272
PRIVATE_ANONYMOUS = 0x22
EBADF, EACCES, ESRCH, ENOENT = -9, -13, -3, -2

# Each kind of thread: what its name begins with.
KINDS = {
    "main": "symvmm", "stopper": "stopper", "signals": "signals", "files": "files", "metrics": "metrics", "api-life": "api-life0",
    "api-work": "api-work", "api-loop": "api-loop", "console-out": "console-out", "console-in": "console-in", "blk": "blk0 root", "io": "symvmm-io",
    "vcpu": "vcpu0", "symcall-limit": "symcall-limit", "service": "service-swap",
}


def has_landlock():
    return json.loads(vmm.command(vmm.SYMVMM, "doctor", "--json").stdout)["sandbox"]["landlock_version"] > 0


class SandboxTest(vmm.SystemTest):
    group = "host"
    started = 0

    def setUp(self):
        super().setUp()
        if not os.path.exists(PROGRAM):
            self.skipTest(f"no {PROGRAM}: scripts/build --test")

    def start(self, *call, arguments=()):
        """A VM with a thread of each kind, which makes a call when it gets SIGUSR2."""
        self.started += 1
        name = f"vm{self.started}"
        self.environment["SYMVMM_TEST_CALL"] = " ".join(str(word) for word in call)
        config = {
            "boot-source": {"kernel_image_path": self.assemble("wait")}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 16},
            "drives": [{"drive_id": "root", "path_on_host": self.write("disk.img", bytes(1 << 20))}],
            "swap": {"size_bytes": 16 << 20, "path_on_host": self.path(f"swap{self.started}"), "budget_bytes": 4 << 20},
            "metrics": {"metrics_path": self.path("metrics")}, "logger": {"log_path": self.path("log")},
        }
        file = self.write("vm.json", json.dumps(config))
        machine = self.run_machine("--config", file, "--name", name, "--quiet", *arguments, program=[PROGRAM])
        machine.wait_for(r"\.")
        machine.socket = os.path.join(self.runtime, "symvmm", f"{name}.sock")
        self.wait_until("an answer", lambda: vmm.request(machine.socket, "GET", "/")[0] == 200)
        return machine

    def call_on(self, machine, kind):
        """Makes a thread of this kind make the call."""
        found = [number for number, name in threads(machine.pid).items() if name.startswith(KINDS[kind])]
        if kind == "main":
            found = [machine.pid]
        self.assertEqual(len(found), 1, f"{kind}: {threads(machine.pid)}")
        if LIBC.syscall(TGKILL, machine.pid, found[0], signal.SIGUSR2) != 0:
            raise OSError(ctypes.get_errno(), f"tgkill {kind}")

    def assert_killed(self, kinds, *call):
        """The call ends the process on each of these kinds of threads."""
        for kind in kinds:
            with self.subTest(kind, call=call):
                machine = self.start(*call)
                self.call_on(machine, kind)
                self.assertEqual(machine.end(), -signal.SIGSYS, machine.errors)
                self.assertNotIn("test call:", machine.errors)

    def result_on(self, kind, *call, arguments=()):
        """The result of a call that the table allows. The VM goes on."""
        machine = self.start(*call, arguments=arguments)
        result = self.result_of(machine, kind)
        self.assertIsNone(machine.process.poll())
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130, machine.errors)
        self.assertFalse(os.path.exists(machine.socket))
        return result

    def result_of(self, machine, kind):
        before = machine.errors.count("test call:")
        self.call_on(machine, kind)
        self.wait_until("the call's result", lambda: machine.errors.count("test call:") > before or machine.process.poll() is not None)
        self.assertIsNone(machine.process.poll(), f"{kind}: status {machine.process.poll()}")
        return int(re.findall(r"test call: (-?\d+)\n", machine.errors)[-1])

    def assert_result(self, kinds, expected, *call):
        for kind in kinds:
            with self.subTest(kind, call=call):
                self.assertEqual(self.result_on(kind, *call), expected)


class Calls(SandboxTest):
    def test_each_thread_has_a_filter_and_no_thread_another(self):
        machine = self.start(GETPID)
        for number, name in threads(machine.pid).items():
            # Test builds alone have this thread.
            if name == "test-mover":
                continue
            with open(f"/proc/{machine.pid}/task/{number}/status", encoding="utf-8") as file:
                fields = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
            self.assertEqual((fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()), ("1", "2"), name)
            # One: a thread that inherited its maker's filter would have more.
            self.assertEqual(fields.get("Seccomp_filters", "1").strip(), "1", name)
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_a_socket_ends_the_process_on_each_kind_of_thread(self):
        self.assert_killed(KINDS, SOCKET, 1, 1, 0)

    def test_opening_a_file_ends_the_process_on_each_thread_but_one(self):
        self.assert_killed([kind for kind in KINDS if kind != "files"], OPENAT, AT_FDCWD, "@/dev/null", 0, 0)

    def test_calls_that_no_thread_makes_end_the_process(self):
        for call in (
                (EXECVE, "@/bin/true", 0, 0), (CLONE, 17, 0, 0, 0, 0), (CLONE3, 0, 0), (PTRACE, 0, 0, 0, 0), (PROCESS_VM_READV, "parent", 0, 0, 0, 0),
                (BPF, 0, 0, 0), (USERFAULTFD, 0), (IO_URING_SETUP, 1, 0), (KILL, "parent", 0), (PRCTL, 3, 0, 0, 0, 0), (9999,),
                # The x32 interface's write(2).
                (0x40000001, 2, "@x", 0)):
            self.assert_killed(["vcpu", "blk"], *call)

    def test_no_thread_makes_memory_executable(self):
        self.assert_killed(["vcpu", "api-work", "files"], MMAP, 0, 4096, 7, PRIVATE_ANONYMOUS, -1, 0)
        self.assert_killed(["vcpu", "main"], MPROTECT, 0, 0, 5)
        # Files are not mapped either.
        self.assert_killed(["vcpu"], MMAP, 0, 4096, 1, 2, 0, 0)
        self.assertGreater(self.result_on("vcpu", MMAP, 0, 4096, 3, PRIVATE_ANONYMOUS, -1, 0), 4096)

    def test_each_thread_has_its_own_requests_of_ioctl(self):
        # EBADF: the call was made. There is no such descriptor.
        self.assert_result(["vcpu"], EBADF, IOCTL, -1, KVM_RUN, 0)
        self.assert_result(["vcpu", "api-life", "signals", "main"], EBADF, IOCTL, -1, KVM_IRQ_LINE, 0)
        self.assert_result(["io"], EBADF, IOCTL, -1, TUNSETOFFLOAD, 0)
        self.assert_result(["io"], EBADF, IOCTL, -1, KVM_SET_USER_MEMORY_REGION, 0)
        self.assert_result(["files"], EBADF, IOCTL, -1, BLKGETSIZE64, 0)
        self.assert_killed(["io", "api-life", "files"], IOCTL, -1, KVM_RUN, 0)
        self.assert_killed(["vcpu", "api-work"], IOCTL, -1, KVM_SET_USER_MEMORY_REGION, 0)
        self.assert_killed(["vcpu", "io", "main"], IOCTL, -1, KVM_CREATE_VM, 0)
        self.assert_killed(["main", "console-in"], IOCTL, 0, TIOCSTI, "@x")
        self.assert_killed(["blk", "api-loop"], IOCTL, -1, 0, 0)
        # The upper half of the number is compared as well.
        self.assert_killed(["vcpu"], IOCTL, -1, KVM_RUN | 1 << 32, 0)

    def test_signals_go_only_to_threads_of_the_process(self):
        self.assert_result(["vcpu", "symcall-limit"], 0, TGKILL, "self", "self", 0)
        self.assert_killed(["vcpu", "api-life", "main"], TGKILL, "parent", "parent", 0)

    def test_a_disk_changes_no_size_by_fallocate(self):
        self.assert_result(["blk"], EBADF, FALLOCATE, -1, 3, 0, 4096)
        self.assert_killed(["blk"], FALLOCATE, -1, 0, 0, 4096)
        self.assert_killed(["vcpu", "service"], FALLOCATE, -1, 3, 0, 4096)

    def test_no_program_is_attached_to_a_socket(self):
        # SO_ATTACH_FILTER.
        self.assert_killed(["api-loop", "main"], SETSOCKOPT, -1, 1, 26, 0, 0)

    def test_a_call_of_serves_threads_ends_the_process(self):
        # The API's thread builds the machine there, and confines itself at the start.
        self.environment["SYMVMM_TEST_CALL"] = f"{SOCKET} 1 1 0"
        for kind in ("api-work", "main", "vcpu"):
            with self.subTest(kind):
                machine = vmm.Machine(self, ["--name", kind, "--quiet"], command="serve", program=[PROGRAM])
                path = os.path.join(self.runtime, "symvmm", f"{kind}.sock")
                self.wait_until("the API", lambda path=path: os.path.exists(path))
                self.assertEqual(api.request(path, "PUT", "/boot-source", {"kernel_image_path": self.assemble("wait")}).status, 204)
                self.assertEqual(api.request(path, "PUT", "/actions", {"action_type": "InstanceStart"}).status, 204)
                self.call_on(machine, kind)
                self.assertEqual(machine.end(), -signal.SIGSYS, machine.errors)


class Modes(SandboxTest):
    def log(self):
        with open(self.path("log"), encoding="utf-8") as file:
            return file.read()

    def column(self, machine):
        """What `ps` says of the machine's sandbox."""
        lines = [line.split() for line in self.table().splitlines()]
        place = lines[0].index("SANDBOX")
        return next(line[place] for line in lines if line[1] == str(machine.pid))

    def test_the_sandbox_is_on_without_an_option(self):
        machine = self.start(GETPID)
        self.assertEqual(self.column(machine), "on")
        self.assertIn("the sandbox is on", self.log())
        self.assertEqual(self.listed()[0]["sandbox"], "on")
        self.assertEqual(self.result_of(machine, "vcpu"), machine.pid)
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_off_is_seen_and_lets_every_call_pass(self):
        machine = self.start(SOCKET, 1, 1, 0, arguments=["--sandbox", "off"])
        self.assertEqual(self.column(machine), "off")
        self.assertIn("the sandbox is off", self.log())
        self.assertGreaterEqual(self.result_of(machine, "vcpu"), 0)
        with open(f"/proc/{machine.pid}/status", encoding="utf-8") as file:
            self.assertIn("Seccomp:\t0", file.read())
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_log_reports_each_call_once_and_makes_it(self):
        machine = self.start(SOCKET, 1, 1, 0, arguments=["--sandbox", "log"])
        self.assertEqual(self.column(machine), "log")
        self.assertEqual(machine.errors, "")
        for _ in range(2):
            self.assertGreaterEqual(self.result_of(machine, "vcpu"), 0)
        self.assertGreaterEqual(self.result_of(machine, "api-loop"), 0)
        lines = [line for line in machine.errors.splitlines() if "sandbox" in line]
        self.assertEqual(len(lines), 2, machine.errors)
        self.assertIn("thread 'vcpu0' (role vcpu) calls socket (number 41), which its table does not allow: 0x1 0x1 0x0", lines[0])
        self.assertIn("(role api-loop) calls socket (number 41)", lines[1])
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130)
        # A run of the VM needs no other call.
        self.assertEqual(len([line for line in machine.errors.splitlines() if "sandbox" in line]), 2, machine.errors)

    def test_the_configuration_file_chooses_the_mode_and_an_option_overrides_it(self):
        config = {"boot-source": {"kernel_image_path": self.assemble("wait")}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 16}, "sandbox": "off"}
        file = self.write("off.json", json.dumps(config))
        for name, options, expected in (("file", [], "off"), ("option", ["--sandbox", "on"], "on")):
            machine = self.run_machine("--config", file, "--name", name, "--quiet", *options)
            self.wait_until_running(name)
            self.assertEqual(self.column(machine), expected)
            path = os.path.join(self.runtime, "symvmm", f"{name}.sock")
            self.assertEqual(vmm.request(path, "GET", "/vm/config")[1]["sandbox"], expected)
            machine.signal(signal.SIGKILL)
            machine.end()
        config["sandbox"] = "maybe"
        result = self.symvmm("run", "--config", self.write("bad.json", json.dumps(config)))
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)
        self.assertIn("'maybe' is not one of on, off, log", result.stderr)

    def test_wrong_options_are_refused(self):
        kernel = self.assemble("wait")
        for options in (["--sandbox", "maybe"], ["--allow-folder", self.path("none")], ["--allow-folder", kernel]):
            result = self.symvmm("run", "--kernel", kernel, "--quiet", *options)
            self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)
            self.assertIn(options[0].removeprefix("--"), result.stderr)
        self.assert_nothing_left()

    def test_doctor_says_what_the_host_offers(self):
        sandbox = json.loads(self.symvmm("doctor", "--json").stdout)["sandbox"]
        self.assertTrue(sandbox["seccomp_filters"])
        self.assertIsInstance(sandbox["landlock_version"], int)
        words = f"Landlock version {sandbox['landlock_version']}" if sandbox["landlock_version"] else "no Landlock"
        self.assertRegex(self.symvmm("doctor").stdout, f"(?m)^sandbox +seccomp filters, {words}$")


class Files(SandboxTest):
    """What the only thread that opens files may open."""

    def need_landlock(self):
        if not has_landlock():
            self.skipTest("this kernel has no Landlock: symvmm doctor")

    def test_landlock_refuses_files_that_were_not_named(self):
        self.need_landlock()
        folder = self.path("allowed")
        os.mkdir(folder)
        for name in ("allowed/inside", "outside"):
            self.write(name, b"x")
        options = ["--allow-folder", folder]
        self.assertEqual(self.result_on("files", OPENAT, AT_FDCWD, "@/etc/passwd", 0, 0, arguments=options), EACCES)
        self.assertEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{self.path('outside')}", 0, 0, arguments=options), EACCES)
        # To make a file, and to write to one.
        self.assertEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{self.path('new')}", 0o101, 0o600, arguments=options), EACCES)
        self.assertFalse(os.path.exists(self.path("new")))
        self.assertGreaterEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{folder}/inside", 2, 0, arguments=options), 0)
        self.assertGreaterEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{folder}/new", 0o101, 0o600, arguments=options), 0)
        # A folder is not read.
        self.assertEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{folder}", 0o200000, 0, arguments=options), EACCES)
        # What was configured stays allowed.
        self.assertGreaterEqual(self.result_on("files", OPENAT, AT_FDCWD, f"@{self.path('disk.img')}", 2, 0), 0)
        # Without Landlock rules, it may open what its user may.
        self.assertGreaterEqual(self.result_on("files", OPENAT, AT_FDCWD, "@/etc/passwd", 0, 0, arguments=["--sandbox", "log"]), 0)

    def test_the_file_threads_fcntl_has_its_commands(self):
        self.assert_result(["files"], EBADF, FCNTL, -1, 37, 0)
        # F_SETOWN: signals for other processes.
        self.assert_killed(["files"], FCNTL, -1, 8, 1)


class Requests(api.ServeTest):
    def disk(self, name):
        return self.write(name, bytes(1 << 20))

    def served(self, *arguments):
        machine = self.serve("--console", "none", *arguments)
        self.done(machine, "PUT", "/drives/root", {"drive_id": "root", "path_on_host": self.disk("first")})
        self.done(machine, "PUT", "/logger", {"log_path": self.path("log")})
        self.start(machine, guest="wait")
        return machine

    def change(self, path):
        return {"drive_id": "root", "path_on_host": path}

    def test_a_drive_or_log_outside_the_folders_is_refused(self):
        folder = self.path("allowed")
        os.mkdir(folder)
        machine = self.served("--allow-folder", folder)
        inside = self.disk("allowed/second")
        outside = self.disk("outside")
        os.symlink(outside, self.path("allowed/link"))
        for path in (outside, "/etc/passwd", self.path("none"), f"{folder}/../outside", self.path("allowed/link"), f"{folder}x"):
            self.refused(machine, "PATCH", "/drives/root", self.change(path), "drive 'root'", path, "--allow-folder")
            self.refused(machine, "PUT", "/logger", {"log_path": path}, "log_path", path, "--allow-folder")
        self.assertFalse(os.path.exists(self.path("none")))
        self.done(machine, "PATCH", "/drives/root", self.change(inside))
        self.assertEqual(self.ask(machine, "GET", "/vm/config").value["drives"][0]["path_on_host"], inside)
        self.assertEqual(self.ask(machine, "GET", "/vm/config").value["allowed_folders"], [folder])
        # Back to the first: it was configured at the start.
        self.done(machine, "PATCH", "/drives/root", self.change(self.path("first")))
        self.done(machine, "PUT", "/logger", {"log_path": f"{folder}/log"})
        self.assertTrue(stat.S_ISREG(os.stat(f"{folder}/log").st_mode))
        self.done(machine, "PUT", "/logger", {"log_path": self.path("log")})
        machine.signal(signal.SIGTERM)
        self.assert_ended(machine, 130)

    def test_without_folders_only_configured_files_open(self):
        machine = self.served()
        self.refused(machine, "PATCH", "/drives/root", self.change(self.disk("second")), "--allow-folder")
        # The same file again: its size is read.
        with open(self.path("first"), "ab") as file:
            file.truncate(2 << 20)
        self.done(machine, "PATCH", "/drives/root", self.change(self.path("first")))
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_with_the_sandbox_off_any_file_opens(self):
        machine = self.served("--sandbox", "off")
        self.done(machine, "PATCH", "/drives/root", self.change(self.disk("second")))
        self.done(machine, "PUT", "/logger", {"log_path": self.path("other")})
        machine.signal(signal.SIGKILL)
        machine.end()


class Limits(vmm.SystemTest):
    group = "host"

    def test_files_have_a_longest_length(self):
        disk = self.write("disk.img", bytes(1 << 20))
        machine = self.tiny("wait", "--name", "limited", "--disk", disk, "--quiet")
        self.wait_until_running("limited")
        with open(f"/proc/{machine.pid}/limits", encoding="utf-8") as file:
            line = next(line for line in file if line.startswith("Max file size"))
        self.assertEqual(line.split()[3:5], [str(64 << 30)] * 2)
        machine.signal(signal.SIGKILL)
        machine.end()

    def test_a_write_beyond_the_limit_does_not_end_the_vm(self):
        # The console's file reaches the limit: its output is dropped, and the guest goes on to its end.
        console = self.path("console")
        disk = f"{self.write('disk.img', bytes(1 << 20))},id=root"
        machine = self.tiny(
            "readloop", "--disk", disk, "--console", f"file:{console},limit=0", "--quiet", defines=["COUNT=1"],
            # A soft limit counts, too.
            preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2, resource.RLIM_INFINITY)))
        self.assert_ended(machine, 0)
        self.assertEqual(os.stat(console).st_size, 2)
        self.assertIn("bytes of console output were dropped", machine.errors)
