// SPDX-License-Identifier: Apache-2.0

/// What a guest finds when it resets the machine without a device: by a jump to the BIOS's reset vector (Linux: `reboot=bios`, and `reboot=efi` without
/// EFI), or by a triple fault (`reboot=triple`).
enum SoftReset {
    /// The BIOS data area's reset flag, 16 bits. An operating system writes there how the BIOS shall start before it resets the machine: 0 for a cold
    /// start, 0x1234 for a warm one.
    static let flag: UInt64 = 0x472
    /// Neither a cold nor a warm start: the guest has announced no reset.
    static let unannounced: UInt16 = 0xffff

    /// Real-mode code at the reset vector: pulse the reset line of the keyboard controller.
    static let code: [UInt8] = [
        0xb0, 0xfe,  // mov al, 0xfe
        0xe6, UInt8(truncatingIfNeeded: ResetController.basePort),  // out 0x64, al
        0xf4,  // hlt
        0xeb, 0xfd,  // jmp to the hlt
    ]

    /// Writes the code and the flag. Memory has at least 1 MiB.
    static func write(into memory: GuestMemory) throws(GuestAddressError) {
        try memory.store(unannounced, at: flag)
        try memory.write(BootLayout.resetVector, bytes: code)
    }

    /// Whether the guest has announced a reset. False for a guest that was not loaded with `write(into:)`.
    static func isAnnounced(in memory: GuestMemory) -> Bool {
        guard let found = try? memory.read(BootLayout.resetVector, byteCount: code.count), found == code,
            let flag = try? memory.load(flag, as: UInt16.self)
        else { return false }
        return flag == 0 || flag == 0x1234
    }
}
