// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization
public import SymVMM

/// SwapBypass (docs/SWAPBYPASS.md): the swap disk, its store as a window in guest-physical space, and the answers to the guest's faults.
///
/// The guest's module does the mapping; what it says is never trusted with more than the guest's own memory: the window holds nothing but
/// what the guest itself has swapped out.
public final class SwapBypassService: SymbioticService, @unchecked Sendable {
    /// How long the guest has to turn the switch, in milliseconds.
    private static let patience = 5000

    /// Where the pages are.
    public let store: SwapStore
    private let disk: VirtioBlock
    private let tally = SwapCounters()
    /// One for each vCPU.
    private let policies = (0..<VirtualMachine.vcpuLimit).map { _ in SwapPolicy() }
    /// The machine holds its services; set before a vCPU runs.
    private weak var machine: VirtualMachine?
    private var diskRegisters: UInt64 = 0
    private var windowAddress: UInt64 = 0
    /// Behind the window, on a page of its own.
    private var heldAddress: UInt64 { windowAddress &+ store.byteCount }

    private let isWanted: Atomic<Bool>
    /// What of the window has been mapped; it stays.
    private let mapped = Mutex<(window: Bool, held: Bool)>((false, false))
    /// The number of what the guest was last asked for.
    private let wishNumber = Atomic<UInt32>(0)
    /// The guest's last word on its switch.
    private let guestWord = Atomic<UInt64>(GuestWord().packed)
    /// One turn of the switch at a time.
    private let turning = Mutex<Void>(())

    /// Makes the store and its disk.
    public init(_ configuration: SwapConfiguration) throws(KVMError) {
        store = try SwapStore.make(configuration)
        disk = VirtioBlock(id: SwapStore.serial, storage: store)
        isWanted = Atomic(configuration.bypass)
        super.init(
            name: "swap-bypass", features: SYMBIOTIC_FEATURE_SWAPBYPASS,
            doorbells: UInt8(SYMBIOTIC_DOORBELL_SWAP_FIRST)...UInt8(SYMBIOTIC_DOORBELL_SWAP_LAST))
    }

    // MARK: The machine's life

    public override func devices() -> [VirtioDevice] {
        [disk]
    }

    public override func prepare(on machine: VirtualMachine) throws(MachineError) {
        self.machine = machine
        diskRegisters = machine.registers(of: disk) ?? 0
        // Half of what the guest can address lies above; RAM may reach higher only on hosts with few address bits.
        let gibibyte: UInt64 = 1 << 30
        let ramEnd = GuestMemory.holeEnd &+ machine.memory.highByteCount
        windowAddress = max(machine.addressLimit / 2, (ramEnd &+ gibibyte &- 1) & ~(gibibyte &- 1))
        let needed = store.byteCount &+ UInt64(store.heldSlots?.mapping.byteCount ?? 0)
        guard windowAddress <= machine.addressLimit, needed <= machine.addressLimit &- windowAddress else {
            throw MachineError(.configuration, "--swap: RAM and swap together are more than this host's guests can address")
        }
    }

    public override func end() {
        store.close()
    }

    // MARK: Doorbells, on vCPU threads

    public override func answer(doorbell: UInt8, _ values: SymCallValues, on processor: VirtualProcessor) {
        switch UInt32(doorbell) {
        case SYMBIOTIC_DOORBELL_SWAP_FAULT: answerFault(values, processor)
        case SYMBIOTIC_DOORBELL_SWAP_ATTACH: attach()
        case SYMBIOTIC_DOORBELL_SWAP_STATE:
            let word = GuestWord(
                isOn: values.rbx & switchOn != 0, reason: UInt32(truncatingIfNeeded: values.rcx),
                number: UInt32(truncatingIfNeeded: values.rdx))
            guestWord.store(word.packed, ordering: .releasing)
        default: tally.invalid.count()
        }
    }

    private let switchOn = UInt64(SYMBIOTIC_SWAP_ON)

