// SPDX-License-Identifier: Apache-2.0

/// The version of symvmm.
public enum SymVMMVersion {
    /// The version: major.minor.patch. `symvmm --version`, the API, the metrics and the report read it here.
    public static let current = "0.1.0"
}
