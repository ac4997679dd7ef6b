// SPDX-License-Identifier: Apache-2.0

/// The version of symvmm.
public enum SymVMMVersion {
    /// In words: `0.1.0`.
    public static let current = "0.1.0"
}
