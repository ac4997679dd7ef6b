// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMSymMod

@Suite struct GuestCommandLineTests {
    @Test(
        arguments: [
            ("root=/dev/vda", "/dev/vda"), ("root=/dev/vda root=/dev/vdb", "/dev/vdb"), ("a=b\troot=1:2\n", "1:2"),
            ("root=\"a b\" c", "a b"),
            ("\"root=a b\" c", "a b"), ("x=\"root=1\"", nil), ("x=\"a root=1\"", nil), ("", nil), ("root", nil), ("xroot=1", nil),
            ("-- root=1", nil), ("root=1 -- root=2", "1"), ("root=", ""), ("x=\" -- \" root=3", "3"), ("\"", nil), ("root=\"", ""),
        ] as [(String, String?)])
    func theLastValueCountsBeforeTheArgumentsOfInit(_ line: String, _ value: String?) {
        #expect(GuestCommandLine(line).value(of: "root") == value)
    }

    /// Nothing of the user's line changes, and all of it stays behind our parameter, which makes the kernel forget arguments before it.
    @Test func theParameterStandsInFront() {
        #expect(GuestCommandLine("").prefixed(by: "rdinit=/x") == "rdinit=/x")
        #expect(GuestCommandLine("single \"a  b\" -- c").prefixed(by: "rdinit=/x") == "rdinit=/x single \"a  b\" -- c")
    }
}
