# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The module of scripts/guest-image: symbiotic.ko for one of its kernels, and the guest's test programs.

# module_command FLAVOUR [--test]: prints the module's path. --test adds symcalls that misbehave on purpose.
module_command() {
    local flavour=${1:-} test='' output
    (($# >= 1 && $# <= 2)) || usage_error "module: give a flavour, and --test if you need it"
    [[ $# -eq 1 || $2 == --test ]] || usage_error "module: unknown argument: $2"
    [[ $# -eq 1 ]] || test=1
    ensure_kernel "$flavour"
    output=$BUILD_FOLDER/guest/module-$flavour${test:+-test}
    with_lock "module-$flavour" make_module "$flavour" "$output" "$test"
    printf '%s\n' "$output/symbiotic/symbiotic.ko"
}

# Replaces a kernel whose headers the archive no longer has by the present one.
ensure_kernel_with_headers() {
    local headers
    headers=linux-headers-$(cat "$(kernel_folder "$1")/version")
    ! package_installed "$headers" && ! package_known "$headers" || return 0
    ((EUID != 0)) || apt_update
    ! package_known "$headers" || return 0
    warn "the archive no longer has $headers: getting the present kernel"
    rm -rf "$(kernel_folder "$1")"
    ensure_kernel "$1"
}

make_module() {
    local version tree
    if [[ $1 == debug-6.1 ]]; then
        # scripts/debug-kernel keeps the tree in which it built the kernel.
        version=$(cat "$(kernel_folder "$1")/version")
        tree=$DEBUG_KERNEL_FOLDER
    else
        ensure_kernel_with_headers "$1"
        version=$(cat "$(kernel_folder "$1")/version")
        need_packages "linux-headers-$version"
        tree=/lib/modules/$version/build
    fi
    need_packages gcc make
    slow '10 s' "building symbiotic.ko for $version" run_logged "$BUILD_FOLDER/logs/module-$1.log" \
        make -C "$ROOT_FOLDER/guest/symbiotic" OUTPUT="$2" KDIR="$tree" SYMBIOTIC_TEST="$3"
}

# programs_command: builds guest/tests into build/guest/programs and prints that folder.
programs_command() {
    (($# == 0)) || usage_error "programs takes no arguments"
    need_packages "${GUEST_PACKAGES[@]}"
    with_lock programs run_logged "$BUILD_FOLDER/logs/programs.log" \
        make -C "$ROOT_FOLDER/guest/tests" OUTPUT="$BUILD_FOLDER/guest/programs"
    printf '%s\n' "$BUILD_FOLDER/guest/programs"
}
