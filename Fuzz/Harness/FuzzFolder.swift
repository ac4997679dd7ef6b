// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

/// A folder of the process for files of the targets: in the folder that scripts/fuzz makes and removes, since libFuzzer ends the process without
/// a deinit; otherwise in /dev/shm if it exists.
final class FuzzFolder: Sendable {
    let path: String

    init() throws {
        let parent = getenv("SYMVMM_FUZZ_FOLDER").map { String(cString: $0) } ?? (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")
        var template = Array("\(parent)/symvmm-fuzz-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw VMMError.last("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Replaces a file's contents.
    func write(_ name: String, _ bytes: [UInt8], mode: UInt32 = 0o600) throws {
        let file = try OwnedFileDescriptor.open("\(path)/\(name)", O_RDWR | O_CREAT | O_TRUNC, mode: mode)
        guard Glibc.write(file.rawValue, bytes, bytes.count) == bytes.count else { throw VMMError.last("write") }
    }

    func read(_ name: String) -> [UInt8]? {
        guard let file = try? OwnedFileDescriptor.open("\(path)/\(name)", O_RDONLY) else { return nil }
        var status = stat()
        guard fstat(file.rawValue, &status) == 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        let count = Glibc.read(file.rawValue, &bytes, bytes.count)
        return count == bytes.count ? bytes : nil
    }

    /// Removes all files.
    func empty() {
        guard let folder = opendir(path) else { return }
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { unlink("\(path)/\(name)") }
        }
        closedir(folder)
    }

    deinit {
        empty()
        rmdir(path)
    }
}
