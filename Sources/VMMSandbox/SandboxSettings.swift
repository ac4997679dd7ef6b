// SPDX-License-Identifier: Apache-2.0

internal import CSandbox

/// What the sandbox does with a call that is not in the table.
package enum SandboxMode: String, Sendable, CaseIterable {
    /// Ends the process.
    case on
    /// There is no sandbox.
    case off
    /// Reports the call on standard error and makes it, for development. There are no Landlock rules.
    case log
}

/// The user's choice.
package struct SandboxSettings: Sendable, Equatable {
    /// Whether there is a sandbox.
    package var mode = SandboxMode.on
    /// Folders in which the API may open files after the start: PATCH /drives, PUT /logger.
    package var folders: [String] = []

    /// The default: on, without folders.
    package init() {
    }
}

/// What this host's kernel offers for the sandbox.
package enum SandboxSupport {
    /// Whether it has seccomp filters that end the process (Linux 4.14).
    package static var hasFilters: Bool {
        csandbox_has_action(UInt32(CSANDBOX_RETURN_KILL_PROCESS))
    }

    /// The version of its Landlock interface; 0 without Landlock.
    package static var landlockVersion: Int {
        Landlock.version
    }
}
