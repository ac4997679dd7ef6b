// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

extension FileDescriptor {
    /// Anonymous memory of the host with a descriptor (memfd_create(2)): zeroes, backed where it is written.
    ///
    /// - Parameter byteCount: length in bytes, at most `Int64.max`.
    package static func memory(name: String, byteCount: UInt64) throws(KVMError) -> FileDescriptor {
        // SAFETY: the string lives for the call, which copies it.
        let number = unsafe ckvm_memory_file(name, byteCount)
        return FileDescriptor(owning: try KVMError.check(number, "memfd_create \(name)", advice: "\(byteCount) bytes"))
    }

    /// Opens the folder of a file, for calls that name files in it; it need not be readable.
    static func folder(_ folder: String, of path: String) throws(KVMError) -> FileDescriptor {
        // SAFETY: the string lives for the call, which copies it.
        let number = unsafe ckvm_open_folder(folder)
        return FileDescriptor(owning: try KVMError.check(number, "open \(path)"))
    }

    /// Makes a descriptor's number stand for another open file (dup3(2)); whether that was possible.
    package static func replace(_ number: Int32, with file: borrowing FileDescriptor) -> Bool {
        ckvm_replace_descriptor(number, file.rawValue) >= 0
    }
}
