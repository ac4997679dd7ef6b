// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// Reads console input on its own thread, as fast as the serial port accepts it.
///
/// Handles escapes from a terminal, even if the guest reads nothing. Passes every byte of a pipe or file to the guest. At the end of the file the
/// thread ends; the guest continues.
final class ConsoleInput: Sendable {
    /// Maximum number of bytes that wait for the guest.
    private static let capacity = 4096

    private let number: Int32
    private let isTerminal: Bool
    private let wake: EventNotifier
    private let isStopping = Atomic<Bool>(false)
    private let receive: @Sendable (UInt8) -> Bool
    private let command: @Sendable (ConsoleCommand) -> Void

    /// Starts reading.
    ///
    /// - Parameters:
    ///   - number: a descriptor that `owner` keeps open; may be blocking.
    ///   - owner: keeps the descriptor open while the thread runs; nil if the process does.
    ///   - isTerminal: whether to handle escapes, and to drop bytes when the buffer is full.
    ///   - receive: passes a byte to the serial port; returns false if the port's FIFO is full. Called on the thread.
    ///   - command: called on the thread when the user has typed an escape.
    init(
        descriptor number: Int32, owner: ConsoleDescriptors?, isTerminal: Bool, receive: @escaping @Sendable (UInt8) -> Bool,
        command: @escaping @Sendable (ConsoleCommand) -> Void
    ) throws(VMMError) {
        self.number = number
        self.isTerminal = isTerminal
        self.receive = receive
        self.command = command
        wake = try EventNotifier()
        _ = try Thread(.consoleInput) { [self] in
            run()
            withExtendedLifetime(owner) {}
        }
    }

    /// Asks the thread to end; does not wait.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        wake.signal()
    }

    private func run() {
        var filter = EscapeFilter()
        var waiting: [UInt8] = []
        var hasEnded = false
        var chunk = [UInt8](repeating: 0, count: 512)
        while !isStopping.load(ordering: .acquiring) {
            let delivered = waiting.prefix { receive($0) }.count
            waiting.removeFirst(delivered)
            if hasEnded, waiting.isEmpty { return }
            let wantsMore = !hasEnded && (isTerminal || waiting.count < ConsoleInput.capacity)
            // Retry a full FIFO after 2 ms: the guest empties it within a few exits.
            guard wait(forInput: wantsMore, milliseconds: waiting.isEmpty ? -1 : 2) else { continue }
            // SAFETY: the array has `chunk.count` bytes.
            let count = unsafe read(number, &chunk, chunk.count)
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            if count <= 0 {
                hasEnded = true
                continue
            }
            for byte in chunk.prefix(count) {
                guard isTerminal else {
                    waiting.append(byte)
                    continue
                }
                switch filter.take(byte) {
                case .pass(let byte): if waiting.count < ConsoleInput.capacity { waiting.append(byte) }
                case .command(let word): command(word)
                case .swallowed: break
                }
            }
        }
    }

    /// Waits for input or a wake-up; true when there is input.
    private func wait(forInput: Bool, milliseconds: Int32) -> Bool {
        var polls = [
            pollfd(fd: wake.descriptor.rawValue, events: Int16(POLLIN), revents: 0),
            // poll(2) skips a negative descriptor.
            pollfd(fd: forInput ? number : -1, events: Int16(POLLIN), revents: 0),
        ]
        // SAFETY: the array has `polls.count` elements.
        let ready = unsafe poll(&polls, nfds_t(polls.count), milliseconds)
        return ready > 0 && polls[1].revents != 0
    }
}
