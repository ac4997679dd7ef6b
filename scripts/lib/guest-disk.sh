# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The disks of scripts/guest-image: a small Debian with systemd, made without a loop device.

# dbus: systemd-logind needs it, and handles the power button.
DISK_PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,iproute2,iputils-ping,login
# Fixed, so that the same input gives the same disk, and tests can use them.
DISK_LABEL=symvmm-root
DISK_UUID=5f3a4c1e-53d1-4d5a-9d0b-73796d766d6d
# Modules that no guest needs: most of the ordinary kernel's 400 MB.
DISK_MODULES_LEFT_OUT=(drivers/{gpu,media,infiniband,scsi,usb,iio,hwmon,staging,isdn,bluetooth,atm,mtd,platform,leds,mmc,hid}
    drivers/net/{ethernet,wireless,usb,can,wwan,hamradio,fddi,arcnet,phy} sound net/{bluetooth,mac80211,wireless,can,atm}
    fs/{btrfs,xfs,ocfs2,gfs2,cifs,smb,smbfs_common,nfs,nfsd,ceph,f2fs,jfs,reiserfs,bcachefs,ntfs3,smb})

disk_command() {
    local flavour=cloud-6.1 size=1G output='' stamp folder version
    while (($# > 0)); do
        case $1 in
        --kernel) option_value "$1" $# && flavour=$2 ;;
        --size) option_value "$1" $# && size=$2 ;;
        --output) option_value "$1" $# && output=$2 ;;
        *) usage_error "disk: unknown argument: $1" ;;
        esac
        shift 2
    done
    [[ $size =~ ^[1-9][0-9]*[MG]$ ]] || usage_error "--size: give a size such as 1G, not $size"
    folder=$(kernel_folder "$flavour")
    output=${output:-$BUILD_FOLDER/guest/disk-$flavour.img}
    ensure_kernel "$flavour"
    version=$(cat "$folder/version")
    need_packages mmdebstrap e2fsprogs kmod
    stamp=$(content_stamp "$version" "$size" "$ROOT_FOLDER/scripts/lib/guest-disk.sh")
    if [[ ! -e $output || $(cat "$output.stamp" 2>/dev/null) != "$stamp" ]]; then
        mkdir -p "$(dirname "$output")"
        slow '1 min' "making $output" with_lock disk make_disk
        printf '%s\n' "$stamp" >"$output.stamp"
    fi
    printf '%s\n' "$output"
}

# The functions below share the variables of disk_command: flavour, size, output, folder, version.

make_disk() {
    local tar=$BUILD_FOLDER/guest/debian-root.tar stage=$output.stage
    ((EUID == 0)) || die "only root can make the root disk: it holds files of several owners"
    ensure_root_tar "$tar"
    rm -rf "$stage"
    mkdir -p "$stage"
    tar -C "$stage" --numeric-owner -xpf "$tar"
    copy_disk_modules "$stage"
    truncate -s "$size" "$output.part"
    # SOURCE_DATE_EPOCH and the fixed hash seed make the result reproducible.
    SOURCE_DATE_EPOCH=0 run_logged "$BUILD_FOLDER/logs/mke2fs.log" mke2fs -F -q -t ext4 -L "$DISK_LABEL" -U "$DISK_UUID" \
        -E "hash_seed=$DISK_UUID,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0" -d "$stage" "$output.part"
    rm -rf "$stage"
    mv "$output.part" "$output"
}

# Makes the part that takes half a minute and is the same for every kernel and size.
ensure_root_tar() {
    local tar=$1 stamp sources lines
    stamp=$(content_stamp "$(declare -f make_root_tar configure_root)" "$DISK_PACKAGES")
    [[ ! -e $tar || $(cat "$tar.stamp" 2>/dev/null) != "$stamp" ]] || return 0
    sources=$(debian_sources "$(debian_release)" "$(debian_release)-security") ||
        die "apt has no Debian archive configured"
    mapfile -t lines <<<"$sources"
    slow '30 s' "assembling Debian $(debian_release)" make_root_tar "$tar" "${lines[@]}"
    printf '%s\n' "$stamp" >"$tar.stamp"
}

make_root_tar() {
    local tar=$1 root=$1.root
    shift
    rm -rf "$root"
    run_logged "$BUILD_FOLDER/logs/mmdebstrap.log" mmdebstrap --mode=root --variant=minbase --format=directory \
        --include="$DISK_PACKAGES" --skip=check/empty \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
        "$(debian_release)" "$root" "$@"
    configure_root "$root"
    tar -C "$root" --numeric-owner --sort=name -cf "$tar.part" .
    mv "$tar.part" "$tar"
    rm -rf "$root"
}

# Makes the system boot quickly on a slow machine: an empty root password, a login on the serial line, no periodic services.
configure_root() {
    local root=$1 unit
    rm -rf "$root"/{var/cache/apt,var/lib/apt/lists,var/log}/* "$root"/etc/apt/sources.list*
    sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
    echo symvmm-guest >"$root/etc/hostname"
    printf '127.0.0.1 localhost symvmm-guest\n::1 localhost\n' >"$root/etc/hosts"
    printf 'LABEL=symvmm-root / ext4 defaults 0 0\n' >"$root/etc/fstab"
    printf '0123456789abcdef0123456789abcdef\n' >"$root/etc/machine-id"
    : >"$root/etc/motd"
    ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
    mkdir -p "$root/etc/systemd/system/getty.target.wants" "$root/etc/systemd/journald.conf.d"
    ln -sf /lib/systemd/system/serial-getty@.service \
        "$root/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"
    printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/symvmm.conf"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
        fstrim.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service systemd-pstore.service getty@tty1.service \
        systemd-udev-settle.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
        dev-hugepages.mount dev-mqueue.mount sys-kernel-tracing.mount modprobe@.service \
        systemd-journal-flush.service getty-static.service systemd-random-seed.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
}

copy_disk_modules() {
    local target=$1/lib/modules/$version name
    mkdir -p "$target"
    cp -r "$folder/lib/modules/$version/." "$target/"
    for name in "${DISK_MODULES_LEFT_OUT[@]}"; do
        rm -rf "$target/kernel/$name"
    done
    chown -R 0:0 "$target"
    depmod -b "$1" "$version"
}
