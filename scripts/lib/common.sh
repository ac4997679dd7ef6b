# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Functions shared by the scripts; to be sourced:
#   source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

# Makes `x=$(f)` stop at an error inside f, too.
shopt -s inherit_errexit

# The project's root folder, and the folder (ignored by git) for everything downloaded or built.
ROOT_FOLDER=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD_FOLDER=${SYMVMM_BUILD_FOLDER:-$ROOT_FOLDER/build}
SCRIPT_NAME=$(basename "$0")
# shellcheck source=scripts/lib/packages.sh
source "$ROOT_FOLDER/scripts/lib/packages.sh"

# info TEXT...: one line on stderr, if that is a terminal or SYMVMM_VERBOSE is set.
info() {
    if [[ -t 2 || -n ${SYMVMM_VERBOSE:-} ]]; then
        printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2
    fi
}

# warn TEXT...: one line on stderr, always.
warn() {
    clear_ticker
    printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2
}

# slow USUALLY TITLE COMMAND...: runs a step that takes seconds or more. Prints to stderr what the step does, how long that usually takes,
# and how long it took: on a terminal one line that counts the seconds, otherwise one line before and one after.
# The command runs in this shell. An error in it ends the script, as it would without this function.
slow() {
    local usually=$1 title=$2 start=$SECONDS status verb=done
    shift 2
    if [[ -t 2 ]]; then
        start_ticker "$title" "$usually"
    else
        printf '%s: %s (usually %s) ...\n' "$SCRIPT_NAME" "$title" "$usually" >&2
    fi
    # Not `"$@" || status=$?`, as in with_lock.
    "$@"
    status=$?
    clear_ticker
    ((status == 0)) || verb=failed
    printf '%s: %s: %s after %s\n' "$SCRIPT_NAME" "$title" "$verb" "$(duration $((SECONDS - start)))" >&2
    return "$status"
}

# duration SECONDS: such as `2 min 5 s`.
duration() {
    if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); fi
}

TICKER=''

# start_ticker TITLE USUALLY: rewrites one line of the terminal every second, until clear_ticker or the end of the script. A step inside
# another step replaces its line.
start_ticker() {
    clear_ticker
    (
        trap 'exit 0' TERM
        begin=$SECONDS
        while kill -0 $$ 2>/dev/null; do
            printf '\r\e[K%s: %s (usually %s): %s' "$SCRIPT_NAME" "$1" "$2" "$(duration $((SECONDS - begin)))" >&2
            sleep 1
        done
    ) &
    TICKER=$!
}

clear_ticker() {
    [[ -n $TICKER ]] || return 0
    kill "$TICKER" 2>/dev/null || true
    wait "$TICKER" 2>/dev/null || true
    TICKER=''
    printf '\r\e[K' >&2
}

# Also when the script ends at Ctrl-C, before the user's shell prints its prompt there. A script with an EXIT trap of its own calls clear_ticker in it.
trap clear_ticker EXIT

# die [-s STATUS] TEXT...: prints one line to stderr and exits with STATUS, or 1.
die() {
    local status=1
    if [[ ${1:-} == -s ]]; then
        status=$2
        shift 2
    fi
    warn "$*"
    exit "$status"
}

# usage_error TEXT...: reports a wrong command line and exits with status 2.
usage_error() {
    die -s 2 "$* (see --help)"
}

# option_value OPTION COUNT: fails unless OPTION has a value. COUNT is the number of arguments left, OPTION included.
option_value() {
    (($2 >= 2)) || usage_error "$1 needs a value"
}

# The most seconds for one logged program, or for the wait for another script.
STEP_LIMIT=3600

# run_logged LOG PROGRAM...: runs a program with its output in LOG; after a failure prints the last line of LOG.
run_logged() {
    local log=$1 status=0
    shift
    mkdir -p "$(dirname "$log")"
    # --foreground: Ctrl-C reaches the program.
    timeout --foreground --kill-after=10 "$STEP_LIMIT" "$@" </dev/null >"$log" 2>&1 || status=$?
    ((status != 0)) || return 0
    if ((status == 124)); then
        warn "not done within $(duration "$STEP_LIMIT"): $1 (log: $log)"
    else
        warn "failed: $1: $(grep -v '^[[:space:]]*$' "$log" | tail -n 1) (log: $log)"
    fi
    return 1
}

