# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What scripts/package and scripts/release share: version, text of changes, and the files that they pack.

VERSION_SOURCE=Sources/VMMBase/SymVMMVersion.swift

# source_version: prints the version of the sources, or nothing.
source_version() {
    sed -nE 's/.*static let current = "(.*)".*/\1/p' "$VERSION_SOURCE"
}

# changes SECTION: the text of a section of CHANGELOG.md, without empty lines at its ends.
changes() {
    awk -v title="$1" '/^## / { inside = $2 == title; next } inside' CHANGELOG.md | sed -e '/./,$!d' | tac | sed -e '/./,$!d' | tac
}

# check_program VERSION: build/symvmm has this version, and needs no shared library.
check_program() {
    local found
    [[ -x $BUILD_FOLDER/symvmm ]] || die "there is no build/symvmm: run scripts/build"
    found=$("$BUILD_FOLDER/symvmm" --version)
    [[ $found == "$1" ]] || die "build/symvmm says that it has version $found, not $1"
    ! readelf --program-headers --wide "$BUILD_FOLDER/symvmm" | grep -q INTERP || die "build/symvmm is not static"
}

# copy_tracked FOLDER PATH...: copies the files that git knows, with the permissions that packages want.
copy_tracked() {
    local folder=$1
    shift
    mkdir -p "$folder"
    git ls-files -z -- "$@" | tar --create --null --no-recursion --files-from=- --mode='u=rwX,go=rX' | tar --extract --directory "$folder"
}

# describe_program FOLDER: the manual pages (FOLDER/man) and completions (FOLDER/completions) that the program prints.
describe_program() {
    local shell
    mkdir -p "$1/completions"
    "$ROOT_FOLDER/scripts/lib/man-pages" "$BUILD_FOLDER/symvmm" "$1/man"
    for shell in bash zsh fish; do
        # bash's begins with a line for the kernel, but is no program.
        "$BUILD_FOLDER/symvmm" --generate-completion-script "$shell" | sed '1{/^#!/d}' >"$1/completions/symvmm.$shell"
    done
}

# pack_archive VERSION PARTS FOLDER: FOLDER/symvmm-VERSION-linux-x86_64.tar.gz. PARTS is what describe_program made.
pack_archive() {
    local name=symvmm-$1 parts=$2 folder=$3 stage
    stage=$(mktemp -d "$folder/stage.XXXXXX")
    copy_tracked "$stage/$name" LICENSE LICENSES README.md CHANGELOG.md SECURITY.md docs guest/symbiotic guest/include guest/symmod packaging/symvmm/copyright
    mv "$stage/$name/packaging/symvmm/copyright" "$stage/$name/LICENSES/symvmm-static-program.txt"
    rm -r "$stage/$name/packaging"
    install -m 755 "$BUILD_FOLDER/symvmm" "$stage/$name/symvmm"
    cp -r "$parts/man" "$parts/completions" "$stage/$name"
    chmod -R u=rwX,go=rX "$stage/$name"
    tar --create --directory "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name" |
        gzip --best --no-name >"$folder/$name-linux-x86_64.tar.gz"
    rm -r "$stage"
}

# fill FILE VERSION: prints a file of packaging/ with its placeholders filled in. Uses MAINTAINER.
fill() {
    sed -e "s/@VERSION@/$2/g" -e "s/@MAINTAINER@/$MAINTAINER/g" "$1"
}

