// SPDX-License-Identifier: Apache-2.0

internal import CSymMod

/// The guest's first process, which loads the module: guest/symmod, built by `scripts/build` into this program.
package enum FirstProcess {
    /// The program's bytes; nil in a build without it.
    package static var bytes: [UInt8]? {
        var count = 0
        // SAFETY: the function writes only the variable. The bytes are constant, and there are `count` of them.
        let start = unsafe csymmod_init(&count)
        guard count > 0, let start = unsafe start else { return nil }
        return unsafe Array(UnsafeBufferPointer(start: start, count: count))
    }
}
