# SPDX-License-Identifier: Apache-2.0
"""guest/symmod in a real kernel, without a processor that can run one as a guest: User Mode Linux (Debian's package user-mode-linux), a program. It
unpacks the initramfs and starts the first process as any Linux does, and boots in a second.

Not symbiotic.ko, which needs symvmm: the module here is one of this kernel's own. symmod_test.py has the rest."""

import glob
import os
import re
import shutil
import subprocess

import vmm

PROGRAM = os.path.join(vmm.BUILD, "symmod", "symmod-init")
# Prints what the process has become, and ends the machine.
INIT = """#!/bin/sh
/bin/busybox mount -t proc proc /proc
echo "I: process $$ $0 [$*] $HOME $TERM $foo"
echo "I: files $(/bin/busybox ls -A / | /bin/busybox tr '\\n' ' ')"
echo "I: modules $(/bin/busybox cut -d' ' -f1 /proc/modules | /bin/busybox tr '\\n' ' ')"
/bin/busybox grep ' / ' /proc/mounts
/bin/busybox dmesg | /bin/busybox grep 'symvmm: '
/bin/busybox poweroff -f
"""


def kernel():
    return shutil.which("linux.uml")


def module(name):
    found = glob.glob(f"/usr/lib/uml/modules/*/kernel/**/{name}.ko", recursive=True) if kernel() else []
    return found[0] if found else None


class UserModeLinux(vmm.SystemTest):
    group = "host"

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or module("dummy") is None or not os.path.exists(PROGRAM):
            self.skipTest("needs root and Debian's package user-mode-linux")

    def archive(self, name, files, device=None):
        """A cpio archive of files with their contents; a folder has None."""
        folder = self.path(name)
        for path, contents in files.items():
            path = os.path.join(folder, path)
            os.makedirs(path if contents is None else os.path.dirname(path), exist_ok=True)
            if contents is not None:
                with open(path, "wb") as file:
                    file.write(contents)
                os.chmod(path, 0o755)
        if device:
            os.mknod(os.path.join(folder, device), 0o020600, os.makedev(1, 11))
        return subprocess.run(["sh", "-c", "find . -mindepth 1 | cpio -o -H newc --quiet"], cwd=folder, capture_output=True, check=True).stdout

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def segment(self, data):
        """What symvmm adds (Sources/VMMSymMod/InitramfsSegment.swift), with this module."""
        self.segments = getattr(self, "segments", 0) + 1
        files = {".symvmm/mnt": None, ".symvmm/init": self.read(PROGRAM), ".symvmm/symbiotic.ko": data}
        return self.archive(f"segment-{self.segments}", files, ".symvmm/kmsg")

    def system(self, init):
        """The files of a small system."""
        busybox = self.read("/bin/busybox")
        return {"bin/busybox": busybox, "bin/sh": busybox, init: INIT.encode(), "proc": None, "dev": None}

    def boot(self, initrd, segment, *words):
        """Boots with the segment behind the initrd, as symvmm puts it there; returns the console's output."""
        gap = (-len(initrd) % 4) + 4 if initrd else 0
        image = self.write("initrd.img", initrd + bytes(gap) + segment)
        # A panic ends its whole process group.
        result = vmm.command(
            kernel(), "mem=160M", f"initrd={image}", "rdinit=/.symvmm/init", "con=null", "con0=null,fd:1", "console=tty0", "panic=1", *words,
            start_new_session=True)
        return result.stdout

    def assert_init(self, output, path="/init", modules="dummy "):
        self.assertRegex(output, rf"(?m)^I: process 1 {path} \[single\] / linux bar$")
        self.assertIn(f"I: modules {modules}\n", output)
        self.assertNotIn(".symvmm", re.search(r"(?m)^I: files .*", output)[0])

    @vmm.slow
    def test_archives_of_every_compression(self):
        plain = self.archive("plain", self.system("init"))
        segment = self.segment(self.read(module("dummy")))
        source = self.write("plain.cpio", plain)
        kinds = [[], ["gzip"], ["xz", "--check=crc32"], ["zstd", "-q"], ["lz4", "-l", "-q"], ["bzip2"], ["lzma"], ["lzop", "-q"]]
        for words in kinds:
            if words and shutil.which(words[0]) is None:
                continue
            with self.subTest(words):
                data = subprocess.run([*words, "-c", source], capture_output=True, check=True).stdout if words else plain
                self.assert_init(self.boot(data, segment, "single", "foo=bar"))
        # The processor's microcode comes first, uncompressed.
        early = self.archive("early", {"kernel/x86/microcode/none": b"none"})
        data = early + subprocess.run(["gzip", "-c", source], capture_output=True, check=True).stdout
        self.assert_init(self.boot(data, segment, "single", "foo=bar"))

    def test_a_module_that_cannot_be_loaded_costs_one_line(self):
        plain = self.archive("plain", self.system("init"))
        good = self.read(module("dummy"))
        for data in (good[: len(good) // 2], re.sub(rb"vermagic=[0-9.]+", b"vermagic=0.0", good), b"text", b""):
            output = self.boot(plain, self.segment(data), "single", "foo=bar")
            self.assert_init(output, modules="")
            lines = re.findall(r"symvmm: .*", output)
            self.assertEqual(len(set(lines)), 1, lines)
            self.assertRegex(lines[0], r"symbiotic\.ko is not loaded: it does not fit this kernel, or is damaged \(error \d+\); the guest runs without it")

    def test_without_an_init_the_root_is_mounted(self):
        self.archive("root", self.system("sbin/init"))
        disk = self.path("disk.img")
        with open(disk, "wb") as file:
            file.truncate(16 << 20)
        vmm.checked("mke2fs", "-q", "-F", "-t", "ext4", "-d", self.path("root"), disk)
        segment = self.segment(self.read(module("dummy")))
        early = self.archive("early", {"kernel/x86/microcode/none": b"none"})
        for initrd, mode in ((b"", "rw"), (b"", "ro"), (early, "rw")):
            output = self.boot(initrd, segment, f"ubd0={disk}", "root=/dev/ubda", mode, "single", "foo=bar")
            self.assert_init(output, "/sbin/init")
            self.assertRegex(output, rf"(?m)^/dev/root / ext4 {mode},")
        output = self.boot(b"", segment, f"ubd0={disk}", "root=/dev/nothing", "rw")
        self.assertIn("symvmm: there is no device root=/dev/nothing", output)
        self.assertIn("Kernel panic", output)
