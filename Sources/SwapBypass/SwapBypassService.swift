// SPDX-License-Identifier: Apache-2.0

public import SymVMM
public import VMMBase

internal import Glibc
internal import SwapBypassABI
internal import Synchronization
internal import VMMModel

/// SwapBypass (docs/SWAPBYPASS.md): the swap disk, its store as a window in guest-physical space, and the guest's swap faults.
///
/// The guest's module maps the pages. The VMM does not trust it: the window contains only what the guest has swapped out, and every value in a
/// doorbell is checked.
public final class SwapBypassService: SymbioticService, @unchecked Sendable {
    /// Milliseconds until a guest that does not switch counts as failed.
    private static let switchTimeout = 5000

    /// The swapped pages.
    public let store: SwapStore
    private let disk: VirtioBlock
    private let counts = SwapCounters()
    /// One for each vCPU.
    private let policies = (0..<MachineLimits.vcpuCount.upperBound).map { _ in SwapPolicy() }
    /// Weak, because the machine holds its services. Set before a vCPU runs.
    weak var machine: (any ServiceHost)?
    var diskRegisters: UInt64 = 0
    var windowAddress: UInt64 = 0
    var residentSlotsAddress: UInt64 = 0
    var accessedSlotsAddress: UInt64 = 0
    /// Moves pages between the tiers; nil for a store without a budget. Set before a vCPU runs.
    private(set) var mover: TierMover?
    /// The guest's module offers SWAP_AGE and SWAP_EVICT.
    let canEvict = Atomic<Bool>(false)
    /// Number of the latest SWAP_AGE or SWAP_EVICT, and the latest that the guest has served.
    let tierRequests = Monitor<(made: UInt64, served: UInt64)>((0, 0))

    let enabled: Atomic<Bool>
    /// Whether the guest can access the window, the resident-slot bitmap and the accessed-slot bitmap. They stay mapped.
    let mapped = Mutex<(window: Bool, residentSlots: Bool, accessedSlots: Bool)>((false, false, false))
    /// Counts the requests to switch.
    let requestGeneration = Atomic<UInt32>(0)
    /// The guest's latest report.
    let status = Atomic<UInt64>(SwitchStatus().packed)
    /// One switch at a time.
    private let switching = Mutex<Void>(())

    /// Makes the store and its disk.
    public init(_ configuration: SwapConfiguration) throws(VMMError) {
        store = try SwapStore.make(configuration)
        disk = try VirtioBlock(id: SwapStore.serial, storage: store)
        enabled = Atomic(configuration.bypass)
        super.init(claims: SwapBypassService.claims)
    }

    // MARK: The machine's life

    public override func devices() -> [VirtioDevice] {
        [disk]
    }

    public override func prepare(on machine: any ServiceHost) throws(VMMError) {
        self.machine = machine
        diskRegisters = machine.registers(of: disk) ?? 0
        windowAddress = try machine.reserveWindow(byteCount: store.byteCount)
        if let slots = store.residentSlots { residentSlotsAddress = try machine.reserveWindow(byteCount: UInt64(slots.mapping.byteCount)) }
        if let slots = store.accessedSlots { accessedSlotsAddress = try machine.reserveWindow(byteCount: UInt64(slots.mapping.byteCount)) }
        guard let store = store as? BudgetStore else { return }
        let started = TierMover(store) { [weak self] in self }
        try started.start()
        mover = started
    }

    /// Copies the pages.
    public override func copyContents(from other: SymbioticService) throws(VMMError) {
        guard let other = other as? SwapBypassService else { throw .user("\(other.name) is not a swap disk") }
        try store.copyContents(from: other.store)
    }

    deinit {
        mover?.stop()
    }

    public override func end() {
        mover?.stop()
        store.close()
    }

    // MARK: Doorbells, on vCPU threads

