# SPDX-License-Identifier: Apache-2.0
"""Programs from Debian's packages with their libraries, as a folder that a guest can chroot into."""

import glob
import os
import re
import shutil
import subprocess

import machine
from result import BenchmarkError

PACKAGES = ("coreutils", "sqlite3")
PROGRAMS = ("/usr/bin/sort", "/usr/bin/sqlite3")
LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64")
NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]|Requesting program interpreter: (\S+)\]")


def folder():
    """Returns the folder; makes it if it is missing."""
    output = os.path.join(machine.TOOLS, "debian-programs")
    if os.path.exists(output):
        return output
    work = output + ".part"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(os.path.join(work, "download"))
    names = subprocess.run(
        ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
         *PACKAGES], capture_output=True, text=True, check=False,
    ).stdout.splitlines()
    packages = sorted({name for name in names if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name)})
    machine.run("apt-get", "-q", "download", *packages, cwd=os.path.join(work, "download"), timeout=600)
    for package in glob.glob(os.path.join(work, "download", "*.deb")):
        machine.run("dpkg", "-x", package, os.path.join(work, "all"))
    for program in PROGRAMS:
        copy(program, work)
    os.rename(os.path.join(work, "root"), output)
    shutil.rmtree(work)
    return output


def copy(path, work):
    """Copies a file of the unpacked packages, and the libraries that it loads."""
    source = os.path.join(work, "all", path.lstrip("/"))
    target = os.path.join(work, "root", path.lstrip("/"))
    if os.path.exists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(source, target)
    for line in machine.run("readelf", "-dlW", source).splitlines():
        if match := NEEDED.search(line):
            copy(find(match.group(1), work) if match.group(1) else match.group(2), work)


def find(library, work):
    for place in LIBRARY_FOLDERS:
        if os.path.exists(os.path.join(work, "all", place, library)):
            return f"/{place}/{library}"
    raise BenchmarkError(f"no package has {library}")
