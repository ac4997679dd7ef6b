// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import CSandbox
internal import Glibc

/// The sandbox of a VM's process: each thread has a seccomp filter of its own, from `SandboxTable`. The one thread whose filter lets it open files has
/// Landlock rules, too.
///
/// The order is part of the design, because a thread inherits its maker's filter and rules:
///
///     install()            the main thread, which has no filter, makes the first threads; each confines itself before anything else
///     allow(_:)            the configuration says which files may be used after the start
///     seal()               on the builder, when the last thread exists and no vCPU runs: waits until all have confined themselves,
///                          confines the file thread, then the builder
///
/// The builder is the main thread in `symvmm run` and the API's thread `api-work` in `symvmm serve`.
package final class Sandbox: ThreadConfiner {
    private struct State {
        var places: [AllowedPlace] = []
        /// Threads that were made, or the waiting main thread, and have not confined themselves yet.
        var unconfined = 0
        var failure: VMMError?
        var isSealed = false
        var guardian: PathGuard?
    }

    /// Files that the guest and clients fill may be as long as this, or as the longest file of the configuration.
    static let leastFileSizeLimit: UInt64 = 64 << 30

    /// The user's choice; never `off`.
    package let settings: SandboxSettings
    /// The version of Landlock's interface; 0 without Landlock.
    package let landlockVersion: Int
    private let builder: ThreadRole
    private let process = UInt32(getpid())
    private let state: Monitor<State>

    /// Prepares the sandbox.
    ///
    /// - Parameters:
    ///   - settings: mode `on` or `log`.
    ///   - builder: the role of the thread that will build the machine: `main` or `apiWork`.
    /// - Throws: `VMMError` if the kernel has no seccomp filters.
    package init(_ settings: SandboxSettings, builder: ThreadRole) throws(VMMError) {
        guard SandboxSupport.hasFilters else {
            throw VMMError(.host, "the kernel has no seccomp filters", advice: "use --sandbox off to run without the sandbox")
        }
        self.settings = settings
        self.builder = builder
        landlockVersion = settings.mode == .on ? SandboxSupport.landlockVersion : 0
        // The main thread confines itself before it waits for the builder.
        state = Monitor(State(unconfined: builder == .main ? 0 : 1))
        if settings.mode == .log { _ = try VMMError.check(csandbox_report_calls(), "sigaction SIGSYS") }
        for folder in settings.folders { try PathGuard.checkFolder(folder) }
    }

    /// Confines all threads that are made from now on.
    package func install() {
        ThreadConfinement.install(self)
    }

    /// Allows the use of places after `seal()`. Before it.
    package func allow(_ places: [AllowedPlace]) {
        state.update { $0.places += places }
    }

    /// One line for the log.
    package var summary: String {
        switch settings.mode {
        case .off: "the sandbox is off"
        case .log: "the sandbox only reports calls (--sandbox log)"
        case .on where landlockVersion == 0: "the sandbox is on, without Landlock, which this kernel does not have"
        case .on: "the sandbox is on, with Landlock version \(landlockVersion)"
        }
    }

    // MARK: Threads

    package func willMakeThread() {
        state.update { $0.unconfined += 1 }
    }

    package func threadWasNotMade() {
        state.update { $0.unconfined -= 1 }
    }

    package func enter(_ role: ThreadRole) {
        var failure: VMMError?
        // These two confine themselves in seal().
        if role != .files, role != builder {
            do throws(VMMError) {
                try confine(role)
            } catch {
                failure = error
            }
        }
        state.update { state in
            state.unconfined -= 1
            state.failure = state.failure ?? failure
        }
    }

    /// Confines the main thread of a process in which another thread builds the machine.
    package func enterMainThread() {
        guard builder != .main else { return }
        enter(.main)
    }

    package func seal() throws(VMMError) {
        let failure = state.wait { state -> VMMError?? in state.unconfined == 0 ? .some(state.failure) : nil }
        if let failure { throw failure.of("sandbox") }
        // A second machine, in test builds: only its threads are new.
        guard !state.withLock({ $0.isSealed }) else { return }
        let places = state.withLock { $0.places } + settings.folders.map { AllowedPlace($0, [.read, .write, .make]) }
        do throws(VMMError) {
            let guardian = try FileThread.perform { () throws(VMMError) in try sealFiles(places) }
            state.update { state in
                state.guardian = guardian
                state.isSealed = true
            }
            try confine(builder)
        } catch {
            throw error.of("sandbox")
        }
    }

    /// On the file thread.
    private func sealFiles(_ places: [AllowedPlace]) throws(VMMError) -> PathGuard {
        var guardian = try PathGuard(places, folders: settings.folders)
        if let longest = guardian.longestFile { try ProcessHardening.limitFileSize(to: max(longest, Sandbox.leastFileSizeLimit)) }
        guardian.fileSizeLimit = ProcessHardening.fileSizeLimit
        guard landlockVersion > 0 else {
            try confine(.files)
            return guardian
        }
        let rules = try Landlock(version: landlockVersion)
        for place in places { try rules.allow(place) }
        try rules.restrictThread()
        try confine(.files)
        return guardian
    }

    /// Confines the calling thread.
    private func confine(_ role: ThreadRole) throws(VMMError) {
        guard let program = try program(of: role) else { return }
        // SAFETY: the string lives for the call, which copies it.
        unsafe csandbox_set_role(role.rawValue)
        // SAFETY: the array has `count` instructions, which the kernel copies.
        let result = unsafe csandbox_add_filter(program, UInt16(clamping: program.count))
        _ = try VMMError.check(result, "seccomp", advice: "use --sandbox off to run without the sandbox")
    }

    private func program(of role: ThreadRole) throws(VMMError) -> [csandbox_instruction]? {
        guard let calls = SandboxTable.calls(of: role) else { return nil }
        var compiler = FilterCompiler(
            otherAction: UInt32(settings.mode == .log ? CSANDBOX_RETURN_TRAP : CSANDBOX_RETURN_KILL_PROCESS), process: process)
        compiler.hotCall = SandboxTable.hotCall(of: role)
        if settings.mode == .log { compiler.trustedAddress = csandbox_reporter_address() }
        return try compiler.compile(calls)
    }

    // MARK: Paths

    /// Throws unless the API may open a file after the start: it was configured, or lies in one of the folders. Before `seal()`, it may open any.
    package func checkPath(_ path: String) throws(VMMError) {
        guard let guardian = state.withLock({ $0.guardian }) else { return }
        try FileThread.perform { () throws(VMMError) in try guardian.check(path) }
    }
}
