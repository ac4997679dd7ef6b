// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The PC's keyboard controller (i8042) with a keyboard on which the host types Ctrl-Alt-Del, as Firecracker has it: for guests without an ACPI button.
/// There is no mouse port. Its reset line is that of `ResetController`, which it replaces.
///
/// It has the commands that Linux's drivers i8042 and atkbd use to find controller and keyboard. Each is answered at once, so that no driver waits for a
/// timeout. The output buffer is a queue of 16 bytes; the guest can put no more into it, since an answer without room is dropped.
final class KeyboardController: BusDevice, @unchecked Sendable {
    /// The data port; the command and status port is 0x64.
    static let basePort: UInt16 = 0x60
    /// Number of ports. Those between the two answer with all ones.
    static let portCount = 5
    /// The keyboard's interrupt.
    static let interruptNumber: UInt32 = 1

    /// Bits of the control byte.
    enum Control {
        static let interrupt: UInt8 = 1 << 0
        static let systemFlag: UInt8 = 1 << 2
        static let keyboardDisabled: UInt8 = 1 << 4
        static let mouseDisabled: UInt8 = 1 << 5
        static let translation: UInt8 = 1 << 6
    }

    /// Bits of the status.
    private enum Status {
        static let outputFull: UInt8 = 1 << 0
        static let systemFlag: UInt8 = 1 << 2
        static let unlocked: UInt8 = 1 << 4
    }

    /// What the next byte at the data port belongs to.
    enum Pending: UInt8, Codable, Sendable {
        case keyboard
        case control
        /// A byte for a part that the machine does not have.
        case ignored
        /// A byte that is to come back as if the keyboard had sent it.
        case echo
        /// The parameter of a keyboard's command.
        case parameter
        /// The parameter of the command that selects or tells the set of scan codes.
        case scanCodeSet
    }

    /// A queue of bytes without allocation.
    struct Output: Equatable, Sendable {
        static let capacity = 16
        private var bytes: UInt128 = 0
        private(set) var count = 0

        /// Adds bytes; false, and none of them, without room.
        mutating func append(_ added: UInt128, _ number: Int) -> Bool {
            guard count + number <= Output.capacity else { return false }
            bytes |= added << UInt128(8 &* count)
            count += number
            return true
        }

        mutating func take() -> UInt8? {
            guard count > 0 else { return nil }
            defer {
                bytes >>= 8
                count -= 1
            }
            return UInt8(truncatingIfNeeded: bytes)
        }

        var all: [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: bytes >> UInt128(8 &* $0)) }
        }
    }

    struct Registers {
        /// No interrupt until a driver enables it.
        var control = Control.systemFlag | Control.keyboardDisabled | Control.mouseDisabled
        var pending = Pending.keyboard
        var output = Output()
        /// The byte that the guest read last: the data port repeats it.
        var last: UInt8 = 0
    }

    let registers = Mutex(Registers())
    private let interrupt: InterruptLine
    private static let pulseReset: UInt8 = 0xfe

    init(interrupt: InterruptLine) {
        self.interrupt = interrupt
        super.init(name: "i8042")
    }

    /// Types Ctrl-Alt-Del. Any thread. Returns false if no driver has enabled the keyboard, or if the guest has not read what was typed before.
    func typeControlAltDelete() -> Bool {
        registers.withLock { registers in
            guard registers.control & (Control.interrupt | Control.keyboardDisabled) == Control.interrupt else { return false }
            // Pressed, then released; the first byte is the lowest. Scan codes of set 1 with translation, else of set 2.
            let isTyped =
                registers.control & Control.translation != 0
                ? registers.output.append(0x9d_b8_d3_e0_53_e0_38_1d, 8)
                : registers.output.append(0x14_f0_11_f0_71_f0_e0_71_e0_11_14, 11)
            if isTyped { raise(registers) }
            return isTyped
        }
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        switch offset {
        case 0:
            registers.withLock { registers in
                if let byte = registers.output.take() {
                    registers.last = byte
                    raise(registers)
                }
                return UInt64(registers.last)
            }
        case 4:
            registers.withLock { registers in
                let full = registers.output.count > 0 ? Status.outputFull : 0
                return UInt64(full | Status.unlocked | registers.control & Status.systemFlag)
            }
        default: .max
        }
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        let byte = UInt8(truncatingIfNeeded: value)
        switch offset {
        case 0: registers.withLock { takeData(byte, &$0) }
        case 4 where byte == KeyboardController.pulseReset: context.end(.reset)
        case 4: registers.withLock { takeCommand(byte, &$0) }
        default: break
        }
    }

    /// A command for the controller.
    private func takeCommand(_ command: UInt8, _ registers: inout Registers) {
        registers.pending = .keyboard
        switch command {
        case 0x20: answer(UInt128(registers.control), 1, &registers)
        case 0x60: registers.pending = .control
        case 0xa7: registers.control |= Control.mouseDisabled
        case 0xa8: registers.control &= ~Control.mouseDisabled
        // The mouse port's clock line is stuck: there is none.
        case 0xa9: answer(0x01, 1, &registers)
        // The controller's test, which resets it, and that of the keyboard's port.
        case 0xaa:
            registers.control = Registers().control
            registers.output = Output()
            answer(0x55, 1, &registers)
        case 0xab: answer(0x00, 1, &registers)
        case 0xad: registers.control |= Control.keyboardDisabled
        case 0xae: registers.control &= ~Control.keyboardDisabled
        // The input port: not locked. The output port: no reset, the A20 gate is open.
        case 0xc0: answer(0x80, 1, &registers)
        case 0xd0: answer(0x03, 1, &registers)
        case 0xd1, 0xd4: registers.pending = .ignored
        // The byte comes back without the mark of a mouse, which tells Linux that there is no mouse port.
        case 0xd2, 0xd3: registers.pending = .echo
        default: break
        }
    }

    /// A byte at the data port.
    private func takeData(_ byte: UInt8, _ registers: inout Registers) {
        let pending = registers.pending
        registers.pending = .keyboard
        switch pending {
        case .control: registers.control = byte
        case .ignored: break
        case .echo: answer(UInt128(byte), 1, &registers)
        case .parameter: answer(0xfa, 1, &registers)
        case .scanCodeSet: byte == 0 ? answer(0x02_fa, 2, &registers) : answer(0xfa, 1, &registers)
        case .keyboard: takeKeyboardCommand(byte, &registers)
        }
    }

    /// A command for the keyboard: acknowledged, with what it asks for.
    private func takeKeyboardCommand(_ command: UInt8, _ registers: inout Registers) {
        // A byte for the keyboard enables its port.
        registers.control &= ~Control.keyboardDisabled
        switch command {
        case 0xed, 0xf3:
            registers.pending = .parameter
            answer(0xfa, 1, &registers)
        case 0xf0:
            registers.pending = .scanCodeSet
            answer(0xfa, 1, &registers)
        case 0xee: answer(0xee, 1, &registers)
        case 0xf2: answer(0x83_ab_fa, 3, &registers)
        case 0xff: answer(0xaa_fa, 2, &registers)
        default: answer(0xfa, 1, &registers)
        }
    }

    private func answer(_ bytes: UInt128, _ count: Int, _ registers: inout Registers) {
        if registers.output.append(bytes, count) { raise(registers) }
    }

    /// Raises the interrupt if the guest has something to read.
    private func raise(_ registers: Registers) {
        if registers.output.count > 0, registers.control & Control.interrupt != 0 { interrupt.trigger() }
    }

    /// The guest may not have taken the interrupt for what waits.
    override func resume() {
        registers.withLock { raise($0) }
    }
}
