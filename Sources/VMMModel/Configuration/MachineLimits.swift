// SPDX-License-Identifier: Apache-2.0

/// The limits of a virtual machine. The configuration, the engine and the ACPI tables use these.
public enum MachineLimits {
    /// Number of vCPUs. The ACPI tables, the xAPIC ids and the tests support at most 32.
    public static let vcpuCount = 1...32
    /// Guest memory in bytes: 1 MiB to 1 TiB.
    public static let memoryByteCount: ClosedRange<UInt64> = 1 << 20...1 << 40
    /// Page size in bytes: guest memory is a multiple of it.
    public static let pageByteCount: UInt64 = 4096
}
