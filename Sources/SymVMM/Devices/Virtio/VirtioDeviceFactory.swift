// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage
internal import VMMBase
internal import VMMModel

/// Creates a configuration's virtio devices of one kind. To add a kind of device, add a factory.
struct VirtioDeviceFactory: Sendable {
    /// Creates the devices. The thread serves devices without threads of their own; the maker gives interfaces their responders.
    let make: @Sendable (MachineConfiguration, IOThread, FrameResponder.Maker) throws(VMMError) -> [VirtioDevice]

    /// All kinds, in the order in which the guest finds the devices.
    static let all = [drives, networkInterfaces, randomNumbers]

    private static let drives = VirtioDeviceFactory { (configuration, _, _) throws(VMMError) in
        var open: [(id: String, storage: FileStorage)] = []
        return try configuration.drives.map { (drive) throws(VMMError) in
            try naming("drive '\(drive.id)'") { () throws(VMMError) in
                // The lock would say that another process uses the file.
                if let other = open.first(where: { $0.storage.isFile(at: drive.path) && !($0.storage.isReadOnly && drive.isReadOnly) }) {
                    throw VMMError(
                        .user, "disk \(drive.path): drive '\(other.id)' of this VM is the same file",
                        advice: "give each drive its own, or use both read-only")
                }
                let storage = try FileStorage(
                    path: drive.path, isReadOnly: drive.isReadOnly, sectorSize: drive.sectorSize, isRaw: drive.isRaw,
                    allowsAnySize: drive.allowsAnySize)
                open.append((drive.id, storage))
                return try VirtioBlock(id: drive.id, storage: storage, rateLimiter: drive.rateLimiter)
            }
        }
    }

    private static let networkInterfaces = VirtioDeviceFactory { (configuration, thread, responder) throws(VMMError) in
        try configuration.networkInterfaces.map { (interface) throws(VMMError) in
            try naming("network interface '\(interface.id)'") { () throws(VMMError) in
                try VirtioNet(
                    configuration: interface, machineName: configuration.name, responder: responder(interface.id), on: thread)
            }
        }
    }

    /// The entropy device that every machine has.
    private static let randomNumbers = VirtioDeviceFactory { (_, thread, _) throws(VMMError) in [VirtioRng(on: thread)] }

    /// Adds the part of the configuration to an error. A permission error has the kind host, all others user.
    private static func naming(_ part: String, _ make: () throws(VMMError) -> VirtioDevice) throws(VMMError) -> VirtioDevice {
        do throws(VMMError) {
            return try make()
        } catch {
            throw error.of(part, error.errno == .permissionDenied || error.errno == .notPermitted ? .host : .user)
        }
    }
}
