// SPDX-License-Identifier: Apache-2.0

internal import CKVM

extension VirtualProcessor {
    /// Linear-address bits in use: 57 with five-level paging, else 48 (SDM volume 3A, 4.5). In a WRMSR's exit, on the vCPU's thread.
    func linearAddressBits() -> Int {
        let fiveLevels: UInt64 = 1 << 12  // CR4.LA57
        guard let special = try? handle.specialRegisters() else { return 48 }
        return special.cr4 & fiveLevels != 0 ? 57 : 48
    }
}
