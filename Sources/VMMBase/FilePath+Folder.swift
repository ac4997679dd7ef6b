// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage

extension String {
    /// The path of the folder that a file is in: `.` for a bare name.
    package var folderPath: String {
        let folder = FilePath(self).removingLastComponent()
        return folder.isEmpty ? "." : folder.string
    }

    /// The file's name in its folder; empty for a path that names no file, such as `/`, `..` or one that ends with a slash.
    package var fileName: String {
        guard !hasSuffix("/"), let component = FilePath(self).lastComponent, component.kind == .regular else { return "" }
        return component.string
    }
}
