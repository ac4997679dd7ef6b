// SPDX-License-Identifier: Apache-2.0

internal import CTestServices
internal import Glibc
internal import VMMBase

/// Lets a test make a system call on any thread of a VM's process: the test sets `SYMVMM_TEST_CALL` and sends SIGUSR2 to the thread. So it sees what the
/// sandbox does with the call. Only test builds of symvmm have it.
enum TestCall {
    /// Prepares the call if the environment names one.
    static func prepare() throws(VMMError) {
        // SAFETY: nothing changes the environment while the value is in use; the call copies it.
        guard let text = unsafe getenv("SYMVMM_TEST_CALL") else { return }
        _ = try VMMError.check(unsafe ctest_call_on_signal(text), "sigaction SIGUSR2")
    }
}
