// SPDX-License-Identifier: Apache-2.0

/// What a thread is for. docs/ARCHITECTURE.md lists who makes the threads of each role, and when.
///
/// The raw value is the beginning of the name in /proc/PID/task/TID/comm; `Thread` appends a label to it.
package enum ThreadRole: String, CaseIterable, Sendable {
    /// KVM_RUN and the handling of exits; label: the vCPU's number.
    case vcpu = "vcpu"
    /// Requests of one disk; label: the worker's number and the disk's identifier.
    case block = "blk"
    /// Network interfaces, the random number generator, and the activation and stop of both.
    case devices = "symvmm-io"
    /// What a symbiotic service does beside the guest; label: the service.
    case service = "service"
    /// Kicks a vCPU whose symcall exceeds its time limit.
    case symcallLimit = "symcall-limit"
    /// Reads the console's input.
    case consoleInput = "console-in"
    /// Writes the console's output.
    case consoleOutput = "console-out"
    /// Waits for termination signals.
    case signals = "signals"
    /// Kills a VM that does not power off in time.
    case stopper = "stopper"
    /// Writes lines of metrics.
    case metrics = "metrics"
    /// The API's event loop: HTTP on the control socket.
    case apiLoop = "api-loop"
    /// Executes the API's short requests: pause, resume, stop, kill, statistics; label: a number.
    case apiLife = "api-life"
    /// Executes all other requests of the API.
    case apiWork = "api-work"
    /// The main thread of a VM's process; no `Thread` has this role.
    case main = "symvmm"
    /// Opens, renames and removes files for the others.
    case files = "files"
    /// Builds the second machine of a test: `PUT /test-move` of test builds.
    case testMover = "test-mover"
    /// A thread of a command that is not a VM's process, such as `symvmm top`, or of a test. The label is its whole name.
    case command = ""
}
