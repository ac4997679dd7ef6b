// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc

/// A new folder in TMPDIR or /tmp that only this user can enter; removed with its contents in the end.
package struct BuildFolder: ~Copyable {
    /// The folder's path.
    package let path: String

    /// Creates the folder.
    package init() throws(VMMError) {
        // SAFETY: nothing in this process changes the environment; the string is copied at once.
        let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/symvmm-module.XXXXXX".utf8CString)
        // SAFETY: the call changes only the last characters before the zero byte.
        guard unsafe mkdtemp(&template) != nil else { throw VMMError.last("mkdtemp \(parent)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        try? HostCommand.run(["rm", "-rf", path], log: "/dev/null")
    }
}
