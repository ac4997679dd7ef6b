# SPDX-License-Identifier: Apache-2.0
"""virtio-blk: the data that a Linux guest writes is in the file, and the guest gets an I/O error if the host cannot write."""

import hashlib
import os

import vmm

MIB = 1 << 20


class DiskTest(vmm.SystemTest):
    def disk(self, name, size):
        with open(self.path(name), "wb") as file:
            file.truncate(size)
        return self.path(name)

    def sha256(self, path, size=None):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read() if size is None else file.read(size)).hexdigest()

    def fsck(self, path):
        result = vmm.command("e2fsck", "-f", "-n", path)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def blocks(self, path):
        return os.stat(path).st_blocks * 512


class Reboot(DiskTest):
    def test_written_data_is_read_back_after_a_reboot(self):
        data, raw, big = self.disk("data.img", 64 * MIB), self.disk("raw.img", 3 * MIB + 512), self.disk("big.img", MIB)
        fixed = self.write("fixed.img", os.urandom(2 * MIB))
        vmm.checked("mke2fs", "-q", "-F", "-t", "ext4", data)
        disks = ["--disk", f"{data},id=data", "--disk", f"{fixed},readonly,id=fixed-serial", "--disk", raw]
        disks += ["--disk", f"{big},sector=4096"]
        machine = self.boot(*disks).open_shell()
        self.check_what_the_guest_sees(machine, fixed)
        machine.shell("mkdir /mnt; mount /dev/vda /mnt && dd if=/dev/urandom of=/mnt/file bs=64k count=150 2>/dev/null")
        inside = machine.shell("sha256sum /mnt/file").split()[0]
        machine.shell("dd if=/dev/vdb of=/dev/vdc bs=64k count=32 2>/dev/null && sync")
        # After a flush, the data is in the file while the guest runs.
        self.assertEqual(self.sha256(raw, 2 * MIB), self.sha256(fixed))
        # Writes to two disks at once.
        machine.shell("dd if=/dev/vda of=/dev/null bs=64k iflag=direct & dd if=/dev/vdc of=/dev/null bs=4k iflag=direct & wait")
        machine.shell("umount /mnt")
        machine.send("reboot -f\n")
        self.assert_ended(machine, 0)
        self.fsck(data)
        self.check_after_the_reboot(disks, inside)
        self.fsck(data)

    def check_what_the_guest_sees(self, machine, fixed):
        sizes = [int(machine.shell(f"blockdev --getsize64 /dev/vd{letter}")) for letter in "abc"]
        self.assertEqual(sizes, [64 * MIB, 2 * MIB, 3 * MIB + 512])
        self.assertEqual([machine.shell(f"cat /sys/block/vd{letter}/serial") for letter in "abc"], ["data", "fixed-serial", "disk2"])
        self.assertEqual([machine.shell(f"cat /sys/block/vd{letter}/ro") for letter in "abc"], ["0", "1", "0"])
        self.assertEqual(machine.shell("cat /sys/block/vda/queue/logical_block_size"), "512")
        self.assertEqual(machine.shell("cat /sys/block/vdd/queue/logical_block_size"), "4096")
        self.assertEqual(machine.shell("cat /sys/block/vda/queue/write_cache"), "write back")
        self.assertEqual(machine.shell("sha256sum /dev/vdb").split()[0], self.sha256(fixed))
        before = self.sha256(fixed)
        self.assertNotEqual(machine.shell("dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>&1", check=False)[1], 0)
        self.assertEqual(self.sha256(fixed), before)

    def check_after_the_reboot(self, disks, inside):
        machine = self.boot(*disks).open_shell()
        machine.shell("mkdir /mnt; mount /dev/vda /mnt")
        self.assertEqual(machine.shell("sha256sum /mnt/file").split()[0], inside)
        # Powers off with a mounted file system.
        machine.shell("echo more >/mnt/more; mount -o remount,ro /mnt")
        machine.send("poweroff -f\n")
        self.assert_ended(machine, 0)


class ManyDisks(DiskTest):
    """Tests that share a guest with the maximum number of disks."""

    shared = True
    COUNT = 15
    # Disk 13 has room on the host for all its data; disk 14 is larger than its room on the host.
    DISCARDED, FULL = 13, 14

    def boot_with_fifteen_disks(self):
        files = [self.file_of(number) for number in range(self.COUNT)]
        machine = self.boot(*(word for number, path in enumerate(files) for word in ("--disk", f"{path},id=number-{number}"))).open_shell()
        machine.files = files
        return machine

    def file_of(self, number):
        first = bytes([number]) * 4096
        if number not in (self.DISCARDED, self.FULL):
            return self.write(f"disk{number}.img", first)
        # Not on the lab's overlay: its files report punched holes late.
        sizes = (64 * MIB, 100 * MIB) if number == self.DISCARDED else (32 * MIB, 4 * MIB)
        path = self.on_tmpfs(f"disk{number}.img", *sizes)
        with open(path, "r+b") as file:
            file.write(first)
        return path

    def guest(self):
        return self.shared_guest(self.boot_with_fifteen_disks)

    def on_tmpfs(self, name, size, limit):
        folder = self.path(f"tmpfs-{name}-{len(self.machines)}")
        os.mkdir(folder)
        vmm.checked("mount", "-t", "tmpfs", "-o", f"size={limit}", "tmpfs", folder)
        self.at_end(vmm.command, "umount", "-l", folder)
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def test_fifteen_disks_keep_their_order(self):
        seen = self.guest().shell("for d in a b c d e f g h i j k l m n o; do echo $(cat /sys/block/vd$d/serial) "
                                  "$(hexdump -n 1 -e '1/1 \"%d\"' /dev/vd$d); done")
        self.assertEqual(seen.splitlines(), [f"number-{number} {number}" for number in range(self.COUNT)])

    def test_discard_frees_blocks_and_write_zeroes_zeroes(self):
        machine = self.guest()
        path = machine.files[self.DISCARDED]
        machine.shell("dd if=/dev/urandom of=/dev/vdn bs=1M count=16 conv=fsync 2>/dev/null")
        full = self.blocks(path)
        self.assertGreaterEqual(full, 16 * MIB)
        machine.shell("blkdiscard -o 0 -l $((8 << 20)) /dev/vdn && sync")
        self.assertLessEqual(self.blocks(path), full - 7 * MIB)
        machine.shell("blkdiscard -z -o $((8 << 20)) -l $((4 << 20)) /dev/vdn && sync", check=False)
        with open(path, "rb") as file:
            self.assertEqual(file.read(8 * MIB).strip(b"\0"), b"")
            self.assertNotEqual(machine.shell("dd if=/dev/vdn bs=1M skip=12 count=4 2>/dev/null | tr -d '\\0' | wc -c"), "0")

    def test_a_full_host_file_system_is_an_io_error_of_the_guest(self):
        machine = self.guest()
        output, status = machine.shell("dd if=/dev/zero of=/dev/vdo bs=64k count=256 oflag=direct 2>&1", check=False)
        self.assertNotEqual(status, 0)
        self.assertRegex(output, "(I.O|Input.output) error|No space left")
        # The VMM and the guest continue, and the data for which there was room is there.
        self.assertEqual(machine.shell("dd if=/dev/vdo bs=64k count=8 2>/dev/null | wc -c"), str(8 * 65536))
        self.assertIn("vdo", machine.shell("ls /sys/block"))
