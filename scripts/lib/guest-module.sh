# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# scripts/guest-image, its module: symbiotic.ko and the guest's test programs, for the kernel that is packed.

# module_command FLAVOUR [--test]: prints the module's path. --test adds the calls that misbehave on purpose.
module_command() {
    local flavour=${1:-} test='' output
    (($# >= 1 && $# <= 2)) || usage_error "module wants a flavour, and --test or nothing"
    [[ $# -eq 1 || $2 == --test ]] || usage_error "module does not know: $2"
    [[ $# -eq 1 ]] || test=1
    ensure_kernel "$flavour"
    output=$BUILD_FOLDER/guest/module-$flavour${test:+-test}
    with_lock "module-$flavour" make_module "$flavour" "$output" "$test"
    printf '%s\n' "$output/symbiotic/symbiotic.ko"
}

# A kernel that was fetched some time ago may have no headers in the archive any more: then the present one takes its place.
ensure_kernel_with_headers() {
    local headers
    headers=linux-headers-$(cat "$(kernel_folder "$1")/version")
    ! package_installed "$headers" && ! package_known "$headers" || return 0
    ((EUID != 0)) || apt_update
    ! package_known "$headers" || return 0
    warn "$headers is not in the archive any more: getting the present kernel"
    rm -rf "$(kernel_folder "$1")"
    ensure_kernel "$1"
}

make_module() {
    local version
    ensure_kernel_with_headers "$1"
    version=$(cat "$(kernel_folder "$1")/version")
    need_packages "linux-headers-$version" gcc make
    slow '10 s' "building symbiotic.ko for $version" run_logged "$BUILD_FOLDER/logs/module-$1.log" \
        make -C "$ROOT_FOLDER/guest/symbiotic" OUTPUT="$2" KVER="$version" SYMBIOTIC_TEST="$3"
}

# programs_command: builds guest/tests into build/guest/programs and prints that folder.
programs_command() {
    (($# == 0)) || usage_error "programs takes no arguments"
    need_packages "${GUEST_PACKAGES[@]}"
    with_lock programs run_logged "$BUILD_FOLDER/logs/programs.log" \
        make -C "$ROOT_FOLDER/guest/tests" OUTPUT="$BUILD_FOLDER/guest/programs"
    printf '%s\n' "$BUILD_FOLDER/guest/programs"
}
