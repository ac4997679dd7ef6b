# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every Swift build needs.

# need_swift: fails without Swift, which the user installs; installs the Debian packages that it compiles and links with.
need_swift() {
    command -v swift >/dev/null || die "no swift in PATH: install Swift 6.2 or later (https://www.swift.org/install)"
    need_packages "${SWIFT_PACKAGES[@]}"
}