    public override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        switch UInt32(doorbell) {
        case SYMBIOTIC_DOORBELL_SWAP_FAULT: handleFault(values, vcpu)
        case SYMBIOTIC_DOORBELL_SWAP_ATTACH:
            canEvict.store(values.rbx & UInt64(SYMBIOTIC_SWAP_CAN_EVICT) != 0, ordering: .sequentiallyConsistent)
            attach()
        case SYMBIOTIC_DOORBELL_SWAP_DONE: tierRequests.update { $0.served = values.rbx }
        case SYMBIOTIC_DOORBELL_SWAP_STATE:
            let reported = SwitchStatus(
                isOn: values.rbx & UInt64(SYMBIOTIC_SWAP_ON) != 0, reason: UInt32(truncatingIfNeeded: values.rcx),
                requestGeneration: UInt32(truncatingIfNeeded: values.rdx))
            status.store(reported.packed, ordering: .releasing)
        default: counts.invalid.add()
        }
    }

    /// RBX = address, RCX = slot, RDX = first and last entry of the page-table page that the VMM may map, RSI = address space.
    private func handleFault(_ values: SymCallValues, _ vcpu: SymbioticVCPU) {
        counts.faults.add()
        let entry = values.rbx >> 12 & (SwapPolicy.regionPages &- 1)
        let first = values.rdx & 0xffff_ffff
        let last = values.rdx >> 32
        guard first <= entry, entry <= last, last < SwapPolicy.regionPages, policies.indices.contains(vcpu.index) else {
            return counts.invalid.add()
        }
        guard enabled.load(ordering: .relaxed) else { return counts.declined.add() }
        let isResident = store.residentSlots?.contains(values.rcx) ?? true
        if !isResident, !store.bringBack(values.rcx) { return counts.notResident.add() }
        let began = store.residentSlots == nil ? 0 : TickClock.monotonicNanoseconds()
        let pages = policies[vcpu.index].neighbourhood(of: entry, in: first...last, region: values.rbx >> 21, space: values.rsi)
        counts.calls.add()
        do throws(SymCallFailure) {
            let count = pages.upperBound &- pages.lowerBound &+ 1
            let results = try vcpu.symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, SymCallValues(pages.lowerBound, count))
            counts.pages.add(min(results.rbx, count))
            if isResident, store.residentSlots != nil { store.recordMapping(since: began) }
        } catch {
            counts.failedCalls.add()
        }
    }

    /// The guest has loaded its module: maps the window and fills in the service's part of the global page.
    private func attach() {
        guard let machine else { return counts.invalid.add() }
        let isMapped = mapWindow(on: machine)
        let hasPage = machine.withGlobalPage(of: self) { page in
            writeRequest(page)
            page.store(diskRegisters, at: Offset.disk)
            page.store(store.residentSlots == nil ? 0 : residentSlotsAddress, at: Offset.residentSlots)
            page.store(store.accessedSlots == nil ? 0 : accessedSlotsAddress, at: Offset.accessedSlots)
            page.store(isMapped ? store.byteCount / GuestMemory.pageSize : 0, at: Offset.windowPages)
            page.store(isMapped ? windowAddress : 0, at: Offset.window)
        }
        if !hasPage { counts.invalid.add() }
    }

    /// Maps the window and the bitmaps, unless they are mapped. False on an error of KVM.
    func mapWindow(on machine: any ServiceHost) -> Bool {
        mapped.withLock { mapped in
            do throws(VMMError) {
                // Each has its flag: if the second fails, the next attempt must not map the first again.
                if !mapped.window { try machine.map(store.mapping, at: windowAddress, readOnly: false) }
                mapped.window = true
                if !mapped.residentSlots, let slots = store.residentSlots {
                    try machine.map(slots.mapping, at: residentSlotsAddress, readOnly: true)
                }
                mapped.residentSlots = true
                if !mapped.accessedSlots, let slots = store.accessedSlots {
                    try machine.map(slots.mapping, at: accessedSlotsAddress, readOnly: false)
                }
                mapped.accessedSlots = true
                return true
            } catch {
                return false
            }
        }
    }

    /// Writes a request for a module that is being loaded. First the state, then the generation: the module reads them in the opposite order.
    ///
    /// - Returns: the request's generation.
    @discardableResult
    private func writeRequest(_ page: ServicePage) -> UInt32 {
        let generation = requestGeneration.wrappingAdd(1, ordering: .relaxed).newValue
        page.store(enabled.load(ordering: .relaxed) ? SYMBIOTIC_SWAP_ON : UInt32(0), at: Offset.control)
        page.store(generation, at: Offset.generation)
        return generation
    }

    /// Offsets in the global page (guest/include/symbiotic_swap.h).
    private enum Offset {
        static let control = Int(SYMBIOTIC_SWAP_OFFSET_CONTROL)
        static let generation = Int(SYMBIOTIC_SWAP_OFFSET_GENERATION)
        static let window = Int(SYMBIOTIC_SWAP_OFFSET_WINDOW_GPA)
        static let windowPages = Int(SYMBIOTIC_SWAP_OFFSET_WINDOW_PAGES)
        static let disk = Int(SYMBIOTIC_SWAP_OFFSET_DISK)
        static let residentSlots = Int(SYMBIOTIC_SWAP_OFFSET_RESIDENT)
        static let accessedSlots = Int(SYMBIOTIC_SWAP_OFFSET_ACCESSED)
        static let counters = Int(SYMBIOTIC_SWAP_OFFSET_COUNTERS)
    }

    // MARK: The switch, any thread but a vCPU's

    /// Switches bypass on or off and waits until the guest has done it.
    ///
    /// - Returns: nil when the guest has switched; otherwise the reason why not. The request stays: a module that is loaded later serves it.
    public func setEnabled(_ isEnabled: Bool) -> String? {
        switching.withLock { _ in
            enabled.store(isEnabled, ordering: .relaxed)
            counts.switches.add()
            guard let machine else { return "the VM is not running" }
            var generation: UInt32 = 0
            guard machine.withGlobalPage(of: self, { page in generation = writeRequest(page) }) else {
                return isEnabled ? SymCallFailure.noModule.description : nil
            }
            do throws(SymCallFailure) {
                _ = try machine.symcall(
                    SYMBIOTIC_SYMCALL_SWAP_SWITCH, SymCallValues(isEnabled ? UInt64(SYMBIOTIC_SWAP_ON) : 0, UInt64(generation)), vcpu: nil)
            } catch {
                return error == .unknown ? "the guest's module does not offer swap bypass" : error.description
            }
            for _ in 0..<SwapBypassService.switchTimeout {
                let status = currentStatus
                if status.isServed(generation) {
                    return status.isOn == isEnabled ? nil : status.unavailableReason
                }
                usleep(1000)
            }
            return "the guest did not switch within \(SwapBypassService.switchTimeout / 1000) s"
        }
    }

    /// Whether the user has enabled bypass.
    public var isEnabled: Bool { enabled.load(ordering: .relaxed) }

    /// Whether the guest reports that bypass is on.
    public var isActive: Bool { currentStatus.isOn }

    /// Why the guest could not switch on; nil when it reported no reason.
    public var unavailableReason: String? {
        let status = currentStatus
        return status.reason == SYMBIOTIC_SWAP_NO_REASON ? nil : status.unavailableReason
    }

    private var currentStatus: SwitchStatus { SwitchStatus(status.load(ordering: .acquiring)) }

    // MARK: Counters

    /// The VMM's counters, the store's, and the guest's, which are not trustworthy.
    public override func counters() -> [(name: String, value: UInt64)] {
        var all = counts.all
        all.append(("store_bytes", store.byteCount))
        all.append(("store_resident_bytes", store.residentByteCount))
        if let budget = store.budget { all.append(("store_budget_bytes", budget)) }
        all += store.tierCounters
        machine?.withGlobalPage(of: self) { page in
            for (index, name) in SwapCounters.guestNames.enumerated() {
                all.append((name, page.load(Offset.counters + 8 * index) ?? UInt64(0)))
            }
        }
        return all
    }
}
