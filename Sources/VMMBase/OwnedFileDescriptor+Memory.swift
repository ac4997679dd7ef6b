// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

extension OwnedFileDescriptor {
    /// Anonymous host memory with a descriptor (memfd_create(2)): zero-filled, allocated on first write.
    ///
    /// - Parameter byteCount: length in bytes, at most `Int64.max`.
    package static func memory(name: String, byteCount: UInt64) throws(VMMError) -> OwnedFileDescriptor {
        // SAFETY: the string lives for the call, which copies it.
        let number = unsafe ckvm_memory_file(name, byteCount)
        return OwnedFileDescriptor(owning: try VMMError.check(number, "memfd_create \(name)", advice: "\(byteCount) bytes"))
    }

    /// Opens the folder of a file with O_PATH, which needs no read permission, for *at(2) calls.
    static func folder(_ folder: String, of path: String) throws(VMMError) -> OwnedFileDescriptor {
        // SAFETY: the string lives for the call, which copies it.
        let number = unsafe ckvm_open_folder(folder)
        return OwnedFileDescriptor(owning: try VMMError.check(number, "open \(path)"))
    }

    /// Makes a descriptor number refer to another open file (dup3(2)). Returns false on failure.
    package static func replace(_ number: Int32, with file: borrowing OwnedFileDescriptor) -> Bool {
        ckvm_replace_descriptor(number, file.rawValue) >= 0
    }
}
