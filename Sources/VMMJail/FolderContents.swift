// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Reads and removes the contents of folders that a hostile program may have filled.
enum FolderContents {
    /// A name as the kernel has it, with the zero byte at its end: any other bytes but a slash. A `String` would change those that are no UTF-8.
    typealias Name = [CChar]

    /// The names in a folder, without `.` and `..`; nil if it cannot be read.
    static func names(in folder: borrowing OwnedFileDescriptor) -> [Name]? {
        // Opens the folder again: a duplicate would share the position.
        // SAFETY: the string lives for the call.
        let number = unsafe openat(folder.rawValue, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { return nil }
        // SAFETY: the stream owns the descriptor and is closed below; an entry is read before the next call changes it.
        guard let stream = unsafe fdopendir(number) else {
            close(number)
            return nil
        }
        defer { unsafe closedir(stream) }
        let dot = CChar(bitPattern: UInt8(ascii: "."))
        var names: [Name] = []
        while let entry = unsafe readdir(stream) {
            // SAFETY: the C library ends d_name with a zero byte within the entry.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe Name(UnsafeBufferPointer(start: $0, count: strlen($0) + 1))
                }
            }
            if name != [dot, 0], name != [dot, dot, 0] { names.append(name) }
        }
        return names
    }

    /// Removes a folder with all that is in it. Follows no symbolic link. Folders at any depth are moved up and emptied one after the other, so that
    /// depth costs neither stack nor descriptors.
    ///
    /// - Returns: whether there is no such folder any more.
    static func removeFolder(_ name: String, in parent: borrowing OwnedFileDescriptor) -> Bool {
        guard let top = open(Name(name.utf8CString), in: parent) else {
            // SAFETY: the string lives for the calls.
            return unsafe errno == ENOENT || unlinkat(parent.rawValue, name, 0) == 0
        }
        var count = 0
        while let entries = names(in: top), !entries.isEmpty {
            var hasRemoved = false
            for entry in entries {
                // SAFETY: here and below, the names live for the calls.
                if unsafe unlinkat(top.rawValue, entry, 0) == 0 || unlinkat(top.rawValue, entry, AT_REMOVEDIR) == 0 {
                    hasRemoved = true
                } else if let folder = open(entry, in: top), let inner = FolderContents.names(in: folder) {
                    for child in inner {
                        if unsafe unlinkat(folder.rawValue, child, 0) == 0 {
                            hasRemoved = true
                            continue
                        }
                        count += 1
                        // If the program took this name, too, the next round tries another one.
                        if unsafe renameat(folder.rawValue, child, top.rawValue, "\(getpid()).\(count).moved") == 0 { hasRemoved = true }
                    }
                }
            }
            guard hasRemoved else { return false }
        }
        // SAFETY: the string lives for the call.
        return unsafe unlinkat(parent.rawValue, name, AT_REMOVEDIR) == 0
    }

    private static func open(_ name: Name, in parent: borrowing OwnedFileDescriptor) -> OwnedFileDescriptor? {
        // SAFETY: the name ends with a zero byte and lives for the calls.
        var number = unsafe openat(parent.rawValue, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if number < 0, errno == EACCES {
            // A folder of this user without permissions. Never the target of a link that takes its place now.
            _ = unsafe fchmodat(parent.rawValue, name, 0o700, AT_SYMLINK_NOFOLLOW)
            number = unsafe openat(parent.rawValue, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        }
        return number < 0 ? nil : OwnedFileDescriptor(owning: number)
    }
}
