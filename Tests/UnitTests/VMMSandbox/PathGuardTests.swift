// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VMMBase

@testable import VMMSandbox

@Suite struct PathGuardTests {
    private func isAllowed(_ path: String, _ guardian: PathGuard) -> Bool {
        (try? guardian.check(path)) != nil
    }

    @Test func onlyConfiguredFilesAndThoseInTheFoldersAreAllowed() throws {
        let (inside, outside) = (try TemporaryFolder(), try TemporaryFolder())
        let (disk, other) = (outside.path + "/disk", outside.path + "/other")
        for path in [disk, other, inside.path + "/file"] { try SmallFile.write(path, []) }
        let guardian = try PathGuard([AllowedPlace(disk, .read)], folders: [inside.path])
        for path in [disk, inside.path + "/file", inside.path + "/new"] { #expect(isAllowed(path, guardian), "\(path)") }
        for path in [
            other, outside.path + "/new", inside.path + "/../x", inside.path + "x", inside.path + "/none/new", inside.path + "/none/../new",
            "/", "", "new",
        ] {
            #expect(!isAllowed(path, guardian), "\(path)")
        }
    }

    @Test func aLinkIsWhereItsTargetIs() throws {
        let (inside, outside) = (try TemporaryFolder(), try TemporaryFolder())
        for folder in [inside, outside] { try SmallFile.write(folder.path + "/file", []) }
        let guardian = try PathGuard([], folders: [inside.path])
        func link(_ name: String, _ target: String) -> String {
            #expect(unsafe symlink(target, "\(inside.path)/\(name)") == 0)
            return "\(inside.path)/\(name)"
        }
        #expect(isAllowed(link("own", inside.path + "/file"), guardian))
        #expect(!isAllowed(link("other", outside.path + "/file"), guardian))
        #expect(!isAllowed(link("folder", outside.path) + "/new", guardian))
        // The file would be made where the link points.
        #expect(!isAllowed(link("nothing", outside.path + "/none"), guardian))
        #expect(!isAllowed(link("loop", inside.path + "/loop"), guardian))
    }
}
