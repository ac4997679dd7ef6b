// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import SymVMM

/// The source of symbiotic.ko: the folder guest/ of the project, or a copy of it.
package struct ModuleSource: Sendable {
    /// The folder with the subfolders `symbiotic` and `include`.
    package let path: String
    /// The version of the source: a hash of its files.
    package let version: String

    /// The folders of the source whose files make the module.
    private static let parts = ["include", "symbiotic"]
    /// Longest file of the source.
    private static let fileLimit = 1 << 20

    /// Reads a source.
    package init(path: String) throws(VMMError) {
        self.path = path
        var hash = SourceHash()
        for part in ModuleSource.parts {
            for name in try ModuleSource.names(in: "\(path)/\(part)") {
                hash.add("\(part)/\(name)".utf8)
                hash.add(try SmallFile.read("\(path)/\(part)/\(name)", atMost: ModuleSource.fileLimit))
            }
        }
        version = hash.text
    }

    /// The source that belongs to this program: `guest` beside the program's folder, as in the project, or `guest` and `share/symvmm/guest` where the
    /// program is installed.
    package static func ofThisProgram() throws(VMMError) -> ModuleSource {
        var buffer = [CChar](repeating: 0, count: 4097)
        // SAFETY: the call writes at most as many bytes as it is given, one less than the buffer has.
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let program = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let folder = program.folderPath
        let places = ["\(folder)/guest", "\(folder)/../guest", "\(folder)/../share/symvmm/guest"]
        for place in places {
            // SAFETY: the string lives for the call.
            if unsafe access("\(place)/symbiotic/Kbuild", R_OK) == 0 { return try ModuleSource(path: place) }
        }
        throw .user("no source of symbiotic.ko beside this program: give --source FOLDER, the folder guest of symvmm's source")
    }

    /// The names of the source files in a folder, sorted; not what a build leaves there.
    private static func names(in folder: String) throws(VMMError) -> [String] {
        // SAFETY: the stream is closed below, and an entry is read before the next call changes it.
        guard let stream = unsafe opendir(folder) else { throw VMMError.last("read \(folder)").asking(.user) }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            // SAFETY: the kernel ends d_name with a zero byte within the entry.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            let isSource = [".c", ".h", ".S"].contains { name.hasSuffix($0) } && !name.hasSuffix(".mod.c")
            if !name.hasPrefix("."), isSource || name == "Kbuild" || name == "Makefile" { names.append(name) }
        }
        return names.sorted()
    }
}

/// The headers of a kernel: the folder in which modules for it are built.
package struct KernelHeaders: Sendable {
    /// The folder.
    package let path: String
    /// The release, from `include/generated/utsrelease.h`.
    package let release: String

    /// Reads the release of a folder of headers.
    package init(path: String) throws(VMMError) {
        let file = "\(path)/include/generated/utsrelease.h"
        let text: [UInt8]
        do throws(VMMError) {
            text = try SmallFile.read(file, atMost: 4096)
        } catch {
            throw error.of("\(path): no headers of a kernel", .user)
        }
        let line = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline).first { $0.hasPrefix("#define UTS_RELEASE ") }
        let release = line?.split(separator: "\"").dropFirst().first.map { String($0) } ?? ""
        guard KernelRelease.isRelease(release) else { throw .user("\(file): names no release") }
        self.path = path
        self.release = release
    }

    /// The headers of a release, where distributions put them, or a folder: a text with a slash is a folder.
    package init(named text: String) throws(VMMError) {
        try self.init(path: text.contains("/") ? text : "/lib/modules/\(text)/build")
        guard text.contains("/") || release == text else { throw .user("\(path): headers of \(release), not of \(text)") }
    }

    /// All headers in /lib/modules, by release.
    package static func installed() -> [KernelHeaders] {
        // SAFETY: the stream is closed below, and an entry is read before the next call changes it.
        guard let stream = unsafe opendir("/lib/modules") else { return [] }
        defer { unsafe closedir(stream) }
        var found: [KernelHeaders] = []
        while let entry = unsafe readdir(stream) {
            // SAFETY: the kernel ends d_name with a zero byte within the entry.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if KernelRelease.isRelease(name), let headers = try? KernelHeaders(named: name) { found.append(headers) }
        }
        return found.sorted { $0.release < $1.release }
    }
}

extension ModuleStore {
    /// The module of this version for a kernel; nil if there is none.
    package func module(for release: String, source: String) throws(VMMError) -> Module? {
        try list().first { $0.release == release && $0.source == source }
    }

    /// Builds the module for a kernel with `make` and the compiler of the host, and adds it, without debug information.
    ///
    /// - Parameter folder: a folder for the build; the caller removes it. The output is in `build.log` there.
    package func build(_ source: ModuleSource, for headers: KernelHeaders, in folder: String) throws(VMMError) -> Module {
        let output = "\(folder)/\(headers.release)"
        // SAFETY: the string lives for the call.
        guard unsafe mkdir(output, 0o700) == 0 else { throw VMMError.last("mkdir \(output)") }
        let built = "\(output)/symbiotic/symbiotic.ko"
        do throws(VMMError) {
            let log = "\(folder)/build.log"
            try HostCommand.run(["make", "-C", "\(source.path)/symbiotic", "OUTPUT=\(output)", "KDIR=\(headers.path)"], log: log)
            try HostCommand.run(["strip", "--strip-debug", built], log: log)
        } catch {
            throw error.of("symbiotic.ko for \(headers.release)")
        }
        let module = try add(SmallFile.read(built, atMost: ModuleFile.limit), path: built, source: source.version)
        guard module.release == headers.release else { throw .host("\(headers.path): builds modules for \(module.release)") }
        return module
    }
}
