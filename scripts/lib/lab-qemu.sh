# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# scripts/lab, its QEMU: Debian 12's QEMU 7.2 stalls interrupt delivery to nested guests now and then, the QEMU 10 of the
# backports does not. The latter is unpacked below the build folder; the system's packages and sources stay as they are.

LAB_QEMU_FOLDER=$BUILD_FOLDER/lab/qemu
MENDED_QEMU_FOLDER=$BUILD_FOLDER/lab/qemu-mended

# choose_lab_qemu WORD: fills the array LAB_QEMU with the command. WORD is auto (mended where it is built already, else backports,
# else system), mended, backports, system or a path.
choose_lab_qemu() {
    local choice=$1
    if [[ $choice == auto ]]; then
        choice=system
        if have_mended_qemu; then
            choice=mended
        elif ensure_backports_qemu; then
            choice=backports
        fi
    fi
    case $choice in
    mended)
        ensure_mended_qemu || lab_failed "cannot build the mended QEMU" "$BUILD_FOLDER/logs/lab-qemu-mended.log"
        LAB_QEMU=("$MENDED_QEMU_FOLDER/qemu-system-x86_64" -L /usr/share/qemu -L /usr/share/seabios)
        ;;
    backports)
        ensure_backports_qemu || lab_failed "cannot get QEMU from $(debian_release)-backports" \
            "$BUILD_FOLDER/logs/lab-qemu.log"
        LAB_QEMU=("$LAB_QEMU_FOLDER/usr/bin/qemu-system-x86_64" -L "$LAB_QEMU_FOLDER/usr/share/qemu" -L /usr/share/seabios)
        ;;
    system) LAB_QEMU=(qemu-system-x86_64) ;;
    *)
        [[ -x $choice && ! -d $choice ]] || usage_error "no such program: $choice"
        LAB_QEMU=("$choice")
        ;;
    esac
}

have_mended_qemu() {
    [[ -e $MENDED_QEMU_FOLDER/ready ]] &&
        [[ $(cat "$MENDED_QEMU_FOLDER/ready") == "$(sha256sum <"$ROOT_FOLDER/scripts/lib/build-lab-qemu")" ]]
}

ensure_mended_qemu() {
    have_mended_qemu || with_lock lab-qemu-mended build_mended_qemu
}

build_mended_qemu() {
    ! have_mended_qemu || return 0
    info "building the mended QEMU (about 3 minutes)"
    run_logged "$BUILD_FOLDER/logs/lab-qemu-mended.log" "$ROOT_FOLDER/scripts/lib/build-lab-qemu" "$MENDED_QEMU_FOLDER"
}

# False, once and for all until `build/lab` is removed, on a machine whose archive has no such packages.
ensure_backports_qemu() {
    [[ ! -e $LAB_QEMU_FOLDER/ready ]] || return 0
    [[ ! -e $LAB_QEMU_FOLDER.absent ]] || return 1
    with_lock lab-qemu fetch_backports_qemu
}

fetch_backports_qemu() {
    local log=$BUILD_FOLDER/logs/lab-qemu.log
    [[ ! -e $LAB_QEMU_FOLDER/ready ]] || return 0
    info "getting QEMU from $(debian_release)-backports"
    mkdir -p "$BUILD_FOLDER/logs" "$BUILD_FOLDER/lab"
    # In a shell of its own: `set -e` does not work in a function that is called as a condition.
    if (set -e && unpack_backports_qemu) >"$log" 2>&1; then
        return 0
    fi
    warn "no QEMU from $(debian_release)-backports, going on with the system's (log: $log)"
    return 1
}

unpack_backports_qemu() {
    local scratch=$LAB_QEMU_FOLDER.part package apt
    rm -rf "$scratch"
    mkdir -p "$scratch"/{apt/lists/partial,apt/cache/archives/partial,apt/empty}
    debian_sources "$(debian_release)-backports" >"$scratch/apt/sources.list" || return 1
    # A state of apt's of its own beside the system's.
    apt=(apt-get -o "Dir::Etc::SourceList=$scratch/apt/sources.list" -o "Dir::Etc::SourceParts=$scratch/apt/empty"
        -o "Dir::State::Lists=$scratch/apt/lists" -o "Dir::Cache=$scratch/apt/cache")
    "${apt[@]}" -o APT::Update::Error-Mode=any update || return 1
    if [[ $("${apt[@]/#apt-get/apt-cache}" policy qemu-system-x86) != *"$(debian_release)-backports"* ]]; then
        echo "the archive has no QEMU for $(debian_release)-backports"
        touch "$LAB_QEMU_FOLDER.absent"
        return 1
    fi
    for package in qemu-system-x86 qemu-system-data; do
        (cd "$scratch/apt" && "${apt[@]}" download "$package/$(debian_release)-backports") || return 1
    done
    for package in "$scratch"/apt/*.deb; do
        dpkg -x "$package" "$scratch" || return 1
    done
    rm -rf "$scratch/apt" "$LAB_QEMU_FOLDER"
    # It must run here: its libraries are those of the system's QEMU.
    "$scratch/usr/bin/qemu-system-x86_64" --version || return 1
    touch "$scratch/ready"
    mv "$scratch" "$LAB_QEMU_FOLDER"
}
