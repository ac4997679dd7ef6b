// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization
internal import VMMAPI
internal import VMMModel
internal import VMMPresentation

/// Writes metrics lines to a file or FIFO: at an interval, on request, and at `stop()`.
///
/// Runs on its own thread and never waits for a reader. The next line includes the counts of a dropped line. Thread-safe.
package final class MetricsWriter: Sendable {
    /// Returns the machine; nil before the start.
    package typealias Source = @Sendable () -> (any MachineControl)?

    private struct State: ~Copyable {
        var output: LineOutput
        /// The report at the last written line.
        var last: ExitReport?
        var missed: UInt64 = 0
    }

    private let path: String
    private let configuration: MetricsConfiguration
    private let source: Source
    private let state: Mutex<State>
    private let wake: EventNotifier
    private let ending = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    /// Opens the file, creating it if needed, and starts the thread.
    ///
    /// - Parameters:
    ///   - configuration: the file or FIFO, and what each line repeats.
    ///   - interval: seconds between lines, clamped to 0.01 ... 86,400.
    ///   - machine: called for each line, on any thread. Capture the machine's owner weakly if it holds the writer.
    package init(_ configuration: MetricsConfiguration, interval: Double = 60, machine: @escaping Source) throws(VMMError) {
        self.configuration = configuration
        path = configuration.path
        source = machine
        wake = try EventNotifier(nonblocking: true)
        state = Mutex(State(output: try LineOutput(path: path)))
        let pause = Int32(min(max(interval, 0.01), 86_400) * 1000)
        let started = try Thread(.metrics) { [weak self] in
            // `stop()` joins this thread. If the owner releases the writer without `stop()`, the thread ends after its current interval.
            while let self, self.sleep(milliseconds: pause) { _ = try? self.write() }
        }
        thread.withLock { $0 = started }
    }

    /// Writes a line.
    ///
    /// - Throws: EAGAIN if the line was dropped, or there is no machine. The next line includes the counts.
    package func flush() throws(VMMError) {
        guard try write() else {
            throw VMMError(call: "write \(path)", errno: EAGAIN, advice: "no reader; the counts will be in the next line")
        }
    }

    /// Ends the thread and writes the last line. Idempotent. Call it before you release the writer.
    package func stop() {
        guard !ending.exchange(true, ordering: .acquiringAndReleasing) else { return }
        wake.signal()
        thread.withLock { thread in
            thread?.join()
            thread = nil
        }
        _ = try? write()
    }

    /// Waits for the interval. Returns false when `stop()` was called.
    private func sleep(milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: wake.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: one entry, which outlives the call.
        _ = unsafe poll(&entry, 1, milliseconds)
        return !ending.load(ordering: .acquiring)
    }

    /// Returns false if there is no machine or the line was dropped.
    private func write() throws(VMMError) -> Bool {
        guard let machine = source() else { return false }
        let result = state.withLock { state -> Result<Bool, VMMError> in
            let now = ExitReport(machine.exitStatistics(), name: machine.configuration.name)
            let object = MetricsLine.object(
                state.last.map(now.since) ?? now, state: machine.state, milliseconds: ProcessUse.realTimeMilliseconds, missed: state.missed,
                id: configuration.hasID ? machine.configuration.name : nil, properties: configuration.properties,
                hasAllGroups: configuration.hasAllGroups)
            let line = (try? JSONText.encode(object)) ?? []
            do throws(VMMError) {
                guard try state.output.write(line + [UInt8(ascii: "\n")]) else {
                    state.missed &+= 1
                    return .success(false)
                }
            } catch {
                state.missed &+= 1
                return .failure(error)
            }
            state.last = now
            state.missed = 0
            return .success(true)
        }
        return try result.get()
    }
}
