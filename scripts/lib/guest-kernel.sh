# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The kernels of scripts/guest-image: Debian's packages, downloaded and unpacked but not installed.

# Where scripts/debug-kernel builds the kernel debug-6.1. Not every script that reads this file uses it.
# shellcheck disable=SC2034
DEBUG_KERNEL_FOLDER=$BUILD_FOLDER/guest/debug-kernel

# kernel_package FLAVOUR: prints Debian's meta package of the newest kernel of this flavour.
kernel_package() {
    case $1 in
    cloud-6.1) echo linux-image-cloud-amd64 ;;
    amd64-6.1) echo linux-image-amd64 ;;
    rt-6.1) echo linux-image-rt-amd64 ;;
    cloud-6.12) echo linux-image-6.12-cloud-amd64 ;;
    # Not a package: scripts/debug-kernel builds it from the package of its source.
    debug-6.1) echo linux-source-6.1 ;;
    *) usage_error "no such kernel: $1 (there are cloud-6.1, amd64-6.1, rt-6.1, cloud-6.12, and debug-6.1 after scripts/debug-kernel)" ;;
    esac
}

kernel_folder() {
    kernel_package "$1" >/dev/null
    printf '%s\n' "$BUILD_FOLDER/guest/kernels/$1"
}

kernel_command() {
    (($# == 1)) || usage_error "kernel: give one flavour"
    ensure_kernel "$1"
    kernel_folder "$1"
}

vmlinux_command() {
    (($# == 1)) || usage_error "vmlinux: give one flavour"
    local folder
    folder=$(kernel_folder "$1")
    ensure_kernel "$1"
    if [[ ! -e $folder/vmlinux ]]; then
        extract_vmlinux "$folder/vmlinuz" "$folder/vmlinux.part"
        mv "$folder/vmlinux.part" "$folder/vmlinux"
    fi
    printf '%s\n' "$folder/vmlinux"
}

# ensure_kernel FLAVOUR: makes the kernel's folder unless it is complete.
ensure_kernel() {
    local folder
    folder=$(kernel_folder "$1")
    # The file `version` is written last.
    [[ -e $folder/version ]] || with_lock "kernel-$1" fetch_kernel "$1" "$folder"
}

fetch_kernel() {
    local flavour=$1 folder=$2 package scratch
    [[ ! -e $folder/version ]] || return 0
    [[ $flavour != debug-6.1 ]] || die "there is no debug kernel yet: make it with scripts/debug-kernel"
    need_packages "${GUEST_PACKAGES[@]}"
    scratch=$folder.part
    rm -rf "$scratch" "$folder"
    mkdir -p "$scratch/download"
    # With old package lists, or none, the archive may no longer have the package: then refresh the lists and try again.
    if ! { package=$(concrete_kernel_package "$(kernel_package "$flavour")") &&
        download_package "$package" "$scratch/download" 2>/dev/null; }; then
        ((EUID != 0)) || apt_update
        package=$(concrete_kernel_package "$(kernel_package "$flavour")") ||
            die "apt knows no package $(kernel_package "$flavour"): Debian 12's main and security archives are needed"
        download_package "$package" "$scratch/download" || die "cannot download $package"
    fi
    dpkg -x "$scratch"/download/*.deb "$scratch/package"
    arrange_kernel "$scratch" "${package#linux-image-}"
    mv "$scratch" "$folder"
}

# Prints the package with the kernel itself, on which a meta package depends.
concrete_kernel_package() {
    local name
    name=$(apt-cache depends "$1" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    [[ -n $name ]] && printf '%s\n' "$name"
}

# download_package PACKAGE FOLDER
download_package() {
    (cd "$2" && slow '10 s' "downloading $1" run_logged "$BUILD_FOLDER/logs/download-$1.log" apt-get download "$1")
}

arrange_kernel() {
    local folder=$1 version=$2 package=$1/package
    mv "$package/boot/vmlinuz-$version" "$folder/vmlinuz"
    mv "$package/boot/System.map-$version" "$folder/System.map"
    mv "$package/boot/config-$version" "$folder/config"
    mv "$package/lib" "$folder/lib"
    rm -rf "$package" "$folder/download"
    # Packages of Linux 6.12 have compressed modules: decompress them once here instead of in every guest.
    find "$folder/lib/modules" -name '*.ko.xz' -print0 | xargs -0r -P 2 -n 64 xz -d
    depmod -b "$folder" "$version"
    printf '%s\n' "$version" >"$folder/version"
}

# bzimage_number FILE OFFSET SIZE: prints a little-endian number from the boot protocol's setup header.
bzimage_number() {
    od -A n -t "u$3" -j "$2" -N "$3" --endian=little "$1" | tr -d ' '
}

# extract_vmlinux VMLINUZ OUTPUT: decompresses the kernel's ELF file; the setup header says where it lies
# (Linux Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
extract_vmlinux() {
    local image=$1 output=$2 sectors offset length
    [[ $(bzimage_number "$image" 514 4) == 1400005704 ]] || die "not a bzImage: $image"
    sectors=$(bzimage_number "$image" 497 1)
    offset=$(($(bzimage_number "$image" 584 4) + (sectors == 0 ? 5 : sectors + 1) * 512))
    length=$(bzimage_number "$image" 588 4)
    # The uncompressed size follows the payload in four bytes, except for gzip.
    case $(od -A n -t x1 -j "$offset" -N 4 "$image" | tr -d ' ') in
    1f8b*) payload "$image" "$offset" "$length" | gzip -dc >"$output" ;;
    28b52ffd) payload "$image" "$offset" $((length - 4)) | zstd -qdc >"$output" ;;
    fd377a58) payload "$image" "$offset" $((length - 4)) | xz -dc >"$output" ;;
    02214c18) need_packages lz4 && payload "$image" "$offset" $((length - 4)) | lz4 -qdc >"$output" ;;
    *) die "unknown compression in $image" ;;
    esac
    [[ $(od -A n -t x1 -N 4 "$output" | tr -d ' ') == 7f454c46 ]] || die "no ELF kernel inside $image"
}

# payload FILE OFFSET LENGTH: prints a part of a file. In this order, no program writes into a closed pipe.
payload() {
    head -c "$(($2 + $3))" "$1" | tail -c "$3"
}
