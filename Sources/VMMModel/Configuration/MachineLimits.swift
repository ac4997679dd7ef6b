// SPDX-License-Identifier: Apache-2.0

/// What a virtual machine can have, in one place: the configuration, the engine and the tables for the guest all ask here.
public enum MachineLimits {
    /// Numbers of vCPUs. The highest is what the ACPI tables, the xAPIC ids and the tests go up to.
    public static let vcpuCount = 1...32
    /// Bytes of guest memory: 1 MiB to 1 TiB.
    public static let memoryByteCount: ClosedRange<UInt64> = 1 << 20...1 << 40
    /// The page size that memory is counted in.
    public static let pageByteCount: UInt64 = 4096
}
