// SPDX-License-Identifier: Apache-2.0

public import SymVMM
public import VMMBase

internal import Glibc
internal import SymbioticABI
internal import Synchronization
internal import VMMModel

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
    private let policies = (0..<MachineLimits.vcpuCount.upperBound).map { _ in SwapPolicy() }
    /// The machine holds its services; set before a vCPU runs.
    private weak var machine: (any ServiceHost)?
    private var diskRegisters: UInt64 = 0
    private var windowAddress: UInt64 = 0
    /// Where the guest sees which slots are in memory.
    private var heldAddress: UInt64 = 0

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
        super.init(claims: SwapBypassService.claims)
    }

    // MARK: The machine's life

    public override func devices() -> [VirtioDevice] {
        [disk]
    }

    public override func prepare(on machine: any ServiceHost) throws(MachineError) {
        self.machine = machine
        diskRegisters = machine.registers(of: disk) ?? 0
        windowAddress = try machine.reserveWindow(byteCount: store.byteCount)
        if let held = store.heldSlots { heldAddress = try machine.reserveWindow(byteCount: UInt64(held.mapping.byteCount)) }
    }

    public override func end() {
        store.close()
    }

    // MARK: Doorbells, on vCPU threads

    public override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        switch UInt32(doorbell) {
        case SYMBIOTIC_DOORBELL_SWAP_FAULT: handleFault(values, vcpu)
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
    private func handleFault(_ values: SymCallValues, _ vcpu: SymbioticVCPU) {
        tally.faults.count()
        let entry = values.rbx >> 12 & (SwapPolicy.regionPages &- 1)
        let first = values.rdx & 0xffff_ffff
        let last = values.rdx >> 32
        guard first <= entry, entry <= last, last < SwapPolicy.regionPages, policies.indices.contains(vcpu.index) else {
            return tally.invalid.count()
        }
        guard isWanted.load(ordering: .relaxed) else { return tally.declined.count() }
        if let held = store.heldSlots, !held.contains(values.rcx) { return tally.notHeld.count() }
        let pages = policies[vcpu.index].neighbourhood(of: entry, in: first...last, region: values.rbx >> 21, space: values.rsi)
        tally.calls.count()
        do throws(SymCallError) {
            let count = pages.upperBound &- pages.lowerBound &+ 1
            let results = try vcpu.symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, SymCallValues(pages.lowerBound, count))
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
                if !mapped.window { try machine.show(store.mapping, at: windowAddress, readOnly: false) }
                mapped.window = true
                if !mapped.held, let held = store.heldSlots { try machine.show(held.mapping, at: heldAddress, readOnly: true) }
                mapped.held = true
                return true
            } catch {
                return false
            }
        }
        let hasPage = machine.withGlobalPage(of: self) { page in
            writeWish(page)
            page.store(diskRegisters, at: GlobalPage.disk)
            page.store(store.heldSlots == nil ? 0 : heldAddress, at: GlobalPage.held)
            page.store(isThere ? store.byteCount / GuestMemory.pageSize : 0, at: GlobalPage.windowPages)
            page.store(isThere ? windowAddress : 0, at: GlobalPage.window)
        }
        if !hasPage { tally.invalid.count() }
    }

    /// Tells a module that is being loaded what is wanted. The switch first, as it is read in the other order.
    ///
    /// - Returns: the number of this wish.
    @discardableResult
    private func writeWish(_ page: ServicePage) -> UInt32 {
        let number = wishNumber.wrappingAdd(1, ordering: .relaxed).newValue
        page.store(isWanted.load(ordering: .relaxed) ? SYMBIOTIC_SWAP_ON : UInt32(0), at: GlobalPage.control)
        page.store(number, at: GlobalPage.generation)
        return number
    }

    /// Offsets in the global page (guest/include/symbiotic_abi.h).
    private enum GlobalPage {
        static let control = Int(SYMBIOTIC_GLOBAL_SWAP_CONTROL)
        static let generation = Int(SYMBIOTIC_GLOBAL_SWAP_GENERATION)
        static let window = Int(SYMBIOTIC_GLOBAL_SWAP_WINDOW_GPA)
        static let windowPages = Int(SYMBIOTIC_GLOBAL_SWAP_WINDOW_PAGES)
        static let disk = Int(SYMBIOTIC_GLOBAL_SWAP_VMM) + 8 * Int(SYMBIOTIC_SWAP_VMM_DISK)
        static let held = Int(SYMBIOTIC_GLOBAL_SWAP_VMM) + 8 * Int(SYMBIOTIC_SWAP_VMM_HELD)
        static let counters = Int(SYMBIOTIC_GLOBAL_SWAP_COUNTERS)
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
            guard machine.withGlobalPage(of: self, { page in number = writeWish(page) }) else {
                return on ? SymCallError.noModule.description : nil
            }
            do throws(SymCallError) {
                _ = try machine.symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH, SymCallValues(on ? switchOn : 0, UInt64(number)), vcpu: nil)
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
        machine?.withGlobalPage(of: self) { page in
            for (index, name) in SwapCounters.guestNames.enumerated() {
                all.append((name, page.load(GlobalPage.counters + 8 * index) ?? UInt64(0)))
            }
        }
        return all
    }
}
