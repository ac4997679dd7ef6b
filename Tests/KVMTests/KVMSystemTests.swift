// SPDX-License-Identifier: Apache-2.0

import CKVM
import SystemPackage
import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct KVMSystemTests {
    @Test func aMissingDeviceIsReportedWithAdvice() {
        do throws(VMMError) {
            _ = try KVMSystem(path: "/nonexistent/kvm")
            Issue.record("opened a device that does not exist")
        } catch {
            #expect(error.errno == .noSuchFileOrDirectory)
            #expect(error.description.contains("load kvm_intel or kvm_amd"))
        }
    }
}
