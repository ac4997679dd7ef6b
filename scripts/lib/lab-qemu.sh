# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The QEMU of scripts/lab. Debian 12's QEMU 7.2 and the QEMU 10.0.2 of the backports lose interrupts of nested guests
# (docs/SPECIFICATION.md, known faults): a guest stops at one of its first sleeps. The lab therefore builds a mended QEMU
# (scripts/lib/build-lab-qemu). The others are for comparison. Everything lies in the build folder; this script changes neither the system's
# packages nor apt's sources.

LAB_QEMU_FOLDER=$BUILD_FOLDER/lab/qemu
MENDED_QEMU_FOLDER=$BUILD_FOLDER/lab/qemu-mended

# choose_lab_qemu WORD: sets the array LAB_QEMU to the command. WORD is mended, backports, system or a path.
choose_lab_qemu() {
    local choice=$1
    [[ $choice == mended ]] || warn "--qemu $choice may lose interrupts, and guests then hang: use it for comparison only"
    case $choice in
    mended)
        ensure_mended_qemu
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
        LAB_QEMU=("$choice" -L /usr/share/qemu -L /usr/share/seabios)
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
    local log=$BUILD_FOLDER/logs/lab-qemu-mended.log
    ! have_mended_qemu || return 0
    slow '4 min, once' "building the lab's QEMU from Debian's source" \
        run_logged "$log" "$ROOT_FOLDER/scripts/lib/build-lab-qemu" "$MENDED_QEMU_FOLDER" ||
        lab_failed "cannot build the mended QEMU" "$log"
}

# Returns false if the archive has no such packages. It remembers that until `build/lab` is removed.
ensure_backports_qemu() {
    [[ ! -e $LAB_QEMU_FOLDER/ready ]] || return 0
    [[ ! -e $LAB_QEMU_FOLDER.absent ]] || return 1
    with_lock lab-qemu fetch_backports_qemu
}

fetch_backports_qemu() {
    local log=$BUILD_FOLDER/logs/lab-qemu.log
    [[ ! -e $LAB_QEMU_FOLDER/ready ]] || return 0
    mkdir -p "$BUILD_FOLDER/logs" "$BUILD_FOLDER/lab"
    # In a subshell: `set -e` has no effect in a function that is called in a condition.
    slow '1 min' "getting QEMU from $(debian_release)-backports" logged_unpack_of_backports_qemu "$log"
}

logged_unpack_of_backports_qemu() {
    (set -e && unpack_backports_qemu) >"$1" 2>&1
}

unpack_backports_qemu() {
    local scratch=$LAB_QEMU_FOLDER.part package apt
    rm -rf "$scratch"
    mkdir -p "$scratch"/{apt/lists/partial,apt/cache/archives/partial,apt/empty}
    debian_sources "$(debian_release)-backports" >"$scratch/apt/sources.list" || return 1
    # A separate state of apt beside the system's.
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
    # Check that it runs: it uses the libraries of the system's QEMU.
    "$scratch/usr/bin/qemu-system-x86_64" --version || return 1
    touch "$scratch/ready"
    mv "$scratch" "$LAB_QEMU_FOLDER"
}
