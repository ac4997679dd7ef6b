// SPDX-License-Identifier: Apache-2.0

extension VirtualMachine: MachineControl {
    /// Hands a byte to the serial port; false when its FIFO is full.
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

/// The version of symvmm.
public enum SymVMMVersion {
    /// In words: `0.1.0`.
    public static let current = "0.1.0"
}

extension ControlError {
    /// A machine's error for the command: a wrong configuration is the user's matter.
    public init(_ error: MachineError) {
        switch error.kind {
        case .configuration: self = .usage(error.description)
        case .host: self = .host(error.description)
        }
    }
}
