// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization
internal import VMMAPI
internal import VMMModel
internal import VMMPresentation

/// Writes lines of metrics to a file or FIFO: at an interval, when it is asked to, and a last one when it is stopped.
///
/// A thread of its own does so, and never waits for a reader. A line that nobody takes is not lost: its counts are in the next one.
package final class MetricsWriter: Sendable {
    /// Gives the machine; nil while there is none.
    package typealias Source = @Sendable () -> (any MachineControl)?

    private struct State: ~Copyable {
        var output: LineOutput
        /// What had been counted at the last line that was taken.
        var last: ExitReport?
        var missed: UInt64 = 0
    }

    private let path: String
    private let source: Source
    private let state: Mutex<State>
    private let wake: EventNotifier
    private let ending = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    /// Opens the file, or makes it, and starts to write.
    ///
    /// - Parameters:
    ///   - interval: seconds between two lines, from 0.01 to a day.
    ///   - machine: asked at each line, on any thread. To be weak where the machine's owner holds the writer.
    package init(path: String, interval: Double = 60, machine: @escaping Source) throws(KVMError) {
        self.path = path
        source = machine
        wake = try EventNotifier(nonblocking: true)
        state = Mutex(State(output: try LineOutput(path: path)))
        let pause = Int32(min(max(interval, 0.01), 86_400) * 1000)
        let started = try Thread(name: "metrics") { [weak self] in
            // The writer lives until `stop()` has joined this thread; when it was let go without, nobody waits for its lines.
            while let self, self.sleep(milliseconds: pause) { _ = try? self.write() }
        }
        thread.withLock { $0 = started }
    }

    /// Writes a line now.
    ///
    /// - Throws: EAGAIN when nobody takes it; its counts are in the next one then.
    package func flush() throws(KVMError) {
        guard try write() else {
            throw KVMError(call: "write \(path)", errno: EAGAIN, advice: "nobody reads; the counts will be in the next line")
        }
    }

    /// Writes the last line and ends the thread. Only the first call does something; a writer has to be stopped before it is let go.
    package func stop() {
        guard !ending.exchange(true, ordering: .acquiringAndReleasing) else { return }
        wake.signal()
        thread.withLock { thread in
            thread?.join()
            thread = nil
        }
        _ = try? write()
    }

    /// False when the writer is to end.
    private func sleep(milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: wake.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: one entry, which outlives the call.
        _ = unsafe poll(&entry, 1, milliseconds)
        return !ending.load(ordering: .acquiring)
    }

    /// False when there is no machine, or nobody took the line.
    private func write() throws(KVMError) -> Bool {
        guard let machine = source() else { return false }
        let result = state.withLock { state -> Result<Bool, KVMError> in
            let now = ExitReport(machine.exitStatistics(), name: machine.configuration.name)
            let object = MetricsLine.object(
                state.last.map(now.since) ?? now, state: machine.state, milliseconds: ProcessUse.realTimeMilliseconds, missed: state.missed)
            let line = (try? JSONText.encode(object)) ?? []
            do throws(KVMError) {
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