# with_lock NAME COMMAND...: runs the command while no other process that uses this build folder holds the lock NAME.
with_lock() {
    local name=$1 descriptor status
    shift
    mkdir -p "$BUILD_FOLDER/locks"
    exec {descriptor}>"$BUILD_FOLDER/locks/$name"
    flock --nonblock "$descriptor" || slow 'until that one is done' "waiting for another script that holds build/locks/$name" \
        flock --timeout "$STEP_LIMIT" "$descriptor"
    # Not `"$@" || status=$?`: in a condition, the command would continue after errors inside it.
    "$@"
    status=$?
    exec {descriptor}>&-
    return "$status"
}

package_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# package_known NAME: whether the package is installed or apt can get it.
package_known() {
    [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]
}

# apt_update: refreshes apt's package lists, once for this process and the processes that it starts.
apt_update() {
    [[ -z ${SYMVMM_APT_UPDATED:-} ]] || return 0
    slow '20 s' "refreshing apt's package lists" run_logged "$BUILD_FOLDER/logs/apt-update.log" apt-get update
    export SYMVMM_APT_UPDATED=1
}

# need_packages PACKAGE...: installs the Debian packages that are missing; if not root, prints the command that installs them and exits.
need_packages() {
    local package missing=()
    for package; do
        [[ " ${missing[*]} " == *" $package "* ]] || package_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    command -v apt-get >/dev/null || die "needs the programs of these Debian packages: ${missing[*]}"
    if ((EUID != 0)); then
        die "packages are missing; install them with: sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
    install_packages "${missing[@]}"
}

install_packages() {
    local log=$BUILD_FOLDER/logs/apt-install.log
    local apt=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
    export DEBIAN_FRONTEND=noninteractive
    slow 'up to 1 min' "installing $*" with_lock apt install_or_update
}

# Installs with the present package lists, and refreshes them only if that fails. Uses the variables of install_packages.
install_or_update() {
    run_logged "$log" "${apt[@]}" 2>/dev/null && return 0
    apt_update
    run_logged "$log" "${apt[@]}"
}

# debian_sources SUITE...: prints apt source lines for suites of this Debian release, from the archives in apt's configuration. A suite
# without a configured archive, such as RELEASE-backports, gets the main archive.
debian_sources() {
    local suite uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg options=''
    [[ ! -e $keyring ]] || options="[signed-by=$keyring] "
    for suite; do
        uri=$(configured_archive "$suite")
        [[ -n $uri ]] || uri=$(configured_archive "${suite%%-*}")
        [[ -n $uri ]] || return 1
        printf 'deb %s%s %s main\n' "$options" "$uri" "$suite"
    done
}

# configured_archive SUITE: prints the address of the first archive configured for this Debian suite, or nothing.
configured_archive() {
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(CREATED_BY)|$(LABEL)|$(RELEASE)|$(REPO_URI)' |
        awk -F'|' -v suite="$1" '$1 == "Packages" && $2 ~ /^Debian/ && $3 == suite && !found++ { print $4 }'
}

# debian_release: prints the code name, such as bookworm.
debian_release() {
    # shellcheck source=/dev/null
    (source /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-unknown}")
}

# content_stamp WORD...: prints a checksum of the words and of the contents of those that name a file or a folder.
content_stamp() {
    local word
    for word; do
        printf '%s\n' "$word"
        if [[ -d $word ]]; then
            find "$word" -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
        elif [[ -f $word ]]; then
            sha256sum "$word"
        fi
    done | sha256sum | cut -d' ' -f1
}

# has_hardware_virtualization: whether there is a /dev/kvm and the processor has VMX or SVM.
has_hardware_virtualization() {
    [[ -e /dev/kvm ]] && grep -qwE 'svm|vmx' /proc/cpuinfo
}
