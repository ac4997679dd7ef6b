// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMBase
@testable import VMMSymMod

/// The store of modules: what is found, and from where nothing is taken.
@Suite struct ModuleStoreTests {
    private let folder: TemporaryFolder
    private let store: ModuleStore

    init() throws {
        folder = try TemporaryFolder()
        store = ModuleStore(path: "\(folder.path)/a/modules")
    }

    private func refusal(_ body: () throws(VMMError) -> Void) -> String {
        do throws(VMMError) {
            try body()
            return ""
        } catch {
            return error.description
        }
    }

    @Test func aStoreThatDoesNotExistIsEmpty() throws {
        #expect(try store.list().isEmpty)
        #expect(try store.newest(for: SymModFiles.release) == nil)
    }

    @Test func anAddedModuleIsFoundByItsRelease() throws {
        let bytes = SymModFiles.module()
        let added = try store.add(bytes, path: "m.ko", source: "0123456789abcdef")
        #expect(added.path == "\(store.path)/\(SymModFiles.release)/0123456789abcdef/symbiotic.ko")
        let found = try #require(try store.newest(for: SymModFiles.release))
        #expect((found.path, found.source, found.bytes) == (added.path, "0123456789abcdef", bytes))
        for release in ["6.1.0-57", "6.1.0-58-cloud-amd64", "", "..", "../\(SymModFiles.release)"] {
            #expect(try store.newest(for: release) == nil, "\(release)")
        }
        #expect(try store.list().map(\.release) == [SymModFiles.release])
    }

    /// Of several versions the one that was added last, and not the one with the largest name.
    @Test func theNewestModuleIsTaken() throws {
        let old = try store.add(SymModFiles.module(), path: "m.ko", source: "ffffffffffffffff")
        let new = try store.add(SymModFiles.module(), path: "m.ko", source: "0000000000000000")
        let times = [timeval(tv_sec: 1_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000, tv_usec: 0)]
        #expect(unsafe utimes(old.path, times) == 0)
        #expect(try store.newest(for: SymModFiles.release)?.path == new.path)
    }

    @Test func aModuleOfAnotherNameIsNotAdded() throws {
        #expect(refusal { () throws(VMMError) in _ = try store.add(SymModFiles.module(name: "ext4"), path: "m.ko") }.contains("ext4"))
        #expect(refusal { () throws(VMMError) in _ = try store.add([1, 2, 3], path: "m.ko") }.contains("not a kernel module"))
        #expect(try store.list().isEmpty)
    }

    /// The folder above the store has mode 1777, as /tmp has; any other folder that others can write to is refused.
    @Test func nothingIsTakenFromAPlaceThatOthersCanWriteTo() throws {
        let module = try store.add(SymModFiles.module(), path: "m.ko", source: "0123456789abcdef")
        let release = "\(store.path)/\(SymModFiles.release)"
        #expect(unsafe chmod(folder.path, 0o1777) == 0)
        #expect(try store.newest(for: SymModFiles.release) != nil)
        let places = [folder.path, "\(folder.path)/a", store.path, release, "\(release)/0123456789abcdef", module.path]
        for (index, place) in places.enumerated() {
            for mode in [0o777, 0o775, 0o1777] as [mode_t] where index > 1 || mode != 0o1777 {
                #expect(unsafe chmod(place, mode) == 0)
                let refusal = refusal { () throws(VMMError) in _ = try store.newest(for: SymModFiles.release) }
                #expect(refusal.contains("\(place): others may write"), "\(place) \(mode): \(refusal)")
                #expect(!self.refusal { () throws(VMMError) in _ = try store.list() }.isEmpty)
            }
            #expect(unsafe chmod(place, 0o755) == 0)
        }
        #expect(try store.newest(for: SymModFiles.release) != nil)
    }

    /// Only root can give a file away.
    @Test(.enabled(if: geteuid() == 0)) func nothingIsTakenFromAnotherUser() throws {
        let module = try store.add(SymModFiles.module(), path: "m.ko", source: "0123456789abcdef")
        for place in [module.path, store.path, "\(folder.path)/a"] {
            #expect(unsafe chown(place, 1234, 0) == 0)
            #expect(refusal { () throws(VMMError) in _ = try store.newest(for: SymModFiles.release) }.contains("belongs to user 1234"))
            #expect(unsafe chown(place, 0, 0) == 0)
        }
    }

    @Test func linksAndOtherThingsInTheStoreAreNotFollowed() throws {
        let module = try store.add(SymModFiles.module(), path: "m.ko", source: "0123456789abcdef")
        let release = "\(store.path)/\(SymModFiles.release)"
        #expect(unsafe symlink(release, "\(store.path)/6.12.0") == 0)
        #expect(refusal { () throws(VMMError) in _ = try store.newest(for: "6.12.0") }.contains("links are not followed"))
        #expect(unsafe unlink("\(store.path)/6.12.0") == 0)
        #expect(unsafe rename(module.path, "\(folder.path)/m.ko") == 0)
        #expect(unsafe symlink("\(folder.path)/m.ko", module.path) == 0)
        #expect(refusal { () throws(VMMError) in _ = try store.newest(for: SymModFiles.release) }.contains("links are not followed"))
        #expect(unsafe unlink(module.path) == 0)
        // Opening a FIFO must not wait.
        #expect(unsafe mkfifo(module.path, 0o600) == 0)
        #expect(refusal { () throws(VMMError) in _ = try store.newest(for: SymModFiles.release) }.contains("not a regular file"))
        // A link above the store is the user's choice, and what it leads to is checked.
        #expect(unsafe symlink("\(folder.path)/a", "\(folder.path)/b") == 0)
        #expect(unsafe unlink(module.path) == 0)
        #expect(unsafe rename("\(folder.path)/m.ko", module.path) == 0)
        #expect(try ModuleStore(path: "\(folder.path)/b/modules").newest(for: SymModFiles.release) != nil)
    }

    @Test func aHashTellsFilesAndTheirBordersApart() {
        func hash(_ parts: [[UInt8]]) -> String {
            var hash = SourceHash()
            for part in parts { hash.add(part) }
            return hash.text
        }
        #expect(hash([[1, 2], [3]]) == hash([[1, 2], [3]]))
        #expect(Set([hash([[1, 2], [3]]), hash([[1], [2, 3]]), hash([[1, 2, 3]]), hash([[1, 2, 3], []]), hash([])]).count == 5)
        #expect(hash([]).utf8.count == 16)
    }
}
