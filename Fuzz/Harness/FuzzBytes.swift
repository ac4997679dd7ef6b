// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Whether two arrays of bytes are equal. By memcmp(3): the harness is built without optimization, where `==` takes milliseconds.
func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && memcmp(left, right, left.count) == 0
}

/// Whether `count` bytes at `start` of `left` are those of `right` at `other`.
func isEqual(_ left: [UInt8], at start: Int, _ right: [UInt8], at other: Int, count: Int) -> Bool {
    guard start >= 0, other >= 0, count <= left.count - start, count <= right.count - other else { return false }
    return left.withUnsafeBytes { left in
        right.withUnsafeBytes { right in
            guard count > 0, let left = left.baseAddress, let right = right.baseAddress else { return true }
            return memcmp(left + start, right + other, count) == 0
        }
    }
}
