# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The initramfs of scripts/lab: busybox, the modules for the shared root and for KVM, scripts/lib/lab-init.

LAB_MODULES=(virtio virtio_ring virtio_pci virtio_console fuse virtiofs overlay irqbypass kvm kvm_amd tun)

# ensure_lab_initramfs FLAVOUR: prints the initramfs's path.
ensure_lab_initramfs() {
    local flavour=$1 folder output stamp
    folder=$(kernel_folder "$flavour")
    output=$BUILD_FOLDER/lab/initramfs-$flavour.cpio
    stamp=$(content_stamp "$folder/version" "$ROOT_FOLDER"/scripts/lib/{lab-init,lab-initramfs.sh,guest-initramfs.sh} /bin/busybox)
    if [[ ! -e $output || $(cat "$output.stamp" 2>/dev/null) != "$stamp" ]]; then
        mkdir -p "$BUILD_FOLDER/lab"
        with_lock lab-initramfs make_lab_initramfs "$output"
        printf '%s\n' "$stamp" >"$output.stamp"
    fi
    printf '%s\n' "$output"
}

make_lab_initramfs() {
    # Variables for the functions of guest-initramfs.sh.
    # shellcheck disable=SC2034
    local output=$1 compress=none with=() stage=$1.stage LOADED_MODULES=("${LAB_MODULES[@]}") OPTIONAL_MODULES=()
    rm -rf "$stage"
    mkdir -p "$stage"/{bin,dev,proc,sys,host,scratch,lab}
    cp /bin/busybox "$stage/bin/busybox"
    ln -s busybox "$stage/bin/sh"
    cp "$ROOT_FOLDER/scripts/lib/lab-init" "$stage/init"
    chmod 755 "$stage/init"
    copy_modules "$stage"
    unsign_modules "$stage"/lib/modules/*/*.ko
    pack_initramfs "$stage" >"$output.part"
    mv "$output.part" "$output"
    rm -rf "$stage"
}

# Removes the modules' signatures, as checking kvm.ko's takes the emulator 0.2 s: a module without this last line counts as unsigned.
unsign_modules() {
    local module mark='~Module signature appended~'
    for module; do
        [[ $(tail -c 28 "$module" | tr -d '\0') != "$mark" ]] || truncate -s -28 "$module"
    done
}
