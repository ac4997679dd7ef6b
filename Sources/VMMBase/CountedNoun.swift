// SPDX-License-Identifier: Apache-2.0

/// A number and its noun for messages: `1 byte`, `2 bytes`.
package func counted(_ count: some BinaryInteger, _ noun: String) -> String {
    "\(count) \(noun)\(count == 1 ? "" : "s")"
}
