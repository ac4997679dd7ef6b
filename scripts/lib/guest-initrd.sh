# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The initrds of scripts/guest-image: Debian's own, as its initramfs-tools make it on every installation. symvmm puts nothing into them.

INITRD_PACKAGES=initramfs-tools,busybox,udev,kmod,e2fsprogs,zstd,xz-utils,lz4,gzip

initrd_command() {
    local flavour=cloud-6.1 compress=gzip output='' stamp folder version
    while (($# > 0)); do
        case $1 in
        --kernel) option_value "$1" $# && flavour=$2 ;;
        --compress) option_value "$1" $# && compress=$2 ;;
        --output) option_value "$1" $# && output=$2 ;;
        *) usage_error "initrd: unknown argument: $1" ;;
        esac
        shift 2
    done
    case $compress in
    gzip | xz | zstd | lz4) ;;
    *) usage_error "no such compression: $compress" ;;
    esac
    folder=$(kernel_folder "$flavour")
    output=${output:-$BUILD_FOLDER/guest/initrd-$flavour-$compress.img}
    ensure_kernel "$flavour"
    version=$(cat "$folder/version")
    need_packages mmdebstrap kmod
    stamp=$(content_stamp "$version" "$compress" "$ROOT_FOLDER/scripts/lib/guest-initrd.sh")
    if [[ ! -e $output || $(cat "$output.stamp" 2>/dev/null) != "$stamp" ]]; then
        mkdir -p "$(dirname "$output")"
        slow '1 min' "making $output" with_lock initrd make_initrd
        printf '%s\n' "$stamp" >"$output.stamp"
    fi
    printf '%s\n' "$output"
}

# The functions below share the variables of initrd_command: flavour, compress, output, folder, version.

make_initrd() {
    local tar=$BUILD_FOLDER/guest/debian-initramfs-tools.tar stage=$output.stage
    ((EUID == 0)) || die "only root can make Debian's initrd: it needs a root file system of Debian"
    ensure_initrd_tar "$tar"
    rm -rf "$stage"
    mkdir -p "$stage"
    tar -C "$stage" --numeric-owner -xpf "$tar"
    mkdir -p "$stage/lib/modules"
    cp -r "$folder/lib/modules/$version" "$stage/lib/modules/"
    cp "$folder/config" "$stage/boot/config-$version"
    depmod -b "$stage" "$version"
    run_logged "$BUILD_FOLDER/logs/mkinitramfs.log" chroot "$stage" mkinitramfs -c "$compress" -o /initrd.img "$version"
    mv "$stage/initrd.img" "$output"
    rm -rf "$stage"
}

ensure_initrd_tar() {
    local tar=$1 stamp sources lines
    stamp=$(content_stamp "$(declare -f make_initrd_tar)" "$INITRD_PACKAGES")
    [[ ! -e $tar || $(cat "$tar.stamp" 2>/dev/null) != "$stamp" ]] || return 0
    sources=$(debian_sources "$(debian_release)" "$(debian_release)-security") || die "apt has no Debian archive configured"
    mapfile -t lines <<<"$sources"
    slow '30 s' "assembling Debian $(debian_release) with initramfs-tools" make_initrd_tar "$tar" "${lines[@]}"
    printf '%s\n' "$stamp" >"$tar.stamp"
}

make_initrd_tar() {
    local tar=$1
    shift
    run_logged "$BUILD_FOLDER/logs/mmdebstrap-initrd.log" mmdebstrap --mode=root --variant=minbase --format=tar \
        --include="$INITRD_PACKAGES" --skip=check/empty \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        "$(debian_release)" "$tar.part" "$@"
    mv "$tar.part" "$tar"
}
