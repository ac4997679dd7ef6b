// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// A port whose write waits until a test opens it, as a reset of a disk waits for the host.
private final class SlowPort: BusDevice, @unchecked Sendable {
    let state = Monitor((isEntered: false, isOpen: false))

    init() {
        super.init(name: "slow")
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        state.update { $0.isEntered = true }
        state.wait { $0.isOpen ? true : nil }
    }

    func waitUntilEntered() {
        state.wait { $0.isEntered ? true : nil }
    }

    func open() {
        state.update { $0.isOpen = true }
    }
}

/// Counts its ends.
private final class EndingService: SymbioticService, @unchecked Sendable {
    let ends = Atomic<Int>(0)

    init() {
        super.init(claims: ServiceClaims(name: "ending", doorbells: 0x31...0x31))
    }

    override func end() {
        ends.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    var count: Int { ends.load(ordering: .sequentiallyConsistent) }
}

/// Pauses and ends while a vCPU waits for the host, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct MachineLifeTests {
    /// mov dx, 0x300; out dx, al; again: inc word [0x2000]; jmp again
    private static let code: [UInt8] = [0xba, 0x00, 0x03, 0xee, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa]

    private func machine(_ port: SlowPort, services: [SymbioticService] = []) throws -> VirtualMachine {
        let machine = try RealModeTests.machine(
            MachineLifeTests.code, services: services, adjust: { _ = $0.ports.attach(port, base: 0x300, count: 1) })
        try machine.start()
        port.waitUntilEntered()
        return machine
    }

    /// Pauses on a thread of its own. The result is nil until the pause returns.
    private func pauseElsewhere(_ machine: VirtualMachine) throws -> Monitor<Bool?> {
        let result = Monitor<Bool?>(nil)
        _ = try VMMBase.Thread(.command, "pauser") {
            let isPaused = machine.pause()
            result.update { $0 = isPaused }
        }
        return result
    }

    @Test func aPauseThatWaitsHoldsUpNobodyElse() throws {
        let port = SlowPort()
        let machine = try machine(port)
        let first = try pauseElsewhere(machine)
        usleep(20_000)
        // All of these return although the vCPU does not stop.
        #expect(machine.state == .running)
        #expect(machine.exitStatistics().vcpus.count == 1)
        #expect(first.withLock { $0 } == nil)
        // A resume cancels the pause.
        while !machine.resume() { usleep(1000) }
        #expect(first.wait { $0 } == false)
        #expect(!machine.resume())
        let second = try pauseElsewhere(machine)
        usleep(20_000)
        port.open()
        #expect(second.wait { $0 } == true)
        #expect(machine.state == .paused)
        let held: UInt16 = try machine.memory.load(0x2000)
        usleep(20_000)
        #expect(try machine.memory.load(0x2000) == held)
        #expect(machine.pause(), "it is paused already")
        #expect(machine.resume())
        machine.kill()
        #expect(machine.wait() == .killed)
        #expect(!machine.pause())
        #expect(!machine.resume())
    }

    @Test func aKillEndsAPauseThatWaits() throws {
        let port = SlowPort()
        let machine = try machine(port)
        let pause = try pauseElsewhere(machine)
        usleep(20_000)
        machine.kill()
        let end = try VMMBase.Thread(.command, "waiter") { _ = machine.wait() }
        port.open()
        end.join()
        pause.wait { $0 != nil ? true : nil }
        #expect(machine.state == .ended)
    }

    @Test func severalThreadsWaitForTheEnd() throws {
        let (port, service) = (SlowPort(), EndingService())
        let machine = try machine(port, services: [service])
        machine.kill()
        let ended = Monitor(0)
        let waiters = try (0..<3).map { number in
            try VMMBase.Thread(.command, "waiter\(number)") {
                _ = machine.wait()
                // No vCPU runs any more, whichever thread has joined it.
                ended.update { $0 += service.count }
            }
        }
        usleep(100_000)
        #expect(service.count == 0, "a vCPU still runs")
        port.open()
        for waiter in waiters { waiter.join() }
        #expect(service.count == 1)
        #expect(ended.withLock { $0 } == 3)
    }
}
