// SPDX-License-Identifier: Apache-2.0

extension FixedWidthInteger {
    /// The nearest integer. A number beyond the type's range gives its bound, NaN gives 0: the numbers in a report come from another process and may
    /// be anything.
    package init(saturating number: Double) {
        let rounded = number.rounded()
        self = Self(exactly: rounded) ?? (rounded.isNaN ? 0 : rounded < 0 ? .min : .max)
    }
}
