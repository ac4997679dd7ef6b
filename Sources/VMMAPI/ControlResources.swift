// SPDX-License-Identifier: Apache-2.0

// Resources that both the server and the command use.

/// `GET /`: Firecracker's `InstanceInfo`.
package struct InstanceInfo: Codable, Sendable, Equatable {
    /// `symvmm`, or whose API it speaks.
    package let appName: String
    /// The VM's name.
    package let id: String
    /// The VM's state: a raw value of `MachineState`.
    package let state: String
    /// The version of symvmm.
    package let vmmVersion: String

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey {
        case appName = "app_name"
        case id, state
        case vmmVersion = "vmm_version"
    }

    /// Describes a VM.
    package init(id: String, state: String, version: String, program: String = "symvmm") {
        appName = program
        self.id = id
        self.state = state
        vmmVersion = version
    }
}

/// `GET /version`.
package struct VersionInfo: Codable, Sendable, Equatable {
    /// The version of symvmm, in the field that Firecracker's clients read.
    package let firecrackerVersion: String
    /// The version of symvmm.
    package let vmmVersion: String

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey {
        case firecrackerVersion = "firecracker_version"
        case vmmVersion = "vmm_version"
    }

    /// Sets both fields.
    package init(version: String) {
        firecrackerVersion = version
        vmmVersion = version
    }
}

/// The body of `PATCH /vm`.
package struct VMStateResource: APIResource {
    /// The requested state.
    package enum State: String, FieldEnum {
        /// Pause the vCPUs between two exits.
        case paused = "Paused"
        /// Resume the vCPUs.
        case resumed = "Resumed"
    }

    /// The requested state.
    package var state: State

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case state
    }

    /// Creates a body.
    package init(state: State) {
        self.state = state
    }
}

/// The body of `PUT /actions`. Firecracker does not have the field timeout_seconds and the actions Stop and Kill.
package struct ActionResource: APIResource {
    /// The action.
    package enum Action: String, FieldEnum {
        /// Build the machine and start it.
        case instanceStart = "InstanceStart"
        /// Press the power button.
        case sendCtrlAltDel = "SendCtrlAltDel"
        /// Write a line of metrics.
        case flushMetrics = "FlushMetrics"
        /// Press the power button. With a timeout, kill the VM when it expires, or at once if the VM is paused or its guest has not enabled the
        /// button.
        case stop = "Stop"
        /// Kill the VM.
        case kill = "Kill"
    }

    /// The action.
    package var action: Action
    /// Seconds for the guest to power off, 0 to 86,400; only for Stop. Nil: the VM is not killed.
    package var timeout: Int64?

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case action = "action_type"
        case timeout = "timeout_seconds"
    }

    /// Creates a body.
    package init(action: Action, timeout: Int64? = nil) {
        self.action = action
        self.timeout = timeout
    }
}

/// The body of `PUT /symcalls`.
package struct SymCallResource: APIResource {
    /// The call.
    package enum Call: String, FieldEnum {
        /// The calls of docs/ABI.md, 4.4. `tasks` and `threads` are the same symcall: all processes, or all threads.
        case ping, uname, task, tasks, threads, memory, log
        /// A call of the guest module's test builds.
        case test

        /// The calls that messages list: all but `test`.
        package static let allCases: [Call] = [.ping, .uname, .task, .tasks, .threads, .memory, .log]
    }

    /// The call.
    package var call: Call
    /// The vCPU to call, from 0. Nil: vCPU 0; for a series of pings, a random vCPU for each; for `test`, inside a doorbell's exit.
    package var vcpu: Int64?
    /// Number of consecutive pings, 1 to `SymCallSeries.countLimit`; nil for one call.
    package var count: Int64?
    /// Number of the test call, 0x1e0 to 0x1ff; only for `test`.
    package var number: Int64?
    /// Arguments, at most five, from 0. Absent ones are 0.
    package var values: [Int64]?

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case call, vcpu
        case count = "repeat"
        case number, values
    }

    /// Creates a body.
    package init(call: Call, vcpu: Int64? = nil, values: [Int64]? = nil) {
        self.call = call
        self.vcpu = vcpu
        self.values = values
    }
}
