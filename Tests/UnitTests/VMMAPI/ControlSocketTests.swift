// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMAPI
@testable import VMMBase

/// A test's own folder. Deinit removes it with its contents.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/symvmm-test-XXXXXX".utf8CString)
        let made = unsafe mkdtemp(&template).map { unsafe String(cString: $0) }
        path = try #require(made)
    }

    deinit {
        TemporaryFolder.empty(path)
        _ = unsafe rmdir(path)
    }

    /// Names of the folder's entries.
    var entries: [String] { TemporaryFolder.entries(of: path) }

    private static func empty(_ path: String) {
        for name in entries(of: path) where unsafe unlink("\(path)/\(name)") != 0 {
            empty("\(path)/\(name)")
            _ = unsafe rmdir("\(path)/\(name)")
        }
    }

    static func entries(of path: String) -> [String] {
        guard let stream = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

@Suite struct ControlSocketTests {
    private func mode(_ path: String) -> mode_t? {
        var status = stat()
        return unsafe lstat(path, &status) == 0 ? status.st_mode : nil
    }

    @Test func theFolderIsChosenAndClosedToOthers() throws {
        let home = try TemporaryFolder()
        #expect(RuntimeFolder.choose(configured: home.path, uid: 1) == home.path + "/symvmm")
        #expect(RuntimeFolder.choose(configured: home.path + "/", uid: 1) == home.path + "/symvmm")
        for configured in [nil, "", "relative", "/nonexistent/x"] {
            #expect(RuntimeFolder.choose(configured: configured, uid: 987_654) == "/tmp/symvmm-987654")
        }
        let folder = try RuntimeFolder(path: home.path + "/symvmm")
        #expect(mode(folder.path) == S_IFDIR | 0o700)
        #expect(try RuntimeFolder(path: folder.path).path == folder.path)
    }

    @Test func foldersOfOthersAreRefused() throws {
        let home = try TemporaryFolder()
        _ = try RuntimeFolder(path: home.path + "/real")
        try #require(unsafe symlink(home.path + "/real", home.path + "/link") == 0)
        #expect(throws: VMMError.self) { try RuntimeFolder(path: home.path + "/link") }
        try #require(unsafe mkdir(home.path + "/open", 0o755) == 0)
        let error = #expect(throws: VMMError.self) { try RuntimeFolder(path: home.path + "/open") }
        #expect(error?.description.contains("chmod 700") == true)
        try SmallFile.write(home.path + "/file", [1])
        #expect(throws: VMMError.self) { try RuntimeFolder(path: home.path + "/file") }
        #expect(throws: VMMError.self) { try RuntimeFolder(path: home.path + "/missing/deep") }
    }

    @Test func aSocketIsPrivateFromTheStartAndRemovedAtTheEnd() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let path = folder.socketPath(of: "vm")
        do {
            let socket = try ControlSocket(name: "vm", folder: folder)
            #expect(socket.path == path)
            #expect(mode(path) == S_IFSOCK | 0o600)
            #expect(ControlSocket.isAlive(path))
            #expect(folder.names() == ["vm"])
            let error = #expect(throws: VMMError.self) { try ControlSocket(name: "vm", folder: folder) }
            #expect(error?.description.contains("a VM named 'vm' is running") == true)
            #expect(ControlSocket.isAlive(path))
            socket.remove()
        }
        #expect(mode(path) == nil)
        #expect(!ControlSocket.isAlive(path))
    }

    /// A client that sees the file can connect: the file never exists without a listener.
    @Test func aSocketThatCanBeSeenAnswers() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let refusals = Refusals()
        for number in 0..<5000 {
            let path = folder.socketPath(of: "vm\(number)")
            let client = try VMMBase.Thread(.command, "client") {
                while unsafe access(path, F_OK) != 0 {}
                if !ControlSocket.isAlive(path) { refusals.count.add(1, ordering: .relaxed) }
            }
            let socket = try ControlSocket(name: "vm\(number)", folder: folder)
            // Keep the file until the client has tried to connect.
            client.join()
            socket.remove()
        }
        #expect(refusals.count.load(ordering: .relaxed) == 0)
        #expect(TemporaryFolder.entries(of: folder.path).isEmpty)
    }

    private final class Refusals: Sendable {
        let count = Atomic(0)
    }

    @Test func aStaleSocketIsReplaced() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let path = folder.socketPath(of: "vm")
        let dead = try ControlSocket(name: "vm", folder: folder)
        // As after the kill of a process: the descriptor is closed, but the file stays.
        close(dead.takeDescriptor())
        #expect(mode(path) != nil)
        #expect(!ControlSocket.isAlive(path))
        #expect(ControlSocket.isLeftBehind(path))
        let socket = try ControlSocket(name: "vm", folder: folder)
        #expect(ControlSocket.isAlive(path))
        // The old socket's remove() does not remove the new socket's file.
        dead.remove()
        #expect(ControlSocket.isAlive(path) && !ControlSocket.isLeftBehind(path))
        close(socket.takeDescriptor())
        ControlSocket.removeIfStale(path)
        #expect(mode(path) == nil && !ControlSocket.isLeftBehind(path))
    }

    @Test func whatIsNoSocketIsLeftAlone() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let path = folder.socketPath(of: "vm")
        try SmallFile.write(path, Array("precious".utf8))
        #expect(throws: VMMError.self) { try ControlSocket(name: "vm", folder: folder) }
        #expect(throws: VMMError.self) { try ControlSocket(path: path, name: "other", folder: folder) }
        ControlSocket.removeIfStale(path)
        #expect(!ControlSocket.isLeftBehind(path))
        #expect(try SmallFile.read(path, atMost: 100) == Array("precious".utf8))
    }

    @Test func aPathOfChoiceIsFoundByName() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let chosen = home.path + "/api.sock"
        let socket = try ControlSocket(path: chosen, name: "vm", folder: folder)
        #expect(mode(chosen) == S_IFSOCK | 0o600)
        #expect(ControlSocket.isAlive(chosen))
        #expect(ControlSocket.isAlive(folder.socketPath(of: "vm")))
        #expect(throws: VMMError.self) { try ControlSocket(name: "vm", folder: folder) }
        #expect(throws: VMMError.self) { try ControlSocket(path: chosen, name: "other", folder: folder) }
        socket.remove()
        #expect(mode(chosen) == nil)
        #expect(mode(folder.socketPath(of: "vm")) == nil)
    }

    /// Also when the first one takes the name after the second one has looked.
    @Test func aSocketThatNeedsNoNameLeavesItToTheFirst() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let paths = (1...3).map { home.path + "/\($0).sock" }
        let sockets = try paths.map { try ControlSocket(path: $0, name: "vm", folder: folder, needsName: false) }
        for path in paths { #expect(ControlSocket.isAlive(path)) }
        #expect(ControlSocket.place(folder.socketPath(of: "vm")) == paths[0])
        sockets[1].remove()
        #expect(ControlSocket.isAlive(folder.socketPath(of: "vm")))
        sockets[0].remove()
        #expect(mode(folder.socketPath(of: "vm")) == nil)
        #expect(throws: VMMError.self) { try ControlSocket(path: paths[2], name: "vm", folder: folder, needsName: false) }
        sockets[2].remove()
    }

    /// As in /tmp: other users can lock the folder, and create files with the names that we use. A folder that they can only read they can lock, too.
    @Test(.timeLimit(.minutes(1)), arguments: [mode_t(0o1777), 0o755]) func othersCanNotKeepASocketFromASharedFolder(permissions: mode_t)
        throws
    {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let shared = home.path + "/shared"
        try #require(unsafe mkdir(shared, 0o700) == 0 && chmod(shared, permissions) == 0)
        let squatter = try OwnedFileDescriptor.open(shared, O_RDONLY | O_DIRECTORY)
        try #require(flock(squatter.rawValue, LOCK_EX | LOCK_NB) == 0)
        let chosen = shared + "/api.sock"
        try SmallFile.write(chosen + "~", [1])
        let socket = try ControlSocket(path: chosen, name: "vm", folder: folder)
        #expect(mode(chosen) == S_IFSOCK | 0o600 && ControlSocket.isAlive(chosen))
        #expect(throws: VMMError.self) { try ControlSocket(path: chosen, name: "other", folder: folder) }
        socket.remove()
        #expect(TemporaryFolder.entries(of: shared) == ["api.sock~"])
        // A file with the socket's own name is an error.
        try SmallFile.write(chosen, [1])
        #expect(throws: VMMError.self) { try ControlSocket(path: chosen, name: "vm", folder: folder) }
    }

    @Test func tooLongPathsAreSaid() throws {
        let home = try TemporaryFolder()
        let folder = try RuntimeFolder(path: home.path + "/run")
        let long = home.path + "/" + String(repeating: "x", count: 108 - home.path.utf8.count - 1)
        let error = #expect(throws: VMMError.self) { try ControlSocket(path: long, name: "vm", folder: folder) }
        #expect(error?.description.contains("at most 107 bytes, this one has 108") == true)
        let fits = String(long.dropLast())
        #expect(throws: Never.self) { try ControlSocket(path: fits, name: "vm", folder: folder).remove() }
        #expect(throws: VMMError.self) { try ControlSocket(path: home.path + "/no/such/a.sock", name: "vm", folder: folder) }
    }

    @Test func filesAreWrittenWhole() throws {
        let home = try TemporaryFolder()
        let path = home.path + "/stats.json"
        try SmallFile.write(path, [UInt8](repeating: 1, count: 200_000))
        try SmallFile.write(path, [2])
        #expect(try SmallFile.read(path, atMost: 10) == [2])
        #expect(throws: VMMError.self) { try SmallFile.write(home.path + "/no/such", [1]) }
        #expect(throws: VMMError.self) { try SmallFile.write(home.path, [1]) }
        #expect(throws: VMMError.self) { try SmallFile.read(path, atMost: 0) }
        // No temporary file stays.
        #expect(home.entries == ["stats.json"])
    }
}
