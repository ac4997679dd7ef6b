// SPDX-License-Identifier: Apache-2.0

internal import CJail
internal import Glibc
package import VMMBase

/// Runs a VMM in a jail: `symvmm jail`.
///
/// Three processes take part. The *program* is the VMM in its namespaces. The *parent* is the command itself: it prepares, starts the program, passes
/// signals to it and ends with its status. The *janitor* waits for the program's end and removes the jail's folder and control group, even if a signal
/// ended the parent; the parent's end ends the program (PR_SET_PDEATHSIG of prctl(2)).
package enum Jail {
    /// Closes inherited descriptors, prepares the jail, runs the program, and removes the jail. Call it in a process with one thread.
    ///
    /// - Parameter notify: prints a line for the user.
    /// - Returns: the program's exit status; 0 for a jail that continues in the background.
    /// - Throws: `VMMError`. Then nothing is left behind.
    package static func run(_ configuration: JailConfiguration, notify: (String) -> Void) throws(VMMError) -> Int32 {
        _ = try VMMError.check(cjail_close_inherited(), "close_range", advice: "the jail needs Linux 5.12 or newer")
        guard configuration.isDaemon else { return try runHere(configuration, notify: notify, started: {}) }
        let null = try OwnedFileDescriptor.open("/dev/null", O_RDWR)
        var ends: [Int32] = [-1, -1]
        // SAFETY: the array has room for two numbers.
        guard unsafe pipe(&ends) == 0 else { throw VMMError.last("pipe") }
        let (reading, writing) = (ends[0], ends[1])
        let child = cjail_fork()
        if child != 0 {
            close(writing)
            defer { close(reading) }
            if child < 0 { throw VMMError(call: "fork", errno: -child) }
            return waitForStart(of: child, reading)
        }
        close(reading)
        setsid()
        let number = null.rawValue
        return try runHere(configuration, notify: notify) {
            for standard: Int32 in 0...2 { dup2(number, standard) }
            var byte: UInt8 = 1
            // SAFETY: the variable has one byte.
            _ = unsafe write(writing, &byte, 1)
        }
    }

    /// In the process that the user started with --daemonize: waits until the program runs, or until the jail has failed.
    private static func waitForStart(of child: pid_t, _ reading: Int32) -> Int32 {
        var byte: UInt8 = 0
        var count = -1
        repeat {
            // SAFETY: the variable has one byte.
            count = unsafe read(reading, &byte, 1)
        } while count < 0 && errno == EINTR
        return count == 1 ? 0 : status(of: JailProcess.wait(for: child))
    }

    private static func runHere(
        _ configuration: JailConfiguration, notify: (String) -> Void, started: () -> Void
    ) throws(VMMError) -> Int32 {
        let signals = JailSignals()
        let network = try configuration.openNetwork()
        let null = try OwnedFileDescriptor.open("/dev/null", O_RDWR)
        let standard = configuration.isDaemon ? null.rawValue : -1
        let folder = try JailFolder.prepare(configuration)
        let group: ControlGroup?
        let plan: JailPlan
        do throws(VMMError) {
            plan = try JailPlan(
                configuration, root: folder.root, entries: folder.entries,
                network: configuration.networkNamespace == nil ? -1 : network.rawValue, null: standard)
            group = try makeGroup(configuration)
        } catch {
            _ = folder.remove()
            throw error
        }
        func clean() -> Bool {
            let isGone = group?.remove() ?? true
            return folder.remove() && isGone
        }
        let process = try start(plan, null: standard, clean: clean)
        do throws(VMMError) {
            try process.enter(plan, configuration, group: group, folder: folder, notify: notify)
        } catch {
            process.kill()
            if !process.waitForJanitor() { _ = clean() }
            throw error
        }
        started()
        let end = process.wait(passing: signals)
        guard process.waitForJanitor() || clean() else {
            throw .host("\(folder.root): cannot remove what the VM left there: remove it")
        }
        if end & 0x7f == SIGSYS {
            throw .host("the sandbox ended the VM's process (SIGSYS): the kernel's log has the call (docs/SANDBOX.md)")
        }
        if end & 0x7f != 0 { throw .host("signal \(end & 0x7f) ended the VM's process") }
        return status(of: end)
    }

    private static func start(_ plan: JailPlan, null: Int32, clean: () -> Bool) throws(VMMError) -> JailProcess {
        do throws(VMMError) {
            return try JailProcess(plan, null: null, clean: clean)
        } catch {
            _ = clean()
            throw error
        }
    }

    private static func makeGroup(_ configuration: JailConfiguration) throws(VMMError) -> ControlGroup? {
        guard !configuration.controls.isEmpty || configuration.parentGroup != nil else { return nil }
        return try ControlGroup(
            name: configuration.id, parent: configuration.parentGroup ?? configuration.programName,
            isShared: configuration.parentGroup == nil, controls: configuration.controls)
    }

    /// The exit status in what wait(2) returned.
    private static func status(of end: Int32) -> Int32 {
        end & 0x7f == 0 ? (end >> 8) & 0xff : 3
    }
}
