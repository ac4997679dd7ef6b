// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// What the mover has to do.
struct TierWork {
    /// Most chunks that wait to come back. More are dropped: the guest touches them again.
    static let mostChunks = 256

    var isStopping = false
    /// The budget is smaller, or little room is left.
    var needsRoom = false
    /// Chunks whose pages the guest has touched.
    var chunks: [Int] = []
    /// The mover moves something.
    var isBusy = false
}

/// The guest's side of a move.
protocol TierGuest: AnyObject, Sendable {
    /// Whether the guest runs: while it does not, no page moves.
    var isRunning: Bool { get }
    /// Makes the guest give up its mappings of slots that are not resident. False if that is not known to be done.
    func evict() -> Bool
    /// Makes the guest report the slots that it has accessed since the last call, in the store's `accessed` bitmap. False if it does not.
    func age() -> Bool
}

/// The thread `service-swap`: moves pages between the tiers of a store as `TierPolicy` decides.
final class TierMover: Sendable {
    /// Nanoseconds until a plan that achieved nothing is tried again.
    private static let retry: UInt64 = 1_000_000_000

    private let store: BudgetStore
    private let guest: @Sendable () -> (any TierGuest)?
    private let passNanoseconds: UInt64
    private let thread = Mutex<Thread?>(nil)

    /// Creates the mover of a store.
    ///
    /// - Parameters:
    ///   - passSeconds: seconds between two passes of the ageing.
    ///   - guest: nil when the machine has ended.
    init(_ store: BudgetStore, passSeconds: Double = TierPolicy.passSeconds, guest: @escaping @Sendable () -> (any TierGuest)?) {
        self.store = store
        self.guest = guest
        passNanoseconds = UInt64(saturating: passSeconds * 1e9)
    }

    /// Makes the thread. Before a vCPU runs.
    func start() throws(VMMError) {
        store.keepReserve()
        let started = try Thread(.service, "-swap") { [self] in run() }
        thread.withLock { $0 = started }
    }

    /// Ends the thread, and waits for it. May be called more than once.
    func stop() {
        store.work.update { $0.isStopping = true }
        let thread = thread.withLock { thread -> Thread? in
            defer { thread = nil }
            return thread
        }
        thread?.join()
    }

    /// Waits until no move is in progress. The machine is paused, so that none begins.
    func waitUntilIdle() {
        store.work.wait { $0.isBusy ? nil : true }
    }

    private enum Turn {
        case stop
        case work(needsRoom: Bool, chunks: [Int])
    }

    private func run() {
        var nextPass = TickClock.monotonicNanoseconds() &+ passNanoseconds
        var retryAt = UInt64.max
        while true {
            let turn = store.work.wait(until: min(nextPass, retryAt)) { work -> Turn? in
                if work.isStopping { return .stop }
                guard work.needsRoom || !work.chunks.isEmpty else { return nil }
                return TierMover.take(&work)
            }
            let now = TickClock.monotonicNanoseconds()
            var needsRoom = now >= retryAt
            var chunks: [Int] = []
            switch turn {
            case .stop: return
            case .work(let room, let wanted):
                needsRoom = needsRoom || room
                chunks = wanted
            case nil: store.work.withLock { $0.isBusy = true }
            }
            guard let guest = guest() else { return store.work.update { $0.isBusy = false } }
            let isRunning = guest.isRunning
            if isRunning {
                for index in chunks where store.returns(index) { store.bringBackChunk(index) }
                if now >= nextPass { pass(guest) }
            }
            if now >= nextPass { nextPass = now &+ passNanoseconds }
            if needsRoom || !chunks.isEmpty {
                let isDone = isRunning && makeRoom(guest)
                retryAt = isDone ? .max : TickClock.monotonicNanoseconds() &+ TierMover.retry
            }
            store.work.update { $0.isBusy = false }
        }
    }

    private static func take(_ work: inout TierWork) -> Turn {
        defer {
            work.needsRoom = false
            work.chunks = []
            work.isBusy = true
        }
        return .work(needsRoom: work.needsRoom, chunks: work.chunks)
    }

    private func pass(_ guest: any TierGuest) {
        store.accessed.clear()
        _ = guest.age()
        store.age()
    }

    /// Moves chunks down until the store's memory is at its target. False when something is left to do.
    func makeRoom(_ guest: any TierGuest) -> Bool {
        while guest.isRunning, !store.work.withLock({ $0.isStopping }) {
            let plan = TierPolicy.down(store.view)
            if plan.isEmpty { return true }
            guard execute(plan, guest) else { return false }
        }
        return false
    }

    /// True when a chunk has moved.
    private func execute(_ plan: [TierPolicy.Move], _ guest: any TierGuest) -> Bool {
        var isAnyDone = false
        var moves: [BudgetStore.Move] = []
        for step in plan {
            switch step {
            case .compress(let index): if let move = store.begin(index, toFile: false) { moves.append(move) }
            case .store(let index): if let move = store.begin(index, toFile: true) { moves.append(move) }
            case .spill(let index): isAnyDone = store.spill(index) || isAnyDone
            }
        }
        guard !moves.isEmpty else { return isAnyDone }
        guard guest.evict() else {
            for move in moves { store.abandon(move) }
            store.statistics.refusedMoves.add(UInt64(moves.count))
            return isAnyDone
        }
        for move in moves { isAnyDone = store.finish(move) || isAnyDone }
        return isAnyDone
    }
}
