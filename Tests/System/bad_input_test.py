# SPDX-License-Identifier: Apache-2.0
"""Wrong input causes one clear line and the right exit status, and leaves nothing behind. On any /dev/kvm."""

import os
import shutil
import signal
import stat
import subprocess

import vmm

NOBODY = 65534


class BadInput(vmm.SystemTest):
    group = "host"

    def refused(self, status, words, *arguments, program=None, kernel=True):
        """Checks that symvmm run exits at once with this status and one line with these words, and leaves nothing behind."""
        before = sorted(os.listdir(self.folder))
        options = ["--kernel", self.good_kernel] if kernel else []
        machine = self.run_machine(*options, *arguments, program=program)
        self.assertEqual(machine.end(), status, f"exit status; it said: {machine.errors.strip()[-400:]}")
        lines = machine.errors.splitlines()
        self.assertEqual(len(lines), 1, f"one line, not: {machine.errors}")
        self.assertTrue(lines[0].startswith("symvmm: "), lines[0])
        for word in words if isinstance(words, tuple) else (words,):
            self.assertIn(word, lines[0])
        self.assertEqual(machine.seen, "")
        self.assert_nothing_left()
        after = sorted(os.listdir(self.folder))
        self.assertEqual(before, after, "files left behind")
        return machine

    def setUp(self):
        super().setUp()
        self.good_kernel = self.assemble("count", ["COUNT=1", "READS=1"])

    def linux(self, *arguments):
        return ("--kernel", vmm.kernel(), *arguments)

    def test_no_kernel_given(self):
        self.refused(2, "--kernel", kernel=False)

    def test_no_such_kernel(self):
        self.refused(2, ("/no/such/kernel", "No such file"), "--kernel", "/no/such/kernel", kernel=False)

    def test_control_characters_in_arguments(self):
        self.refused(2, "/no?[2J?such", "--kernel", "/no\x1b[2J\nsuch", kernel=False)
        self.refused(2, "/no?such", "--config", "/no\nsuch")
        self.refused(2, "a?[2J", "--name", "a\x1b[2J")
        self.refused(2, "--bad?[2J", "--bad\x1b[2J")

    def test_closed_standard_descriptors(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            wrapper = ["sh", "-c", f'exec "$@" {closed}', "sh", vmm.SYMVMM]
            machine = self.tiny("wait", "--quiet", "--name", "closed", program=wrapper)
            self.wait_until_running("closed")
            for number in (0, 1, 2):
                target = os.readlink(f"/proc/{machine.pid}/fd/{number}")
                self.assertNotRegex(target, "kvm|eventfd|eventpoll", f"{closed}: descriptor {number}")
                if closed.startswith("<&- >&-"):
                    self.assertEqual(target, "/dev/null")
            self.symvmm("kill", "closed")
            self.assertEqual(machine.end(), 130)
        for words in ("ps", "--version", "run --help"):
            result = vmm.command("sh", "-c", 'exec "$@" >&-', "sh", vmm.SYMVMM, *words.split(), env=self.environment)
            self.assertEqual(result.returncode, 3, words)
            self.assertRegex(result.stderr, r"\Asymvmm: write to standard output: Bad file descriptor\n\Z")

    def test_a_kernel_that_is_a_folder(self):
        self.refused(2, self.folder, "--kernel", self.folder, kernel=False)

    def test_a_kernel_that_is_a_text_file(self):
        path = self.write("kernel.txt", "Once upon a time\n" * 100)
        self.refused(2, "text file", "--kernel", path, kernel=False)

    def test_a_kernel_that_is_empty(self):
        self.refused(2, "empty", "--kernel", self.write("kernel", ""), kernel=False)

    def test_a_kernel_of_random_bytes(self):
        self.refused(2, "not a kernel", "--kernel", self.write("kernel", bytes(range(256)) * 64), kernel=False)

    def test_truncated_bzimages(self):
        with open(vmm.kernel(), "rb") as file:
            image = file.read()
        # The boot protocol's setup_sects and syssize; a signature may follow.
        promised = (image[0x1F1] + 1) * 512 + int.from_bytes(image[0x1F4:0x1F8], "little") * 16
        for size, word in ((promised - 1, "truncated"), (len(image) // 2, "truncated"), (4096, "truncated"), (520, "")):
            self.refused(2, word, "--kernel", self.write("bzimage", image[:size]), kernel=False)

    def test_truncated_elf_kernels(self):
        with open(self.good_kernel, "rb") as file:
            image = file.read()
        for size in (60, 70, 130):
            self.refused(2, "elf", "--kernel", self.write("short.elf", image[:size]), kernel=False)

    def test_an_elf_with_a_segment_outside_memory(self):
        self.refused(2, "outside memory", "--kernel", self.assemble("outside"), "--memory", "64M", kernel=False)

    def test_an_elf_with_overlapping_segments(self):
        with open(self.good_kernel, "rb") as file:
            image = bytearray(file.read())
        # Many copies of the first program header, behind the rest.
        header = bytes(image[64:120])
        for count, word in ((2, "overlap"), (65534, "program headers")):
            image[32:40] = len(image).to_bytes(8, "little")
            image[56:58] = count.to_bytes(2, "little")
            self.refused(2, word, "--kernel", self.write("heap.elf", bytes(image) + header * count), kernel=False)

    def test_a_signal_ends_loading(self):
        if not shutil.which("strace"):
            self.skipTest("strace is not installed")
        with open(self.good_kernel, "rb") as file:
            image = bytearray(file.read())
        # 512 MiB, mostly a hole: at 16 MiB each half second, loading takes 32 reads and more than 16 s.
        image[96:112] = (512 << 20).to_bytes(8, "little") * 2
        kernel = self.write("long.elf", bytes(image))
        os.truncate(kernel, 513 << 20)
        trace = self.path("trace")
        slow = ["strace", "-D", "-f", "-qq", "-o", trace, "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=500000", vmm.SYMVMM]
        for number in (signal.SIGTERM, signal.SIGINT):
            machine = self.run_machine("--kernel", kernel, "--memory", "1G", "--quiet", program=slow)
            self.wait_until("it is loading", lambda: self.loaded(trace) > 0)
            machine.process.send_signal(number)
            self.assertEqual(machine.end(), 130, machine.errors)
            # Not a time, since a busy machine may be slow to send the signal.
            self.assertLess(self.loaded(trace), 31, "reads of 16 MiB: it was loading on")
            self.assertEqual(machine.errors, "")
            self.assert_nothing_left()
            os.unlink(trace)

    def loaded(self, trace):
        """Reads of 16 MiB in a trace of strace."""
        return self.read(trace).count(b"= 16777216") if os.path.exists(trace) else 0

    def test_swap_files_that_others_can_use(self):
        path = self.write("swap", "")
        os.chmod(path, 0o644)
        self.refused(3, (path, "other users can open it", "chmod 600"), "--swap", f"4M,path={path}")
        os.chmod(path, 0o600)
        os.symlink(path, self.path("link"))
        self.refused(3, "symbolic links are not followed", "--swap", f"4M,path={self.path('link')}")
        text = self.write("text", "text" * 4096)
        os.chmod(text, 0o600)
        self.refused(3, "has other contents", "--swap", f"4M,path={text}")
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
            self.refused(3, f"belongs to user {NOBODY}", "--swap", f"4M,path={path}")
            os.chown(path, 0, 0)
        # A file of this user is used and left empty. A file that symvmm made is removed.
        for budget in ("", ",budget=2M"):
            for name, size in (("swap", 0), ("new", None)):
                machine = self.tiny("count", "--quiet", "--swap", f"4M,path={self.path(name)}{budget}", defines=["COUNT=1", "READS=1"])
                self.assert_ended(machine, 0)
                self.assertEqual(os.path.getsize(self.path(name)) if os.path.exists(self.path(name)) else None, size)

    def test_an_elf_for_another_processor(self):
        with open(self.good_kernel, "rb") as file:
            image = bytearray(file.read())
        image[18] = 183
        self.refused(2, "another processor", "--kernel", self.write("arm.elf", bytes(image)), kernel=False)

    def test_memory_of_size_0(self):
        self.refused(2, ("--memory", "'0'"), "--memory", "0")

    def test_too_much_memory(self):
        self.refused(2, ("--memory", "1P"), "--memory", "1P")
        self.refused(2, ("--memory", "too large"), "--memory", "99999999999999999999G")

    def test_invalid_memory_sizes(self):
        for text in ("much", "-1", "1.5G", "", "12X"):
            self.refused(2, "--memory", f"--memory={text}")

    def test_too_little_memory_for_linux(self):
        self.refused(2, "not enough guest memory", *self.linux("--memory", "8M"), kernel=False)

    def test_wrong_numbers_of_vcpus(self):
        for text in ("0", "33", "10000", "-1", "two", "99999999999999999999"):
            self.refused(2, "--cpus", f"--cpus={text}")

    def test_a_disk_that_is_a_folder(self):
        self.refused(2, (self.folder, "directory"), "--disk", self.folder)

    def test_a_missing_disk(self):
        self.refused(2, ("/no/such/disk", "No such file"), "--disk", "/no/such/disk")

    def test_a_disk_that_is_empty(self):
        self.refused(2, "empty", "--disk", self.write("disk.img", ""))

    def test_a_disk_that_is_a_fifo(self):
        os.mkfifo(self.path("fifo"))
        self.refused(2, "fifo", "--disk", self.path("fifo"))

    def test_a_disk_of_an_odd_size(self):
        self.refused(2, "odd.img", "--disk", self.write("odd.img", b"x" * 1000))

    def test_invalid_disk_options(self):
        disk = self.write("disk.img", bytes(4096))
        self.refused(2, "--disk", "--disk", "")
        self.refused(2, "colour", "--disk", f"{disk},colour=red")
        self.refused(2, "identifier", "--disk", f"{disk},id={'x' * 256}")
        self.refused(2, "twice", "--disk", f"{disk},id=a", "--disk", f"{disk},id=a")

    def test_a_disk_used_by_another_machine(self):
        disk = self.write("disk.img", bytes(1 << 20))
        first = self.tiny("wait", "--quiet", "--name", "owner", "--disk", disk)
        self.wait_until_running("owner")
        second = self.tiny("count", "--disk", disk, defines=["COUNT=1", "READS=1"])
        self.assertIn(second.end(), (2, 3))
        self.assertRegex(second.errors, r"\Asymvmm: .*disk\.img.*\n\Z")
        self.symvmm("kill", "owner")
        self.assertIsNotNone(first.process.poll(), "what it had is free once kill has returned")
        self.assert_ended(first, 130)

    def test_a_file_system_without_locks(self):
        if not shutil.which("strace"):
            self.skipTest("strace is not installed")
        disk = self.write("disk.img", bytes(1 << 20))
        program = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", disk, "-e", "trace=fcntl", "-e", "inject=fcntl:error=ENOLCK", vmm.SYMVMM]
        machine = self.tiny("count", "--quiet", "--disk", f"{disk},id=data", defines=["COUNT=1", "READS=1"], program=program)
        self.assertEqual(machine.end(), 0, machine.errors)
        self.assertRegex(machine.errors, r"\Asymvmm: virtio-blk\.data: its file system has no locks: .*\n\Z")
        # And `ps` repeats it.
        machine = self.tiny("wait", "--quiet", "--name", "unlocked", "--disk", f"{disk},id=data", program=program)
        self.wait_until_running("unlocked")
        # While strace holds the process, `ps` does not ask it.
        warning = "warning: unlocked: virtio-blk.data: its file system has no locks"
        self.wait_until("the warning", lambda: warning in self.table())
        self.symvmm("kill", "unlocked")
        machine.end()
        # A swap file, which holds the guest's memory, needs the lock.
        os.remove(disk)
        machine = self.tiny("count", "--quiet", "--swap", f"4M,path={disk}", defines=["COUNT=1", "READS=1"], program=program)
        self.assertEqual(machine.end(), 3, machine.errors)
        self.assertRegex(machine.errors, r"\Asymvmm: .*cannot be locked there: give a file on another file system\n\Z")

    def test_a_disk_without_write_permission(self):
        disk = self.write("disk.img", bytes(1 << 20))
        os.chmod(disk, 0o444)
        words = ("Permission denied", "readonly")
        if os.geteuid() == 0:
            # Root may write every file: run as another user who may use /dev/kvm.
            self.as_nobody(0o666, 3, words, "--disk", disk)
        else:
            self.refused(3, words, "--disk", disk)

    def test_kvm_not_permitted(self):
        if os.geteuid() != 0:
            self.skipTest("only root can run symvmm as another user")
        self.as_nobody(0o600, 3, ("/dev/kvm", "Permission denied", "adduser"))

    def as_nobody(self, mode, status, words, *arguments):
        """As `refused`, for an unprivileged user and a /dev/kvm with this mode. That user may be unable to reach symvmm's folder."""
        program, node = self.path("symvmm"), self.path("kvm")
        shutil.copy(vmm.SYMVMM, program)
        os.mknod(node, 0o600 | stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
        os.chmod(node, mode)
        os.chmod(self.folder, 0o755)
        os.chown(self.runtime, NOBODY, NOBODY)
        script = 'mount --bind "$1" /dev/kvm && shift && exec "$@"'
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", program]
        wrapper = ["unshare", "-m", "sh", "-c", script, "sh", node, *become]
        self.refused(status, words, *arguments, program=wrapper)

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def in_namespace(self, script):
        return ["unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh", vmm.SYMVMM]

    def test_a_dev_kvm_that_is_another_device(self):
        if os.geteuid() != 0:
            self.skipTest("only root can hide /dev/kvm")
        self.refused(3, "/dev/kvm", program=self.in_namespace("mount --bind /dev/null /dev/kvm"))

    def test_kvm_absent(self):
        if os.geteuid() != 0:
            self.skipTest("only root can hide /dev/kvm")
        script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3"
        self.refused(3, ("/dev/kvm", "load kvm_intel or kvm_amd"), program=self.in_namespace(script))
        result = vmm.command(*self.in_namespace(script), "doctor", env=self.environment)
        self.assertEqual(result.returncode, 3)

    def test_a_tap_that_does_not_exist(self):
        if not os.path.exists("/dev/net/tun"):
            self.skipTest("no /dev/net/tun")
        machine = self.run_machine("--kernel", self.good_kernel, "--net", "tap=nosuchtap0")
        self.assertIn(machine.end(), (2, 3))
        self.assertRegex(machine.errors, r"\Asymvmm: .*nosuchtap0.*ip tuntap add.*\n\Z")
        self.assertFalse(os.path.exists("/sys/class/net/nosuchtap0"), "the tap was made")
        self.assert_nothing_left()

    def test_invalid_network_options(self):
        for text, word in (
            ("", ""),
            ("tap=", "network device"),
            ("tap=much-too-long-a-name", "network device"),
            ("tap=t0,mac=12:34", "MAC"),
            ("tap=t0,mac=01:00:00:00:00:00", "MAC"),
            ("tap=t0,speed=1", "speed"),
        ):
            self.refused(2, ("--net", word), f"--net={text}")
        self.refused(2, "twice", "--net", "tap=t0", "--net", "tap=t0")

    def test_a_command_line_that_is_too_long(self):
        self.refused(2, ("command line is too long", "2047"), *self.linux("--append", "x" * 5000), kernel=False)

    def test_an_initrd_that_is_too_large(self):
        with open(self.path("initrd"), "wb") as file:
            file.truncate(300 << 20)
        self.refused(2, ("initrd", "too large"), *self.linux("--initrd", self.path("initrd"), "--memory", "256M"), kernel=False)

    def test_a_missing_initrd(self):
        self.refused(2, "/no/such/initrd", *self.linux("--initrd", "/no/such/initrd"), kernel=False)

    def test_invalid_names(self):
        for text in ("", "a/b", "..", ".hidden", "with space", "x" * 65, "-dash"):
            self.refused(2, "name", f"--name={text}")

    def test_invalid_consoles(self):
        for text in ("tty", "file:", ""):
            self.refused(2, "--console", f"--console={text}")
        self.refused(2, "/no/such/folder", "--console", "file:/no/such/folder/log")

    def test_a_statistics_file_that_cannot_be_written(self):
        machine = self.run_machine("--kernel", self.good_kernel, "--quiet", "--stats-file", "/no/such/folder/stats.json")
        self.assertIn(machine.end(), (2, 3))
        self.assertRegex(machine.errors, r"\Asymvmm: .*/no/such/folder.*\n\Z")
        self.assert_nothing_left()

    def test_a_full_disk_for_the_statistics(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        machine = self.run_machine("--kernel", self.good_kernel, "--quiet", "--stats-file", "/dev/full")
        self.assertEqual(machine.end(), 3)
        self.assertRegex(machine.errors, r"\Asymvmm: .*No space left.*\n\Z")

    def test_impossible_socket_paths(self):
        machine = self.run_machine("--kernel", self.good_kernel, "--quiet", "--api-socket", "/no/such/folder/socket")
        self.assertIn(machine.end(), (2, 3))
        self.assertRegex(machine.errors, r"\Asymvmm: .*/no/such/folder.*\n\Z")
        # symvmm does not remove another file at this path.
        precious = self.write("precious", "text")
        machine = self.run_machine("--kernel", self.good_kernel, "--quiet", "--api-socket", precious)
        self.assertIn(machine.end(), (2, 3))
        with open(precious, encoding="ascii") as file:
            self.assertEqual(file.read(), "text")
        self.refused(2, "--api-socket: empty", "--api-socket", "")
        long = self.path("x" * 120)
        machine = self.run_machine("--kernel", self.good_kernel, "--quiet", "--api-socket", long)
        self.assertEqual(machine.end(), 2)
        self.assert_nothing_left()

    def test_wrong_configuration_files(self):
        boot = f'"boot-source": {{"kernel_image_path": "{self.good_kernel}"}}'
        for text, word in (
            ("", "vm.json"),
            ("{", "vm.json"),
            ("[]", "vm.json"),
            ("{}", "boot-source"),
            ("{" + boot + ', "colour": "red"}', "colour"),
            ("{" + boot + ', "machine-config": {"vcpu_count": 0}}', "vcpu_count"),
            ("{" + boot + ', "machine-config": {"pmu": true, "pmu": false}}', "pmu: given twice"),
            ("{" + boot + ', "logger": {"log_path": "/no/such/log"}}', "log_path"),
            ("{" + boot + ', "metrics": {"metrics_path": "/no/such/log"}}', "metrics_path"),
            ("{" + boot + ', "machine-config": {"vcpu_count": "two"}}', "vcpu_count"),
            ("{" + boot + ', "machine-config": {"mem_size_mib": -5}}', "mem_size_mib"),
            ("{" + boot + ', "drives": {}}', "drives"),
            ("[" * 100000, "vm.json"),
            ('{"a":' * 400, "inside one another"),
            ("[" * 500 + "]" * 500, "inside one another"),
            (b"\xff\xfe" + bytes(100), "vm.json"),
        ):
            self.refused(2, word, "--config", self.write("vm.json", text), kernel=False)
        self.refused(2, "/no/such/file", "--config", "/no/such/file", kernel=False)
        self.refused(2, "zero", "--config", "/dev/zero", kernel=False)

    def test_unknown_options(self):
        for words in (["--colour", "red"], ["--symbiotic", "maybe"], ["--memory"], ["surplus"]):
            self.refused(2, "--help", *words)
        result = self.symvmm("stats", "vm", "--by", "task", "--device", "serial")
        self.assertEqual(result.returncode, 2)
        self.assertIn("cannot be combined with --device", result.stderr)

    def test_commands_for_a_machine_that_does_not_run(self):
        for name in ("ps", "nonsense"):
            result = self.symvmm(name, "surplus")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for name in ("stats", "stop", "kill", "pause", "resume"):
            for target in ("nosuchvm", "../nosuchvm", "a b"):
                result = self.symvmm(name, target)
                self.assertIn(result.returncode, (2, 3), f"{name} {target}")
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertEqual(result.stdout, "")
        self.assertEqual(self.symvmm("stats", "nosuchvm").returncode, 2)

    def test_a_runtime_folder_that_others_may_enter(self):
        os.mkdir(os.path.join(self.runtime, "symvmm"), 0o755)
        os.chmod(os.path.join(self.runtime, "symvmm"), 0o755)
        self.refused(3, "chmod 700")

    def test_a_runtime_folder_that_is_a_symbolic_link(self):
        os.symlink("/tmp", os.path.join(self.runtime, "symvmm"))
        self.refused(3, "symbolic link")

    def test_help_and_version_print_text(self):
        for words in (["--help"], ["run", "--help"], ["stop", "--help"], ["--version"]):
            result = self.symvmm(*words)
            self.assertEqual(result.returncode, 0)
            self.assertTrue(result.stdout.strip())
            self.assertEqual(result.stderr, "")

    def test_a_closed_standard_output_does_not_end_a_vm(self):
        process = subprocess.run(
            f"'{vmm.SYMVMM}' run --kernel '{self.good_kernel}' --quiet --name piped | true; exit ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", env=self.environment, capture_output=True, timeout=vmm.PATIENCE, check=False,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()
