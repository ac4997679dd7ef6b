// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VMMBase

@testable import VMMJail

@Suite struct JailOptionTests {
    /// The message of the error that the body throws; empty if it throws none.
    private func refusal(_ body: () throws(VMMError) -> Void) -> String {
        do throws(VMMError) {
            try body()
            return ""
        } catch {
            return error.description
        }
    }

    private func configuration(
        _ id: String = "web", user: uid_t? = 1000, group: gid_t? = 1000, arguments: [String] = ["run"]
    ) throws(VMMError) -> JailConfiguration {
        // Only root may choose a user.
        let ids = JailConfiguration.isPrivileged ? (user, group) : (nil, nil)
        return try JailConfiguration(id: id, user: ids.0, group: ids.1, program: "/bin/sh", arguments: arguments)
    }

    @Test func theNameOfAJailIsAFolderName() throws {
        for id in ["a", "web-1", "0", String(repeating: "x", count: 64)] { #expect(try configuration(id).id == id) }
        for id in ["", "-a", "a/b", "..", "a.b", "a b", "ä", "a\u{301}", "a\0", String(repeating: "x", count: 65)] {
            #expect(refusal { () throws(VMMError) in _ = try configuration(id) }.contains("--id"), "\(id)")
        }
    }

    @Test func theVMHasTheNameOfItsJail() throws {
        #expect(try configuration("web", arguments: ["run", "--kernel", "k"]).arguments == ["run", "--name", "web", "--kernel", "k"])
        for arguments in [[], ["ps"], ["--name"], [""]] {
            #expect(refusal { () throws(VMMError) in _ = try configuration(arguments: arguments) }.contains("run or serve"))
        }
    }

    @Test(.enabled(if: JailConfiguration.isPrivileged)) func rootChoosesAUserThatIsNotRoot() throws {
        for (user, group, option): (uid_t?, gid_t?, String) in [
            (nil, 1, "--uid"), (1, nil, "--gid"), (0, 1, "--uid"), (1, 0, "--gid"), (uid_t.max, 1, "--uid"), (1, gid_t.max, "--gid"),
        ] {
            #expect(refusal { () throws(VMMError) in _ = try configuration(user: user, group: group) }.hasPrefix(option))
        }
        let made = try configuration(user: 7, group: 8)
        #expect((made.user, made.group) == (7, 8))
    }

    @Test func theProgramMayNotHaveTheNameOfAFolderInTheJail() throws {
        let folder = try TemporaryFolder()
        for name in ["dev", "proc", "run"] {
            try SmallFile.write("\(folder.path)/\(name)", [])
            let refusal = refusal { () throws(VMMError) in
                let ids: (uid_t?, gid_t?) = JailConfiguration.isPrivileged ? (1, 1) : (nil, nil)
                _ = try JailConfiguration(
                    id: "a", user: ids.0, group: ids.1, program: "\(folder.path)/\(name)", arguments: ["run"])
            }
            #expect(refusal.contains("--exec-file"))
        }
    }

    @Test func limitsOfResources() throws {
        #expect(try ResourceLimit(option: "fsize=0") == ResourceLimit(resource: .fileSize, value: 0))
        #expect(try ResourceLimit(option: "no-file=18446744073709551615") == ResourceLimit(resource: .openFiles, value: .max))
        for option in ["", "fsize", "fsize=", "fsize=-1", "fsize=1=2", "fsize=18446744073709551616", "core=1", "=1", "no-file=1k"] {
            #expect(refusal { () throws(VMMError) in _ = try ResourceLimit(option: option) }.contains("--resource-limit"), "\(option)")
        }
    }

    @Test func controlsNameFilesThatSetLimits() throws {
        let control = try ControlGroup.Control(option: "io.max=8:0 rbps=1=2")
        #expect((control.file, control.value, control.controller) == ("io.max", "8:0 rbps=1=2", "io"))
        #expect(try ControlGroup.Control(option: "cgroup.max.depth=1").controller == nil)
        for option in [
            "", "=", "memory.max", "memory.max=", "=1", "memory=1", ".max=1", "../memory.max=1", "a/b.c=1", "cgroup.procs=1",
            "cgroup.freeze=1", "cgroup.kill=1", "memory.mäx=1", "memory.max\n=1",
        ] {
            #expect(refusal { () throws(VMMError) in _ = try ControlGroup.Control(option: option) }.contains("--cgroup"), "\(option)")
        }
    }

    @Test func parentsOfControlGroupsStayBelowTheTop() throws {
        for parent in ["a", "a/b", "vms.slice/x"] { try ControlGroup.checkParent(parent) }
        for parent in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a"] {
            #expect(refusal { () throws(VMMError) in try ControlGroup.checkParent(parent) }.contains("--parent-cgroup"), "\(parent)")
        }
    }

    @Test func bindsNameAPlaceInTheJail() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/disk"
        try SmallFile.write(path, [])
        let whole = try Bind(option: "\(path):/data/disk:rw")
        #expect((whole.target, whole.isWritable, whole.isFolder) == ("data/disk", true, false))
        #expect(whole.parents == ["data"])
        let short = try Bind(option: folder.path)
        #expect((short.target, short.isWritable, short.isFolder) == (String(folder.path.dropFirst()), false, true))
        #expect(try Bind(option: "\(path)://a///b").target == "a/b")
        for option in [
            "", ":", ":rw", ":/a", "\(path):", "\(path):a", "\(path):/", "\(path):/..", "\(path):/a/../b", "\(path):/./b",
            "\(path):/a:ro", "\(path)-none:/a",
        ] {
            #expect(refusal { () throws(VMMError) in _ = try Bind(option: option) }.contains("--bind"), "\(option)")
        }
    }

    @Test func bindsDoNotOverlap() throws {
        func bind(_ target: String) -> Bind { Bind(entry: "/", target: target, isFolder: true) }
        try Bind.check([bind("a"), bind("ab"), bind("b/c"), bind("b/d")], taken: ["dev", "run"])
        for targets in [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["dev"], ["run/x"]] {
            let refusal = refusal { () throws(VMMError) in try Bind.check(targets.map(bind), taken: ["dev", "run"]) }
            #expect(refusal.contains("overlap"), "\(targets)")
        }
        try Bind.check((0..<60).map { bind("n\($0)") }, taken: [])
        #expect(refusal { () throws(VMMError) in try Bind.check((0..<61).map { bind("n\($0)") }, taken: []) }.contains("at most 60"))
    }
}
