// SPDX-License-Identifier: Apache-2.0

public import VMMModel

internal import VMMBase

extension VirtualMachine {
    /// Sends a byte of the console's input to the guest; false when the serial port's FIFO is full. Any thread.
    public func receive(_ byte: UInt8) -> Bool {
        serial.receive(byte)
    }

    /// Warnings about drives: those that could not be locked, because their file system has no locks, and block devices that the host uses.
    public var warnings: [String] {
        virtio.flatMap { transport -> [String] in
            guard let disk = transport.device as? VirtioBlock, let storage = disk.storage as? FileStorage else { return [] }
            var warnings: [String] = []
            if !storage.isLocked {
                warnings.append("\(disk.name): its file system has no locks: make sure that no other program uses the file")
            }
            if storage.isUsedByHost {
                let risk = storage.isReadOnly ? "the guest may read inconsistent data" : "the guest's writes may destroy its contents"
                warnings.append("\(disk.name): the host uses the block device (is it mounted?): \(risk)")
            }
            return warnings
        }
    }

    /// Changes a drive's limits. A bucket that the change lacks stays as it is; one without a limit removes the limit. Any thread.
    public func changeRateLimiter(ofDrive id: String, _ change: RateLimiterConfiguration) throws(VMMError) {
        let name = VirtioBlock.name(id: id)
        guard let disk = virtio.lazy.compactMap({ $0.device as? VirtioBlock }).first(where: { $0.name == name }) else {
            throw .user("there is no drive '\(id)'")
        }
        disk.changeRateLimiter(change)
    }

    /// Changes an interface's limits in the same way; nil: no change. Any thread but the I/O thread.
    public func changeRateLimiters(
        ofInterface id: String, receive: RateLimiterConfiguration?, transmit: RateLimiterConfiguration?
    ) throws(VMMError) {
        guard let interface = virtio.lazy.compactMap({ $0.device as? VirtioNet }).first(where: { $0.name == VirtioNet.name(id: id) }) else {
            throw .user("there is no network interface '\(id)'")
        }
        interface.changeRateLimiters(receive: receive, transmit: transmit)
    }

    /// Replaces a drive's file while the guest runs, and notifies the guest of the new size.
    ///
    /// Opens the new file like the old one: read-only or not, with the same sector size.
    public func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {
        guard configuration.drives.contains(where: { $0.id == id }) else {
            throw .user("there is no drive '\(id)'")
        }
        let name = VirtioBlock.name(id: id)
        guard state != .ended, let disk = virtio.lazy.compactMap({ $0.device as? VirtioBlock }).first(where: { $0.name == name }) else {
            throw .user("the VM has ended")
        }
        guard let old = disk.storage as? FileStorage else {
            throw .user("drive '\(id)' is not in a file")
        }
        do throws(VMMError) {
            let storage = try FileThread.perform { () throws(VMMError) in try FileStorage(path: path, replacing: old) }
            try disk.replaceStorage(storage)
        } catch {
            throw error.of("drive '\(id)'", .user)
        }
    }
}
