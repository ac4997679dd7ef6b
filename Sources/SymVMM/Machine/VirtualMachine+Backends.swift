// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

extension VirtualMachine {
    /// Hands a byte of the console's input to the guest; false when the serial port's FIFO is full. Any thread.
    public func receive(_ byte: UInt8) -> Bool {
        serial.receive(byte)
    }

    /// Disks whose file system has no locks.
    public var warnings: [String] {
        virtio.compactMap { transport in
            guard let disk = transport.device as? VirtioBlock, let storage = disk.storage as? FileStorage, !storage.isLocked
            else { return nil }
            return "\(disk.name): the file system of its file has no locks: see to it that nobody else uses the file"
        }
    }

    /// Puts another file behind a drive while the guest runs, and tells the guest that its size may have changed.
    ///
    /// Opens the file as the drive's old one was opened: to write as well unless the drive is read-only, in sectors of the same size.
    public func replaceFile(ofDrive id: String, with path: String) throws(MachineError) {
        guard configuration.drives.contains(where: { $0.id == id }) else {
            throw MachineError(.configuration, "there is no drive '\(id)'")
        }
        let name = VirtioBlock.name(id: id)
        guard state != .ended, let disk = virtio.lazy.compactMap({ $0.device as? VirtioBlock }).first(where: { $0.name == name }) else {
            throw MachineError(.configuration, "the VM has ended")
        }
        guard let old = disk.storage as? FileStorage else {
            throw MachineError(.configuration, "drive '\(id)' is not in a file")
        }
        do throws(KVMError) {
            try disk.replaceStorage(FileStorage(path: path, replacing: old))
        } catch {
            throw MachineError(.configuration, "drive '\(id)': \(error)")
        }
    }
}