# finish_deb PACKAGE VERSION TREE FOLDER: adds the files that every Debian package has, and packs the tree.
finish_deb() {
    local package=$1 version=$2 tree=$3 folder=$4 source=packaging/$1 name architecture
    install -D -m 644 "$source/copyright" "$tree/usr/share/doc/$package/copyright"
    changes "$SECTION" | "$ROOT_FOLDER/scripts/lib/debian-changelog" "$package" "$version" "$MAINTAINER" |
        gzip --best --no-name >"$tree/usr/share/doc/$package/changelog.gz"
    [[ ! -e $source/lintian-overrides ]] ||
        install -D -m 644 "$source/lintian-overrides" "$tree/usr/share/lintian/overrides/$package"
    chmod -R u=rwX,go=rX "$tree"
    # A checkout gives its files the time at which it was made.
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    mkdir "$tree/DEBIAN"
    for name in postinst prerm postrm; do
        [[ -e $source/$name ]] || continue
        fill "$source/$name" "$version" >"$tree/DEBIAN/$name"
        chmod 755 "$tree/DEBIAN/$name"
    done
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    fill "$source/control" "$version" | sed "s/@SIZE@/$(installed_size "$tree")/" >"$tree/DEBIAN/control"
    chmod 644 "$tree/DEBIAN/control" "$tree/DEBIAN/md5sums"
    architecture=$(sed -n 's/^Architecture: //p' "$source/control")
    # One thread: the number of threads would change the bytes.
    dpkg-deb --build --root-owner-group -Zxz --threads-max=1 "$tree" "$folder/${package}_${version}_$architecture.deb" >/dev/null
    rm -r "$tree"
}

# installed_size TREE: in KiB, as dpkg-gencontrol counts it: files by their size, everything else as 1.
installed_size() {
    find "$1" -path "$1/DEBIAN" -prune -o \( -type f -printf '%s\n' -o -printf '1024\n' \) |
        awk '{ total += int(($1 + 1023) / 1024) } END { print total }'
}

# pack_symvmm VERSION PARTS FOLDER: the Debian package of the program.
pack_symvmm() {
    local version=$1 parts=$2 folder=$3 tree doc unit
    tree=$(mktemp -d "$folder/stage.XXXXXX")
    doc=$tree/usr/share/doc/symvmm
    install -D -m 755 "$BUILD_FOLDER/symvmm" "$tree/usr/bin/symvmm"
    # Under these names the program has the command lines of Firecracker and its jailer.
    mkdir -p "$tree/usr/lib/symvmm" "$tree/etc/symvmm" "$tree/lib/systemd/system" "$tree/usr/share/man/man1"
    ln -s ../../bin/symvmm "$tree/usr/lib/symvmm/firecracker"
    ln -s ../../bin/symvmm "$tree/usr/lib/symvmm/jailer"
    install -D -m 644 "$parts/completions/symvmm.bash" "$tree/usr/share/bash-completion/completions/symvmm"
    install -D -m 644 "$parts/completions/symvmm.zsh" "$tree/usr/share/zsh/vendor-completions/_symvmm"
    install -D -m 644 "$parts/completions/symvmm.fish" "$tree/usr/share/fish/vendor_completions.d/symvmm.fish"
    cp "$parts"/man/*.1 "$tree/usr/share/man/man1"
    gzip --best --no-name "$tree"/usr/share/man/man1/*.1
    for unit in docs/systemd/*.service; do
        sed -E '/^(ExecStart|Documentation)=/s#/usr/local/#/usr/#g' "$unit" >"$tree/lib/systemd/system/$(basename "$unit")"
    done
    copy_tracked "$doc" README.md SECURITY.md docs ':!docs/systemd'
    # For `symvmm module build`; and symmod, which is in the program and under GPL-2.0, as its source.
    copy_tracked "$tree/usr/share/symvmm" guest/symbiotic guest/include guest/symmod ':!guest/**/.*'
    install -m 644 packaging/symvmm/README.Debian "$doc"
    finish_deb symvmm "$version" "$tree" "$folder"
}

# pack_dkms VERSION FOLDER: the Debian package of the guest's module, as source for DKMS.
pack_dkms() {
    local version=$1 folder=$2 tree sources
    tree=$(mktemp -d "$folder/stage.XXXXXX")
    sources=$tree/usr/src/symbiotic-$version
    copy_tracked "$tree/copy" guest/symbiotic guest/include ':!guest/**/.*'
    mkdir -p "$tree/usr/src" "$tree/usr/share/doc/symbiotic-dkms"
    mv "$tree/copy/guest/symbiotic" "$sources"
    mv "$tree/copy/guest/include" "$sources/include"
    rm -r "$tree/copy"
    sed -i "s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"$version\"/" "$sources/dkms.conf"
    finish_deb symbiotic-dkms "$version" "$tree" "$folder"
}
