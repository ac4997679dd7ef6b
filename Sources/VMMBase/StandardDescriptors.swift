// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Standard input, standard output and standard error.
package enum StandardDescriptors {
    /// Opens those that are closed. Otherwise the next file or socket that the process opens would get the number, and messages or console output
    /// would be written to it.
    package static func openClosed() {
        for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
            // open(2) returns the lowest free number, which is this one. Reading gives the end of the file; writing fails as with a closed descriptor.
            // SAFETY: the string lives for the call.
            _ = unsafe open("/dev/null", O_RDONLY)
        }
    }
}
