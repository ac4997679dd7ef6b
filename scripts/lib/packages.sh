# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # used where this is sourced
#
# The Debian packages that each part needs. scripts/run and scripts/test install all of them before they compile anything: a later package
# may upgrade linux-libc-dev or libc6-dev, and then everything that includes their headers would have to be compiled again.

SWIFT_PACKAGES=(git binutils gcc libc6-dev liblz4-dev libstdc++-12-dev)
GUEST_PACKAGES=(gcc make libc6-dev busybox-static cpio kmod xz-utils zstd)
LAB_PACKAGES=(qemu-system-x86 qemu-system-common busybox-static cpio kmod)
LAB_QEMU_PACKAGES=(build-essential ninja-build pkg-config python3-venv libglib2.0-dev libpixman-1-dev zlib1g-dev libattr1-dev xz-utils)
PACKAGE_PACKAGES=(git binutils gzip xz-utils python3)
LINT_PACKAGES=(lintian man-db)
