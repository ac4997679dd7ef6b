// SPDX-License-Identifier: Apache-2.0

import CKVM
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// Returns one number after the other at a port. A number that is lost or read twice changes the guest's sum.
final class Numbers: BusDevice, Snapshotable, @unchecked Sendable {
    static let port: UInt16 = 0x90
    static let stateKind = "numbers"

    private let taken = Atomic<UInt64>(0)

    init() {
        super.init(name: "numbers")
    }

    var count: UInt64 { taken.load(ordering: .acquiring) }

    static func number(_ index: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: (index &+ 1) &* 2_654_435_761)
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        UInt64(Numbers.number(taken.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue))
    }

    func saveState() throws(VMMError) -> UInt64 {
        count
    }

    func restoreState(_ state: UInt64) throws(VMMError) {
        taken.store(state, ordering: .releasing)
    }
}

/// A guest to save while it runs. It programs the PIC and the PIT, puts values into registers of all kinds, computes with them and with numbers
/// from a port, stores the results, waits for five more ticks of the PIT and resets the machine.
final class StateGuest {
    static let rounds: UInt32 = 20_000
    static let memoryByteCount: UInt64 = 1 << 20
    private static let codeAddress: UInt64 = 0x1000
    private static let results: UInt64 = 0x2000
    private static let vector: UInt64 = 0x2100
    private static let ticks: UInt64 = 0x3000

    let machine: VirtualMachine
    let numbers = Numbers()

    /// Creates a guest; or, with the memory of another guest, a machine into which to restore that guest's state.
    init(continuing other: StateGuest? = nil, vcpus: Int = 1, memoryByteCount: UInt64 = StateGuest.memoryByteCount) throws {
        var configuration = MachineConfiguration(name: "state", kernelPath: "")
        configuration.memoryByteCount = memoryByteCount
        configuration.vcpuCount = vcpus
        let memory = try GuestMemory(byteCount: memoryByteCount)
        if let other {
            try memory.copy(from: other.machine.memory)
        } else {
            try memory.write(StateGuest.codeAddress, bytes: StateGuest.code)
            try memory.write(StateGuest.vector, bytes: Array("sixteen bytes in".utf8))
        }
        let numbers = numbers
        machine = try VirtualMachine(
            bare: configuration, memory: memory, adjust: { _ = $0.ports.attach(numbers, base: Numbers.port, count: 4) }
        ) { vcpu throws(VMMError) in
            guard other == nil else { return }
            var special = try vcpu.specialRegisters()
            special.cs.base = 0
            special.cs.selector = 0
            try vcpu.setSpecialRegisters(special)
            var registers = try vcpu.registers()
            registers.rip = StateGuest.codeAddress
            registers.rsp = 0x8000
            registers.rflags = 2
            try vcpu.setRegisters(registers)
        }
    }

    /// Starts the guest and pauses it when it has read `count` numbers.
    func run(until count: UInt64) throws {
        try machine.start()
        let isThere = waitUntil { numbers.count >= count }
        machine.pause()
        try #require(isThere)
    }

    /// Waits for the guest's end; kills a guest that hangs.
    func wait() throws -> TerminationReason {
        let machine = machine
        let watch = try Thread(.command, "watch") {
            _ = waitUntil(within: 30) { machine.state == .ended }
            machine.kill()
        }
        defer { watch.join() }
        return machine.wait()
    }

    func expectRightResults() throws {
        var (eax, ebx, esi): (UInt32, UInt32, UInt32) = (0x1234_5678, 0x9abc_def0, 0)
        for index in 0..<UInt64(StateGuest.rounds) {
            eax = eax &* 1_664_525 &+ ebx
            ebx = (ebx << 5 | ebx >> 27) ^ eax
            esi &+= Numbers.number(index)
        }
        let memory = machine.memory
        let found: [UInt32] = try (0..<4).map { try memory.load(StateGuest.results + 4 * $0) }
        #expect(found == [eax, ebx, esi, 0x1234_5678])
        #expect(try memory.read(StateGuest.results + 16, byteCount: 16) == Array("sixteen bytes in".utf8))
    }

    /// Interrupts that the guest has taken.
    func tickCount() throws -> UInt16 {
        try machine.memory.load(StateGuest.ticks)
    }

    /// In real mode at 0:1000.
    private static let code: [UInt8] = [
        0xfa,  // cli
        0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0,  // xor ax, ax; mov ds, ax; mov ss, ax
        0xc7, 0x06, 0x80, 0x00, 0xa5, 0x10,  // mov word [0x80], 0x10a5: vector 0x20
        0xa3, 0x82, 0x00,  // mov [0x82], ax
        0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21,  // the PIC: vectors from 0x20, timer only
        0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21,
        0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e, 0xe6, 0x40,  // the PIT: 100 a second
        0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x02, 0x0f, 0x22, 0xe0,  // mov eax, cr4; or ax, 0x200; mov cr4, eax: OSFXSR
        0x0f, 0x10, 0x06, 0x00, 0x21,  // movups xmm0, [0x2100]
        0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x23, 0xc0,  // mov eax, 0x12345678; mov dr0, eax
        0x66, 0xbb, 0xf0, 0xde, 0xbc, 0x9a,  // mov ebx, 0x9abcdef0
        0x66, 0x31, 0xf6,  // xor esi, esi
        0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00,  // mov ecx, 20000
        0xfb,  // sti
        // again:
        0x66, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,  // imul eax, eax, 1664525
        0x66, 0x01, 0xd8,  // add eax, ebx
        0x66, 0xc1, 0xc3, 0x05,  // rol ebx, 5
        0x66, 0x31, 0xc3,  // xor ebx, eax
        0x66, 0x89, 0xc2,  // mov edx, eax
        0x66, 0xe5, 0x90,  // in eax, 0x90
        0x66, 0x01, 0xc6,  // add esi, eax
        0x66, 0x89, 0xd0,  // mov eax, edx
        0x66, 0x49, 0x75, 0xdf,  // dec ecx; jnz again
        0x66, 0xa3, 0x00, 0x20,  // mov [0x2000], eax
        0x66, 0x89, 0x1e, 0x04, 0x20,  // mov [0x2004], ebx
        0x66, 0x89, 0x36, 0x08, 0x20,  // mov [0x2008], esi
        0x0f, 0x21, 0xc0, 0x66, 0xa3, 0x0c, 0x20,  // mov eax, dr0; mov [0x200c], eax
        0x0f, 0x11, 0x06, 0x10, 0x20,  // movups [0x2010], xmm0
        0x8b, 0x3e, 0x00, 0x30, 0x83, 0xc7, 0x05,  // mov di, [0x3000]; add di, 5
        0xf4, 0x39, 0x3e, 0x00, 0x30, 0x72, 0xf9,  // wait: hlt; cmp [0x3000], di; jb wait
        0xb0, 0xfe, 0xe6, 0x64, 0xf4,  // mov al, 0xfe; out 0x64, al: reset
        // 0x10a5, the timer's handler:
        0x50, 0xff, 0x06, 0x00, 0x30,  // push ax; inc word [0x3000]
        0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf,  // mov al, 0x20; out 0x20, al; pop ax; iret
    ]
}

/// Waits for a condition; checks it every millisecond. Returns false after `seconds`.
func waitUntil(within seconds: Double = 20, _ condition: () -> Bool) -> Bool {
    for _ in 0..<Int(seconds * 1000) {
        if condition() { return true }
        Thread.sleep(milliseconds: 1)
    }
    return condition()
}
