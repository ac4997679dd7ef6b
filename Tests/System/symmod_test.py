# SPDX-License-Identifier: Apache-2.0
"""SymMod: symvmm brings symbiotic.ko to a guest whose files do not change (docs/SYMMOD.md)."""

import hashlib
import json
import os
import re
import struct

import vmm
from symbiotic import COMPLAINTS

LINE = "console=ttyS0 reboot=k panic=1 quiet"
# What makes the kernel start the first process; a guest must not see it.
PARAMETER = "rdinit=/.symvmm/init"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def release(flavour="cloud-6.1"):
    with open(vmm.kernel(flavour, "version"), encoding="ascii") as file:
        return file.read().strip()


class Elf:
    """A module's file: where its sections and symbols are (System V ABI, "Object Files")."""

    def __init__(self, data):
        self.data = bytearray(data)
        table, = struct.unpack_from("<Q", data, 40)
        count, names = struct.unpack_from("<HH", data, 60)
        self.headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * index) for index in range(count)]
        self.names = [self.text(self.headers[names][4] + header[0]) for header in self.headers]

    def text(self, offset):
        return self.data[offset : self.data.index(0, offset)].decode()

    def section(self, name):
        return self.headers[self.names.index(name)]

    def offset_of(self, symbol):
        """Where the code of a function is in the file."""
        symbols, strings = self.section(".symtab"), self.section(".strtab")
        for offset in range(symbols[4], symbols[4] + symbols[5], 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", self.data, offset)
            if self.text(strings[4] + name) == symbol:
                return self.headers[section][4] + value
        raise AssertionError(f"no symbol {symbol}")

    def crashing(self):
        """The module with an instruction that is none at the start of its init, behind ENDBR64 and the call that ftrace replaces."""
        start = self.offset_of("init_module")
        if self.data[start : start + 4] == b"\xf3\x0f\x1e\xfa":
            start += 4
        if self.data[start] == 0xE8:
            start += 5
        data = bytearray(self.data)
        data[start : start + 2] = b"\x0f\x0b"
        return bytes(data)


class SymModTest(vmm.SystemTest):
    """A test with a store of modules of its own."""

    def setUp(self):
        super().setUp()
        self.environment["XDG_DATA_HOME"] = self.path("data")

    def module(self, flavour="cloud-6.1"):
        return os.path.join(vmm.BUILD, "guest", f"module-{flavour}", "symbiotic", "symbiotic.ko")

    def add(self, path):
        """Adds a module to the store; returns its path there."""
        result = self.symvmm("module", "add", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def start_busybox(self, choice, flavour="cloud-6.1", image=None):
        """A guest with the busybox initramfs, which has no module."""
        return self.run_machine(
            "--name", "mod", "--memory", "256M", "--cpus", 2, "--kernel", vmm.kernel(flavour), "--initrd", image or vmm.initramfs(flavour),
            "--append", f"{LINE} symmod.test=1 -- a b=c", "--quiet", "--symbiotic", choice)

    def assert_symbiotic(self, machine, name):
        self.assertIn(name, [task["name"] for task in self.answer("symcall", "mod", "tasks")])
        self.assertEqual(self.answer("symcall", "mod", "uname")["release"], machine.shell("uname -r"))
        self.assertEqual(machine.shell(f"dmesg | grep -E '{COMPLAINTS}'; true"), "")

    def assert_plain(self, machine):
        """The guest works, without the module."""
        self.assertIn("the guest has not loaded symbiotic.ko", self.symvmm("symcall", "mod", "ping").stderr)
        self.assertEqual(machine.shell("grep -c symbiotic /proc/modules; true"), "0")
        self.assertEqual(machine.shell("echo $((6 * 7))"), "42")

    def reboot(self, machine):
        machine.send("reboot -f\n")
        self.assert_ended(machine, 0)


class Brought(SymModTest):
    @vmm.quick
    def test_an_untouched_initramfs_becomes_symbiotic_and_sees_no_trace(self):
        self.check("cloud-6.1")

    def test_the_same_on_6_12(self):
        self.check("cloud-6.12")

    def check(self, flavour):
        before = sha256(vmm.initramfs(flavour))
        stored = self.add(self.module(flavour))
        looks = {}
        for choice in ("off", "auto"):
            machine = self.start_busybox(choice, flavour)
            machine.open_shell()
            # Process 1, its arguments and its environment; the command line; the root of the initramfs.
            looks[choice] = [
                machine.shell(words) for words in (
                    "cat /proc/cmdline", "cat /proc/1/comm", "tr '\\0' ' ' </proc/1/cmdline", "tr '\\0' '\\n' </proc/1/environ | sort",
                    "ls -A /", "ls -l /proc/1/fd | wc -l")
            ]
            said = f"symvmm: the guest gets {stored}" in machine.errors
            self.assertEqual(said, choice == "auto", machine.errors)
            if choice == "auto":
                self.assert_symbiotic(machine, "init")
                machine.shell("dd if=/dev/zero of=/dev/null bs=1k count=1 2>/dev/null; echo out >/dev/ttyS0")
                self.assertIn("sh", [row["name"] for row in self.answer("stats", "mod", "--by", "task")["tasks"]])
                self.assertEqual(machine.shell("cat /sys/module/symbiotic/parameters/symmod"), "Y")
            else:
                self.assertEqual(machine.shell("lsmod | grep -c symbiotic; true"), "0")
            self.reboot(machine)
        self.assertEqual(looks["off"], looks["auto"])
        self.assertNotIn(PARAMETER, looks["auto"][0])
        self.assertEqual(sha256(vmm.initramfs(flavour)), before)

    def test_off_and_on_add_nothing_to_the_guests_memory(self):
        """The size of the initial RAM disk that the kernel reports, in whole pages, is that of the file."""
        self.add(self.module())
        size = os.path.getsize(vmm.initramfs())
        for choice, added in (("off", False), ("on", False), ("auto", True)):
            machine = self.start_busybox(choice)
            machine.open_shell()
            start, end = re.search(r"RAMDISK: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", machine.shell("dmesg | grep RAMDISK")).groups()
            self.assertEqual(int(end, 16) + 1 - int(start, 16) > -(-size // 4096) * 4096, added, choice)
            self.reboot(machine)

    def test_initramfses_of_every_compression_and_of_several_segments(self):
        self.add(self.module())
        with open(vmm.initramfs(), "rb") as file:
            plain = file.read()
        files = {"microcode": self.microcode() + plain}
        for name, words in (("gzip", ["gzip", "-c"]), ("xz", ["xz", "-c", "--check=crc32"]), ("zstd", ["zstd", "-q", "-c"]), ("lz4", ["lz4", "-l", "-q", "-c"])):
            files[name] = vmm.subprocess.run([*words, vmm.initramfs()], capture_output=True, check=True).stdout
        files["microcode-gzip"] = self.microcode() + files["gzip"]
        for name, data in files.items():
            with self.subTest(name):
                machine = self.start_busybox("require", image=self.write(f"{name}.img", data))
                machine.open_shell()
                self.assert_symbiotic(machine, "init")
                self.reboot(machine)

    def microcode(self):
        """A first segment as distributions put the processor's microcode into it: uncompressed, with nothing that this processor uses."""
        folder = self.path("early/kernel/x86/microcode")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "note"), "w", encoding="ascii") as file:
            file.write("none")
        return vmm.subprocess.run(
            ["sh", "-c", "find . | cpio -o -H newc --quiet"], cwd=self.path("early"), capture_output=True, check=True).stdout


class Debian(SymModTest):
    @vmm.quick
    def test_debians_own_initrd_and_disk_become_symbiotic(self):
        """The initrd of initramfs-tools, as it comes, and a disk with systemd."""
        initrd = os.path.join(vmm.BUILD, "guest", "initrd-cloud-6.1-gzip.img")
        before = sha256(initrd)
        self.add(self.module())
        disk = self.path("debian.img")
        vmm.checked("cp", "--sparse=always", os.path.join(vmm.BUILD, "guest", "disk-cloud-6.1.img"), disk)
        line = f"{LINE} root=/dev/vda rw"
        machine = self.run_machine(
            "--kernel", vmm.kernel(), "--initrd", initrd, "--disk", disk, "--memory", "512M", "--cpus", "2", "--name", "mod",
            "--append", line, "--quiet", "--symbiotic", "require")
        machine.wait_for("symvmm-guest login: ")
        self.assertIn("systemd", [task["name"] for task in self.answer("symcall", "mod", "tasks")])
        machine.send("root\n")
        machine.wait_for("# ")
        machine.send("stty -echo; export PS1= PS2= TERM=dumb SYSTEMD_PAGER=; bind 'set enable-bracketed-paste off'\n")
        self.assertEqual(machine.shell("cat /proc/cmdline; cat /proc/1/comm").splitlines()[-2:], [line, "systemd"])
        self.assert_symbiotic(machine, "systemd")
        result = self.symvmm("stop", "mod", "--timeout", "150", "--json")
        self.assertEqual(json.loads(result.stdout), {"name": "mod", "result": "powered off"})
        self.assert_ended(machine, 0)
        self.assertEqual(sha256(initrd), before)


class Refused(SymModTest):
    """A module that cannot be loaded costs one line, and the guest boots without it."""

    def boot_with(self, data):
        """Boots a guest with a module of this content in the store; returns it and its kernel's lines about SymMod."""
        stored = self.add(self.module())
        with open(stored, "wb") as file:
            file.write(data)
        machine = self.start_busybox("auto")
        machine.open_shell()
        return machine, [line for line in machine.shell("dmesg | grep 'symvmm: '; true").splitlines() if "symvmm-guest" not in line]

    def content(self):
        with open(self.module(), "rb") as file:
            return file.read()

    def test_a_torn_module_is_not_brought(self):
        machine, lines = self.boot_with(self.content()[:100_000])
        self.assertEqual(lines, [])
        self.assertEqual(len(re.findall("symvmm: the guest gets no module: .*damaged", machine.errors)), 1, machine.errors)
        self.assert_plain(machine)
        self.reboot(machine)
        machine = self.start_busybox("require")
        self.assertEqual(machine.end(), 3)
        self.assertIn("damaged", machine.errors)

    def test_a_module_that_does_not_fit_is_refused_by_the_kernel(self):
        # The release is right, the rest of vermagic is not.
        machine, lines = self.boot_with(self.content().replace(b" SMP preempt ", b" UMP preempt "))
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"symvmm: symbiotic\.ko is not loaded: it does not fit this kernel, or is damaged \(error 8\); the guest runs without it$")
        self.assert_plain(machine)
        self.reboot(machine)

    def test_a_module_that_crashes_while_it_is_loaded_ends_only_its_loader(self):
        machine, lines = self.boot_with(Elf(self.content()).crashing())
        self.assertEqual([line.partition("symvmm: ")[2] for line in lines], ["symbiotic.ko crashed while it was loaded; the guest runs without it"])
        self.assertEqual(machine.shell("dmesg | grep -c 'invalid opcode'"), "1")
        self.assertIn("the guest has not loaded symbiotic.ko", self.symvmm("symcall", "mod", "ping").stderr)
        self.reboot(machine)

    def test_a_kernel_that_takes_signed_modules_only_boots_plain(self):
        self.add(self.module())
        # Debian has signed the modules that the guest itself loads.
        machine = self.run_machine(
            "--name", "mod", "--kernel", vmm.kernel(), "--initrd", vmm.initramfs(), "--append", f"{LINE} module.sig_enforce=1", "--quiet",
            "--symbiotic", "auto")
        machine.open_shell()
        lines = machine.shell("dmesg | grep 'symvmm: symbiotic'; true").splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("symbiotic.ko is not loaded: the kernel takes signed modules only", lines[0])
        self.assert_plain(machine)
        self.reboot(machine)


class Store(SymModTest):
    """`symvmm module`, and what `--symbiotic` does without a guest."""

    group = "host"

    def kernel_file(self, name="6.1.0-0-none"):
        """A bzImage's header that names a release."""
        data = bytearray(4096)
        struct.pack_into("<BH", data, 0x1F1, 3, 0)
        struct.pack_into("<H", data, 0x1FE, 0xAA55)
        struct.pack_into("<4sHIHH", data, 0x202, b"HdrS", 0x20F, 0, 0, 0x100)
        data[0x300 : 0x300 + len(name)] = name.encode()
        return self.write("vmlinuz", bytes(data))

    def refusal(self, *words):
        result = self.symvmm("run", "--kernel", self.kernel_file(), "--console", "none", *words)
        self.assertNotEqual(result.returncode, 0)
        return result.stderr

    def test_without_a_module_auto_says_so_and_require_fails(self):
        self.assertIn("symvmm: --symbiotic require: no symbiotic.ko for Linux 6.1.0-0-none: build it", self.refusal("--symbiotic", "require"))
        # The kernel is none, so the run fails after the line.
        self.assertIn("the guest gets no module: no symbiotic.ko for Linux 6.1.0-0-none", self.refusal("--symbiotic", "auto"))
        for choice in ("on", "off"):
            self.assertNotIn("module", self.refusal("--symbiotic", choice))

    def test_the_commands_list_add_and_refuse(self):
        self.assertEqual(self.answer("module", "list"), [])
        result = self.symvmm("module", "add", self.write("text.ko", "text"))
        self.assertEqual((result.returncode, "not a kernel module" in result.stderr), (2, True), result.stderr)
        for words in (["build"], ["build", "--all", "6.1.0"], ["build", "0.0.0-none"], ["build", "--source", self.folder, "--all"]):
            result = self.symvmm("module", *words)
            self.assertEqual(result.returncode, 2, f"{words}: {result.stderr}")
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)

    @vmm.slow
    def test_a_module_is_built_from_headers_and_found_again(self):
        headers = "/usr/src/linux-headers-" + release()
        if not os.path.exists(headers):
            self.skipTest(f"no {headers}")
        source = os.path.join(vmm.ROOT, "guest")
        result = self.symvmm("module", "build", headers, "--source", source)
        self.assertEqual(result.returncode, 0, result.stderr)
        (row,) = self.answer("module", "list")
        self.assertEqual((row["release"], row["path"]), (release(), result.stdout.strip()))
        self.assertLess(row["bytes"], 1 << 20)
        again = self.symvmm("module", "build", headers, "--source", source)
        self.assertEqual(again.stdout, f"{row['path']} (present)\n")
        # Nothing is taken from a place that others can write to.
        os.chmod(os.path.dirname(row["path"]), 0o777)
        result = self.symvmm("module", "list")
        self.assertEqual(result.returncode, 3)
        self.assertIn("others may write there", result.stderr)
        # A source that does not compile.
        broken = self.path("guest")
        vmm.checked("cp", "-r", source, broken)
        os.chmod(os.path.dirname(row["path"]), 0o755)
        with open(os.path.join(broken, "symbiotic", "main.c"), "a", encoding="ascii") as file:
            file.write("int x = y;\n")
        result = self.symvmm("module", "build", headers, "--source", broken)
        self.assertEqual(result.returncode, 3)
        self.assertRegex(result.stderr, r"^symvmm: symbiotic\.ko for \S+: make failed: .*main\.c.*error: ")
        self.assertEqual(len(self.answer("module", "list")), 1)
