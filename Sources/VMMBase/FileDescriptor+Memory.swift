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

}
