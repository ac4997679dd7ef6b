// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel
internal import VMMSandbox
internal import VMMService

extension MachineResources {
    /// The files and folders that the VM's process uses after the start, without its control socket. Kernel and initial RAM disk are not among them:
    /// they have been read.
    var allowedPlaces: [AllowedPlace] {
        var places: [AllowedPlace] = []
        // Open already; PATCH /drives may return to a file that it has replaced.
        for drive in drives { places.append(AllowedPlace(drive.path, drive.isReadOnly ? .read : [.read, .write])) }
        if let path = logger?.path { places.append(AllowedPlace(path, [.read, .write])) }
        // A FIFO is opened again for its next reader.
        if let path = metrics?.path { places.append(AllowedPlace(path, [.read, .write])) }
        // A full file is renamed, and a new one made.
        if case .file(let path, let limit) = console {
            places.append(AllowedPlace(path, [.read, .write]))
            if limit > 0 { places += MachineResources.folder(ofNew: path) }
        }
        // Written beside its name, then renamed; a FIFO or device is written directly.
        if let statsFile {
            places.append(AllowedPlace(statsFile, .write))
            places += MachineResources.folder(ofNew: statsFile)
        }
        for path in services.flatMap(\.removedFiles) {
            places.append(AllowedPlace(path, [.read, .write]))
            places.append(AllowedPlace(path.folderPath, .remove))
        }
        return places
    }

    /// The folder in which a new file will take the place of this one. None for a FIFO or a device, which is never replaced: /dev would have the host's
    /// disks, too.
    private static func folder(ofNew path: String) -> [AllowedPlace] {
        SmallFile.isReplaced(path) ? [AllowedPlace(path.folderPath, [.write, .make, .remove])] : []
    }
}
