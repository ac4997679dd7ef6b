// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The process' environment variables.
package enum ProcessEnvironment {
    /// Whether a variable is there and neither empty nor `0`. Call before other threads change the environment, which symvmm never does.
    package static func isSet(_ name: String) -> Bool {
        // SAFETY: the answer is used at once, and nothing changes the environment.
        guard let value = unsafe getenv(name) else { return false }
        return unsafe value.pointee != 0 && strcmp(value, "0") != 0
    }
}