    /// RBX = address, RCX = slot, RDX = first and last entry of the page-table page that may be mapped, RSI = address space.
    private func answerFault(_ values: SymCallValues, _ processor: VirtualProcessor) {
        tally.faults.count()
        let entry = values.rbx >> 12 & (SwapPolicy.regionPages &- 1)
        let first = values.rdx & 0xffff_ffff
        let last = values.rdx >> 32
        guard first <= entry, entry <= last, last < SwapPolicy.regionPages, policies.indices.contains(processor.index) else {
            return tally.invalid.count()
        }
        guard isWanted.load(ordering: .relaxed) else { return tally.declined.count() }
        if let held = store.heldSlots, !held.contains(values.rcx) { return tally.notHeld.count() }
        let pages = policies[processor.index].neighbourhood(of: entry, in: first...last, region: values.rbx >> 21, space: values.rsi)
        tally.calls.count()
        do throws(SymCallError) {
            let count = pages.upperBound &- pages.lowerBound &+ 1
            let results = try processor.symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, SymCallValues(pages.lowerBound, count))
            tally.pages.count(min(results.rbx, count))
        } catch {
            tally.failedCalls.count()
        }
    }

    /// The guest's module is there: show it the window and tell it where everything is.
    private func attach() {
        guard let machine else { return tally.invalid.count() }
        let isThere = mapped.withLock { mapped in
            do throws(KVMError) {
                // One by one: when the second fails, the next attempt must not map the first again.
                if !mapped.window { try machine.addMemory(store.mapping, at: windowAddress) }
                mapped.window = true
                if !mapped.held, let held = store.heldSlots { try machine.addMemory(held.mapping, at: heldAddress, readOnly: true) }
                mapped.held = true
                return true
            } catch {
                return false
            }
        }
        let hasPage = machine.withSymbioticGlobalPage { page in
            writeWish(machine, page)
            try? machine.memory.store(diskRegisters, at: page + GlobalPage.disk)
            try? machine.memory.store(store.heldSlots == nil ? 0 : heldAddress, at: page + GlobalPage.held)
            try? machine.memory.store(isThere ? store.byteCount / GuestMemory.pageSize : 0, at: page + GlobalPage.windowPages)
            try? machine.memory.store(isThere ? windowAddress : 0, at: page + GlobalPage.window)
        }
        if !hasPage { tally.invalid.count() }
    }

    /// Tells a module that is being loaded what is wanted. The switch first, as it is read in the other order.
    ///
    /// - Returns: the number of this wish.
    @discardableResult
    private func writeWish(_ machine: VirtualMachine, _ page: UInt64) -> UInt32 {
        let number = wishNumber.wrappingAdd(1, ordering: .relaxed).newValue
        try? machine.memory.store(isWanted.load(ordering: .relaxed) ? SYMBIOTIC_SWAP_ON : 0, at: page + GlobalPage.control)
        try? machine.memory.store(number, at: page + GlobalPage.generation)
        return number
    }

    /// Offsets in the global page (guest/include/symbiotic_abi.h).
    private enum GlobalPage {
        static let control: UInt64 = 0x180
        static let generation: UInt64 = 0x184
        static let window: UInt64 = 0x188
        static let windowPages: UInt64 = 0x190
        static let disk: UInt64 = 0x1a0
        static let held: UInt64 = 0x1a8
        static let counters: UInt64 = 0x200
    }

    // MARK: The switch, any thread but a vCPU's

    /// Turns bypass on or off and waits until the guest has done it.
    ///
    /// - Returns: nil when it is so; otherwise why the guest does not follow yet. What is wanted stays, and a module that comes later takes it.
    public func turn(on: Bool) -> String? {
        turning.withLock { _ in
            isWanted.store(on, ordering: .relaxed)
            tally.switches.count()
            guard let machine else { return "the VM is not running" }
            var number: UInt32 = 0
            guard machine.withSymbioticGlobalPage({ page in number = writeWish(machine, page) }) else {
                return on ? SymCallError.noModule.description : nil
            }
            do throws(SymCallError) {
                _ = try machine.symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH, SymCallValues(on ? switchOn : 0, UInt64(number)))
            } catch {
                return error == .unknown ? "the guest's module has no swap bypass" : error.description
            }
            for _ in 0..<SwapBypassService.patience {
                let word = GuestWord(guestWord.load(ordering: .acquiring))
                if word.answers(number) {
                    return word.isOn == on ? nil : word.obstacle
                }
                usleep(1000)
            }
            return "the guest has not done it within \(SwapBypassService.patience / 1000) s"
        }
    }

    /// Whether bypass is wanted.
    public var wanted: Bool { isWanted.load(ordering: .relaxed) }

    /// Whether the guest says that it is on.
    public var inForce: Bool {
        GuestWord(guestWord.load(ordering: .acquiring)).isOn
    }

    /// Why the guest could not switch on; nil when it said nothing of the kind.
    public var obstacle: String? {
        let word = GuestWord(guestWord.load(ordering: .acquiring))
        return word.reason == SYMBIOTIC_SWAP_NO_REASON ? nil : word.obstacle
    }

    // MARK: Views

    /// The VMM's counters, the store's, and the guest's own, which are the guest's word.
    public override func counters() -> [(name: String, value: UInt64)] {
        var all = tally.all
        all.append(("store_bytes", store.byteCount))
        all.append(("store_resident_bytes", store.residentByteCount))
        if let budget = store.budget { all.append(("store_budget_bytes", budget)) }
        guard let machine, let page = machine.symbioticGlobalPage else { return all }
        for (index, name) in SwapCounters.guestNames.enumerated() {
            let value: UInt64 = (try? machine.memory.load(page + GlobalPage.counters + UInt64(8 * index))) ?? 0
            all.append((name, value))
        }
        return all
    }
}
