# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every Swift build stands on.

# need_swift: Swift itself is the user's to install; the Debian packages that it compiles and links with are seen to here.
need_swift() {
    command -v swift >/dev/null || die "no swift in PATH: install Swift 6.2 or later (https://www.swift.org/install)"
    need_packages "${SWIFT_PACKAGES[@]}"
}
