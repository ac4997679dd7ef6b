// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// Reads a console's input on a thread of its own and hands it to the serial port as fast as that takes it.
///
/// From a terminal the escapes are taken out, and are obeyed even when the guest reads nothing. From a pipe or a file every byte goes to the
/// guest, none is lost, and the end of the input ends the thread, not the guest.
final class ConsoleInput: Sendable {
    /// Most bytes that wait for the guest.
    private static let capacity = 4096

    private let number: Int32
    private let isTerminal: Bool
    private let wake: EventNotifier
    private let isStopping = Atomic<Bool>(false)
    private let receive: @Sendable (UInt8) -> Bool
    private let command: @Sendable (ConsoleCommand) -> Void

    /// Starts to read.
    ///
    /// - Parameters:
    ///   - number: a descriptor that `owner` keeps open; it need not be nonblocking.
    ///   - isTerminal: whether escapes are taken out, and bytes that find no room thrown away.
    ///   - receive: takes a byte, or returns false when the port's FIFO is full.
    init(
        descriptor number: Int32, owner: ConsoleDescriptors?, isTerminal: Bool, receive: @escaping @Sendable (UInt8) -> Bool,
        command: @escaping @Sendable (ConsoleCommand) -> Void
    ) throws(KVMError) {
        self.number = number
        self.isTerminal = isTerminal
        self.receive = receive
        self.command = command
        wake = try EventNotifier()
        _ = try Thread(name: "console-in") { [self] in
            run()
            withExtendedLifetime(owner) {}
        }
    }

    /// Ends the thread soon; does not wait for it.
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
            // A full FIFO is tried again soon: the guest empties it within a few exits.
            guard wait(forInput: wantsMore, milliseconds: waiting.isEmpty ? -1 : 2) else { continue }
            // SAFETY: the array is as long as is said.
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
            // A negative descriptor is skipped (poll(2)).
            pollfd(fd: forInput ? number : -1, events: Int16(POLLIN), revents: 0),
        ]
        // SAFETY: the array has the two elements that are said.
        let ready = unsafe poll(&polls, nfds_t(polls.count), milliseconds)
        return ready > 0 && polls[1].revents != 0
    }
}
