# SPDX-License-Identifier: Apache-2.0
"""guest/symmod, the first process that symvmm brings with a module, as process 1 of a PID namespace, in a folder in place of the initramfs.

The module is a text: no kernel loads it. What the process does then, and what it does in place of the kernel without an /init, is the same in a guest.
"""

import os
import shutil
import struct
import subprocess
import tempfile
import unittest
import uuid
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "guest", "symmod")
BUSYBOX = "/bin/busybox"
MIB = 1 << 20
# The partition with the root file system, in sectors of 512 bytes.
FIRST, COUNT = 8192, 16 * MIB // 512
PARTITION = uuid.UUID("5f3a4c1e-53d1-4d5a-9d0b-73796d766d6d")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
# Prints what the process has become.
INIT = """#!/bin/sh
[ -e /proc/1 ] || /bin/busybox mount -t proc proc /proc
echo "process $$: $0 $*, $HOME $TERM $foo"
echo "files: $(/bin/busybox ls -A / | /bin/busybox tr '\\n' ' ')"
/bin/busybox grep -E ' (/|/dev) ' /proc/mounts
"""


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, **options).stdout


def available():
    """Whether this host lets a test make namespaces and disks."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("gcc", "make", "unshare", "losetup", "mke2fs"))) or not os.path.exists(BUSYBOX):
        return False
    return subprocess.run(["unshare", "-fpm", "mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


def guid_table(sectors):
    """A GUID partition table (UEFI 2.10, 5.3): the bytes before the first partition and the last 33 sectors."""
    name = "my root".encode("utf-16-le").ljust(72, b"\0")
    # The first partition is not the one with the root file system.
    entries = LINUX.bytes_le + uuid.UUID(int=1).bytes_le + struct.pack("<QQQ", 2048, 4095, 0) + bytes(72)
    entries += LINUX.bytes_le + PARTITION.bytes_le + struct.pack("<QQQ", FIRST, FIRST + COUNT - 1, 0) + name
    entries = entries.ljust(128 * 128, b"\0")

    def header(here, other, table):
        fields = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, here, other, 34, sectors - 34, uuid.UUID(int=7).bytes_le,
                             table, 128, 128, zlib.crc32(entries))
        return (fields[:16] + struct.pack("<I", zlib.crc32(fields)) + fields[20:]).ljust(512, b"\0")

    protective = bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1) + bytes(48) + b"\x55\xaa"
    return protective + header(1, sectors - 1, 2) + entries, entries + header(sectors - 1, 1, sectors - 33)


def dos_table():
    """A partition table of DOS with the identifier 12ab34cd, whose second partition has the root file system."""
    entries = b"".join(struct.pack("<B3sB3sII", 0, bytes(3), 0x83, bytes(3), *place) for place in ((2048, 2048), (FIRST, COUNT)))
    return bytes(440) + struct.pack("<IH", 0x12AB34CD, 0) + entries + bytes(32) + b"\x55\xaa"


@unittest.skipUnless(available(), "needs root, namespaces, gcc, mke2fs, losetup and a static busybox")
class FirstProcess(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="symmod-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        # The command line of this host's kernel is not the guest's.
        run("make", "-s", "-C", PROGRAM, f"OUTPUT={cls.folder}", 'DEFINES=-DSYMMOD_COMMAND_LINE=\\"/cmdline\\"')
        cls.image = os.path.join(cls.folder, "root.img")
        stage = cls.make_folders("stage", "sbin", "proc", "dev")
        cls.write(os.path.join(stage, "sbin", "init"), INIT)
        with open(cls.image, "wb") as file:
            file.truncate(COUNT * 512)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", stage, cls.image)

    @classmethod
    def make_folders(cls, name, *folders):
        """A folder with busybox as its shell, and these folders."""
        path = os.path.join(cls.folder, name)
        shutil.rmtree(path, ignore_errors=True)
        for folder in ("bin", *folders):
            os.makedirs(os.path.join(path, folder))
        shutil.copy(BUSYBOX, os.path.join(path, "bin", "busybox"))
        os.symlink("busybox", os.path.join(path, "bin", "sh"))
        return path

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def boot(self, command_line, init=False):
        """Starts the process as the kernel would; returns its exit status, its output, and what it wrote into the kernel's log last."""
        root = self.make_folders("initramfs", "dev", "root", "proc", ".symvmm/mnt")
        shutil.copy(os.path.join(self.folder, "symmod-init"), os.path.join(root, ".symvmm", "init"))
        self.write(os.path.join(root, ".symvmm", "symbiotic.ko"), "no module")
        self.write(os.path.join(root, ".symvmm", "kmsg"), "")
        log = os.path.join(self.folder, "log")
        with open(log, "w", encoding="ascii"):
            pass
        self.write(os.path.join(root, "cmdline"), command_line + "\n")
        if init:
            self.write(os.path.join(root, "init"), INIT)
        # A file in place of the kernel's log would be written from its start each time: a FIFO is not.
        os.unlink(os.path.join(root, ".symvmm", "kmsg"))
        os.mkfifo(os.path.join(root, ".symvmm", "kmsg"))
        script = f"mount --make-rprivate / && mount --bind {root} {root} && cd {root} && " \
            "exec env -i HOME=/ TERM=linux foo=bar /usr/sbin/chroot . /.symvmm/init single x=1"
        reader = os.open(os.path.join(root, ".symvmm", "kmsg"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            result = subprocess.run(["unshare", "-fpm", "--kill-child", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
            self.log = os.read(reader, 65536).decode()
        finally:
            os.close(reader)
        return result.returncode, result.stdout, self.log.replace("<4>", "\n<4>").strip().splitlines()[-1], result.stderr

    def disk(self, before=b"", after=b"", size=None):
        """A loop device with the root file system between other bytes."""
        path = os.path.join(self.folder, "disk.img")
        with open(path, "wb") as disk, open(self.image, "rb") as image:
            disk.write(before)
            if before:
                disk.seek(FIRST * 512)
            shutil.copyfileobj(image, disk)
            if size:
                disk.truncate(size)
                disk.seek(size - len(after))
                disk.write(after)
        device = run("losetup", "--find", "--show", *(["--partscan"] if before else []), path).strip()
        self.addCleanup(run, "losetup", "--detach", device)
        if before and not os.path.exists(self.partition(device)):
            # This kernel reads no such tables.
            run("addpart", device, "2", str(FIRST), str(COUNT))
        return device

    @staticmethod
    def partition(device):
        return f"/sys/class/block/{os.path.basename(device)}p2"

    def check_init(self, command_line, path="/sbin/init", flags="rw", devtmpfs=True):
        status, output, _, errors = self.boot(command_line)
        self.assertEqual(status, 0, errors + self.log)
        self.assertIn(f"process 1: {path} single x=1, / linux bar\n", output)
        self.assertRegex(output, rf"(?m)^/dev/root / ext4 {flags},")
        self.assertEqual("devtmpfs /dev devtmpfs" in output, devtmpfs, output)
        self.assertNotIn(".symvmm", output)

    def test_the_initramfs_own_init_is_process_1_with_its_arguments_and_nothing_is_left(self):
        status, output, log, errors = self.boot("", init=True)
        self.assertEqual(status, 0, errors)
        self.assertIn("process 1: /init single x=1, / linux bar\n", output)
        self.assertIn("files: bin cmdline dev init proc root \n", output)
        # This kernel takes no such module: one line says so.
        self.assertRegex(self.log, r"^<4>symvmm: symbiotic\.ko is not loaded: .* \(error \d+\); the guest runs without it$")
        self.assertEqual(log, self.log)

    def test_without_init_it_mounts_root_as_the_kernel_does(self):
        device = self.disk()
        number = os.stat(device).st_rdev
        major, minor = os.major(number), os.minor(number)
        self.check_init(f"console=ttyS0 root={device} rw")
        self.check_init(f"root=/dev/nothing root={device} ro", flags="ro")
        self.check_init(f"root={device} rw ro rw rootfstype=squashfs,ext4")
        self.check_init(f"root={major}:{minor} rw devtmpfs.mount=0", devtmpfs=False)
        self.check_init(f"root={major:x}{minor:02x} rw init=/sbin/init -- root=/dev/nothing")
        # The program's name is its first argument: busybox tells its programs apart by it.
        status, _, _, errors = self.boot(f"root={device} init=/bin/sh")
        self.assertEqual((status, errors.strip()), (2, "/bin/sh: can't open 'single': No such file or directory"))
        self.check_init(f'rw "root={device}" rootwait rootflags="data=ordered"')

    def test_a_partition_is_found_by_its_identifier_or_name(self):
        size = 40 * MIB
        before, after = guid_table(size // 512)
        device = self.disk(before, after, size)
        self.check_init(f"root=PARTUUID={PARTITION} rw")
        self.check_init(f"root=PARTUUID={str(PARTITION).upper()} ro", flags="ro")
        with open(f"{self.partition(device)}/uevent", encoding="ascii") as file:
            if "PARTNAME=" in file.read():
                self.check_init('"root=PARTLABEL=my root" rw')
        self.assertIn("there is no device root=PARTUUID=", self.boot(f"root=PARTUUID={str(PARTITION)[:-1]}e")[2])

    def test_a_partition_of_a_dos_table_is_found(self):
        self.disk(dos_table(), b"", 40 * MIB)
        self.check_init("root=PARTUUID=12ab34cd-02 rw")
        self.check_init("root=PARTUUID=12AB34CD-02 rw")

    def test_without_a_root_or_an_init_it_ends_with_one_line(self):
        device = self.disk()
        for line, reason in (("rw", "no root= on the command line"), ("root=/dev/nothing", "there is no device root=/dev/nothing"),
                             (f"root={device} rootfstype=xfs", rf"cannot mount root={device} \(error \d+\)")):
            status, output, log, _ = self.boot(line)
            self.assertEqual((status, output), (1, ""), line)
            self.assertRegex(log, reason)
        status, _, _, errors = self.boot(f"root={device} rw init=/nowhere")
        self.assertEqual(status, 1)
        self.assertIn("cannot execute /nowhere (error 2)", errors)


if __name__ == "__main__":
    unittest.main()
