# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The initramfs of scripts/guest-image: a static busybox, the kernel's modules for a virtual machine, guest/initramfs.

# Modules that the guest's init loads, in this order (each after its dependencies). Drivers built into the kernel are skipped.
LOADED_MODULES=(virtio virtio_ring virtio_mmio virtio_pci virtio_blk virtio_net virtio_rng virtio_console
    crc32c_generic ext4 button evdev)
# Modules for modprobe, which some tests and benchmarks need.
OPTIONAL_MODULES=(zram lzo_rle lzo lz4 brd loop virtio_balloon vmw_vsock_virtio_transport virtio_pmem nd_pmem)

initramfs_command() {
    local flavour=cloud-6.1 compress=$INITRAMFS_COMPRESSION output='' extra=() with=() add=() stamp folder
    local symbiotic=''
    while (($# > 0)); do
        case $1 in
        --symbiotic) symbiotic=yes && shift && continue ;;
        --kernel) option_value "$1" $# && flavour=$2 ;;
        --module) option_value "$1" $# && extra+=("$2") ;;
        --with) option_value "$1" $# && with+=("$2") ;;
        --add) option_value "$1" $# && add+=("$2") ;;
        --compress) option_value "$1" $# && compress=$2 ;;
        --output) option_value "$1" $# && output=$2 ;;
        *) usage_error "initramfs: unknown argument: $1" ;;
        esac
        shift 2
    done
    [[ -z $symbiotic ]] || extra+=("$(module_command "$flavour")")
    check_initramfs_inputs
    folder=$(kernel_folder "$flavour")
    output=${output:-$BUILD_FOLDER/guest/initramfs-$flavour${symbiotic:+-symbiotic}.cpio}
    ensure_kernel "$flavour"
    need_packages "${GUEST_PACKAGES[@]}"
    stamp=$(content_stamp "$folder/version" "$compress" "${with[@]}" "${extra[@]}" "${add[@]}" "${add[@]%:*}" \
        "$ROOT_FOLDER/guest/initramfs" "$ROOT_FOLDER/scripts/lib/guest-initramfs.sh" /bin/busybox)
    if [[ ! -e $output || $(cat "$output.stamp" 2>/dev/null) != "$stamp" ]]; then
        mkdir -p "$(dirname "$output")"
        with_lock initramfs make_initramfs
        printf '%s\n' "$stamp" >"$output.stamp"
    fi
    printf '%s\n' "$output"
}

INITRAMFS_COMPRESSION=none

# The functions below share the variables of initramfs_command: flavour, folder, compress, output, extra, with, add.

check_initramfs_inputs() {
    local word
    for word in "${extra[@]}"; do
        [[ -f $word ]] || die "no such module file: $word"
    done
    for word in "${add[@]}"; do
        [[ $word == ?*:/?* ]] || usage_error "--add: give SOURCE:/TARGET, not $word"
        [[ -e ${word%:*} ]] || die "no such file: ${word%:*}"
    done
    case $compress in
    none | gzip | lz4 | zstd) ;;
    *) usage_error "no such compression: $compress" ;;
    esac
}

make_initramfs() {
    local stage=$output.stage
    info "making $output"
    rm -rf "$stage"
    mkdir -p "$stage"/{bin,sbin,dev,proc,sys,run,tmp,root,sysroot,tests,extra}
    cp /bin/busybox "$stage/bin/busybox"
    ln -s busybox "$stage/bin/sh"
    cp "$ROOT_FOLDER/guest/initramfs/init" "$stage/init"
    cp -r "$ROOT_FOLDER/guest/initramfs/etc" "$stage/etc"
    copy_modules "$stage"
    copy_additions "$stage"
    pack_initramfs "$stage" >"$output.part"
    mv "$output.part" "$output"
    rm -rf "$stage"
}

copy_modules() {
    local stage=$1 version modules name
    version=$(cat "$folder/version")
    modules=$stage/lib/modules/$version
    mkdir -p "$modules"
    for name in "${LOADED_MODULES[@]}" "${with[@]}"; do
        module_files "$name" || die "the kernel $flavour has no module $name"
    done >"$stage/files-all"
    awk '!seen[$0]++' "$stage/files-all" >"$stage/files-loaded"
    for name in "${OPTIONAL_MODULES[@]}"; do
        module_files "$name" || true
    done >"$stage/files-optional"
    # In one folder: the guest's init loads them by file name, and modprobe finds them through modules.dep.
    sed "s|^|$folder/lib/modules/$version/|" "$stage"/files-* | LC_ALL=C sort -u | xargs -r -d '\n' cp -t "$modules"
    sed "s|.*/|/lib/modules/$version/|" "$stage/files-loaded" >"$stage/lib/modules/load-order"
    cp "$folder/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$modules"
    depmod -b "$stage" "$version"
    # busybox' modprobe reads only the text files.
    rm -f "$modules"/*.bin "$modules"/modules.{order,devname,builtin.modinfo} "$stage"/files-*
}

# module_files NAME: prints the module's files below lib/modules/VERSION, dependencies first. Prints nothing for a module that is built
# into the kernel; returns false for one that the kernel does not have.
module_files() {
    local name=${1//-/_} root
    root=$folder/lib/modules/$(cat "$folder/version")
    if sed 's|.*/||; s|\.ko$||; s|-|_|g' "$root/modules.builtin" | grep -qx "$name"; then
        return 0
    fi
    awk -v wanted="$name" '
        {
            path = $1; sub(/:$/, "", path)
            name = path; sub(/.*\//, "", name); sub(/\.ko$/, "", name); gsub(/-/, "_", name)
        }
        name == wanted { for (i = NF; i > 1; i--) print $i; print path; found = 1; exit }
        END { exit !found }' "$root/modules.dep"
}

copy_additions() {
    local stage=$1 word source target
    for word in "${extra[@]}"; do
        cp "$word" "$stage/extra/"
    done
    for word in "${add[@]}"; do
        source=${word%:*} target=$stage${word##*:}
        mkdir -p "$(dirname "$target")"
        cp -rLT --preserve=mode "$source" "$target"
    done
}

# Makes the result reproducible: sorted names, one time stamp, owner root.
pack_initramfs() {
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --null -o -H newc --quiet --reproducible -R 0:0) |
        case $compress in
        none) cat ;;
        gzip) gzip -9n ;;
        lz4) lz4 -l -9 -q ;;
        zstd) zstd -q -19 ;;
        esac
}
