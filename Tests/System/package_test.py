# SPDX-License-Identifier: Apache-2.0
"""scripts/package: what is in the packages, lintian's opinion, and installing, using and purging them. By default in an overlay of this machine's own
root; with SYMVMM_STRESS=1 also in a fresh minimal Debian, where DKMS builds the module."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile

import vmm

PACKAGE = os.path.join(vmm.ROOT, "scripts", "package")
# What dpkg, and what it starts for every package, keeps for itself; depmod's indexes are made anew without the module.
KEPT = re.compile(r"/(var/(lib/(dpkg|apt)|log/apt|cache/(man|ldconfig|apt|debconf))(/|$)|var/log/(dpkg|alternatives)\.log$|(usr/)?lib/modules/[^/]+/modules\.)")
FIRECRACKER = ["/usr/bin/firecracker", "firecracker", "/usr/lib/symvmm/firecracker", "10", "--slave", "/usr/bin/jailer", "jailer", "/usr/lib/symvmm/jailer"]


class Root:
    """An overlay over a root file system, in a mount namespace of its own: programs in it change nothing outside."""

    def __init__(self, test, lower, scratch):
        """`scratch` is an empty folder. The test's folder is /mnt inside."""
        self.lower = lower
        root = os.path.join(scratch, "root")
        mounts = f"""
            set -e
            mount -t tmpfs none {scratch}
            mkdir {scratch}/upper {scratch}/work {root}
            mount -t overlay overlay -o lowerdir={lower or "/"},upperdir={scratch}/upper,workdir={scratch}/work {root}
            for folder in dev proc sys; do mount --rbind /$folder {root}/$folder; done
            mount -t tmpfs none {root}/run
            mount -t tmpfs none {root}/tmp
            mount --bind {test.folder} {root}/mnt
            echo ready
            exec sleep infinity"""
        self.keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        test.addCleanup(self.close)
        said = self.keeper.stdout.readline()
        if said != "ready\n":
            raise AssertionError(f"no overlay: {said}{self.keeper.stdout.read()}")
        self.enter = ["nsenter", f"--target={self.keeper.pid}", "--mount", "--root", "chroot", root, "env", "-i", "HOME=/root", "LC_ALL=C.UTF-8",
                      "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        self.upper = f"/proc/{self.keeper.pid}/root{scratch}/upper"

    def close(self):
        """With its last process, the namespace and its mounts go."""
        self.keeper.kill()
        self.keeper.wait()
        self.keeper.stdout.close()

    def command(self, *words, **options):
        return vmm.command(*self.enter, *words, **options)

    def run(self, *words, **options):
        """A command that must succeed; its output."""
        return vmm.checked(*self.enter, *words, **options)

    def changes(self):
        """The files that differ from those below, except those that the packages do not answer for."""
        found = set()
        for folder, folders, files in os.walk(self.upper):
            inside = folder[len(self.upper):]
            new = [name for name in folders if os.path.islink(os.path.join(folder, name)) or not os.path.isdir(self.lower + inside + "/" + name)]
            found |= {f"{inside}/{name}" for name in [*files, *new]}
        return {path for path in found if not KEPT.match(path)}


class Packages(vmm.SystemTest):
    group = "host"
    # The first test makes the packages.
    shared = True
    limit = 1200
    files = {}
    version = None

    def made(self):
        """The packages by their beginnings: made once, of the program as it is."""
        if not Packages.files:
            folder = os.path.join(self.folder, "packages")
            result = vmm.command(PACKAGE, "--built", "--output", folder, timeout=900)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stderr, r"(?m)^package: packing symvmm \S+ \(usually .*\) \.\.\.$")
            self.assertRegex(result.stderr, r"(?m)^package: packing symvmm \S+: done after ")
            self.assertEqual(result.stdout.split(), sorted(os.path.join(folder, name) for name in os.listdir(folder)))
            Packages.files = {re.split("_|-linux|$", name)[0]: os.path.join(folder, name) for name in os.listdir(folder)}
            Packages.version = vmm.checked("dpkg-deb", "--field", Packages.files["symvmm"], "Version").strip()
        return Packages.files

    def extracted(self, package):
        folder = self.path(f"tree-{package}")
        if not os.path.exists(folder):
            vmm.checked("dpkg-deb", "--extract", self.made()[package], folder)
        return folder

    def text(self, package, name):
        with open(os.path.join(self.extracted(package), name), encoding="utf-8") as file:
            return file.read()

    @vmm.slow
    def test_checksums_and_version(self):
        files = self.made()
        version = self.symvmm("--version").stdout.strip()
        self.assertRegex(self.version, rf"^{re.escape(version)}(~git\d{{14}}\.[0-9a-f]+)?$")
        self.assertEqual(set(files), {"symvmm", "symbiotic-dkms", f"symvmm-{self.version}", "SHA256SUMS"})
        with open(files["SHA256SUMS"], encoding="utf-8") as file:
            sums = dict(reversed(line.split()) for line in file)
        for name, path in files.items():
            if name != "SHA256SUMS":
                with open(path, "rb") as file:
                    self.assertEqual(sums.pop(os.path.basename(path)), hashlib.sha256(file.read()).hexdigest())
        self.assertEqual(sums, {})
        self.assertEqual(vmm.checked("dpkg-deb", "--field", files["symbiotic-dkms"], "Version").strip(), self.version)
        self.assertIn(f'PACKAGE_VERSION="{self.version}"\n', self.text("symbiotic-dkms", f"usr/src/symbiotic-{self.version}/dkms.conf"))

    @vmm.slow
    def test_a_folder_with_other_files_is_left_as_it_is(self):
        folder = os.path.join(self.folder, "archives")
        os.mkdir(folder)
        other = os.path.join(folder, "holiday.tar.gz")
        with open(other, "w", encoding="utf-8"):
            pass
        result = vmm.command(PACKAGE, "--built", "--output", folder, timeout=900)
        self.assertEqual((result.returncode, os.listdir(folder)), (1, ["holiday.tar.gz"]), result.stderr)
        self.assertIn(f"package: {other} is not one of symvmm's packages: give a folder that has nothing else\n", result.stderr)

    @vmm.slow
    def test_lintian_finds_nothing(self):
        if shutil.which("lintian") is None:
            self.skipTest("no lintian")
        files = self.made()
        # Every override states its reason in the line before it.
        for package in ("symvmm", "symbiotic-dkms"):
            path = os.path.join(self.extracted(package), "usr/share/lintian/overrides", package)
            lines = self.text(package, path).splitlines() if os.path.exists(path) else []
            for before, line in zip(["", *lines], lines):
                self.assertTrue(line.startswith("#") or before.startswith("# "), line)
        result = vmm.command("lintian", "--fail-on=error,warning", files["symvmm"], files["symbiotic-dkms"], timeout=600)
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    @vmm.slow
    def test_the_archive_has_the_program_that_was_built(self):
        with tarfile.open(self.made()[f"symvmm-{self.version}"]) as tar, open(vmm.SYMVMM, "rb") as built:
            top = f"symvmm-{self.version}/"
            self.assertEqual(tar.extractfile(top + "symvmm").read(), built.read())
            names = tar.getnames()
        for name in ("man/symvmm-run.1", "completions/symvmm.fish", "LICENSES/symvmm-static-program.txt", "docs/systemd/symvmm@.service",
                     "guest/symbiotic/main.c", "guest/include/symbiotic_abi.h"):
            self.assertIn(top + name, names)

    @vmm.slow
    def test_each_command_has_a_page_with_its_options(self):
        folder = os.path.join(self.extracted("symvmm"), "usr/share/man/man1")
        # "  run                     Boot a guest ..."
        listed = self.symvmm("--help").stdout.partition("SUBCOMMANDS:")[2]
        commands = re.findall(r"(?m)^  ([a-z]+) ", listed)
        self.assertIn("run", commands)
        self.assertEqual(set(os.listdir(folder)), {"symvmm.1.gz", *(f"symvmm-{command}.1.gz" for command in commands)})
        for name in ("symvmm", "symvmm-run", "symvmm-stats"):
            result = vmm.command("man", "--warnings", "-l", os.path.join(folder, name + ".1.gz"), env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            options = re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", self.symvmm(*name.split("-")[1:], "--help").stdout)
            self.assertGreater(len(options), 1)
            for option in options:
                self.assertRegex(result.stdout, rf"(?m)^ +(-\w, )?{option}\b")

    @vmm.slow
    def test_completions(self):
        folder = os.path.join(self.extracted("symvmm"), "usr/share")
        script = "source \"$1\" && complete -p symvmm && COMP_WORDS=(symvmm st) COMP_CWORD=1 && COMP_LINE='symvmm st' COMP_POINT=9 && " \
            "$(complete -p symvmm | sed 's/.*-F \\([^ ]*\\).*/\\1/') symvmm st symvmm && printf '%s\\n' \"${COMPREPLY[@]}\""
        answer = vmm.checked("bash", "-c", script, "bash", os.path.join(folder, "bash-completion/completions/symvmm"))
        self.assertLessEqual({"stats", "stop"}, set(answer.split()))
        for shell, name in (("zsh", "zsh/vendor-completions/_symvmm"), ("fish", "fish/vendor_completions.d/symvmm.fish")):
            result = self.symvmm("--generate-completion-script", shell)
            self.assertEqual(self.text("symvmm", os.path.join(folder, name)), result.stdout.removesuffix("\n") + "\n")

    @vmm.slow
    def test_units_start_the_installed_program(self):
        units = [name for name in os.listdir(os.path.join(vmm.ROOT, "docs", "systemd")) if name.endswith(".service")]
        tree = self.extracted("symvmm")
        self.assertEqual(sorted(os.listdir(os.path.join(tree, "lib/systemd/system"))), sorted(units))
        for unit in units:
            words = re.search(r"(?m)^ExecStart=(\S+)", self.text("symvmm", f"lib/systemd/system/{unit}")).group(1)
            self.assertTrue(os.access(tree + words, os.X_OK), words)

    @vmm.slow
    def test_the_modules_source_is_complete(self):
        folder = os.path.join(self.extracted("symbiotic-dkms"), f"usr/src/symbiotic-{self.version}")
        names = set(os.listdir(folder))
        objects = re.findall(r"\b([a-z]\w*)\.o\b", self.text("symbiotic-dkms", os.path.join(folder, "Kbuild")))
        self.assertGreater(len(objects), 10)
        missing = [name for name in objects if not {f"{name}.c", f"{name}.S"} & names]
        self.assertEqual(missing, ["symbiotic"])
        included = {name for file in names if file.endswith((".c", ".h", ".S"))
                    for name in re.findall(r'#include "([^"]+)"', self.text("symbiotic-dkms", os.path.join(folder, file)))}
        self.assertEqual(included - names - set(os.listdir(os.path.join(folder, "include"))), set())

    def need_root(self):
        if os.geteuid() != 0:
            self.skipTest("only root can install packages")

    def root(self, lower):
        self.made()
        scratch = self.path("scratch")
        os.makedirs(scratch, exist_ok=True)
        return Root(self, lower, scratch)

    def inside(self, package):
        """A package's path in the root."""
        return self.made()[package].replace(self.folder, "/mnt")

    def use(self, root):
        """Uses the installed symvmm."""
        version = self.symvmm("--version").stdout
        self.assertEqual(root.run("/usr/bin/symvmm", "--version"), version)
        self.assertIn("SUBCOMMANDS", root.run("symvmm", "--help"))
        self.assertIn("Boot a guest", root.run("man", "-l", "/usr/share/man/man1/symvmm-run.1.gz"))
        self.assertIn("Boot a guest", root.run("man", "symvmm-run"))
        guest = self.assemble("count", ["COUNT=1234", "READS=77"]).replace(self.folder, "/mnt")
        result = root.command("symvmm", "run", "--kernel", guest, "--name", "packed")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, r"pio_write +none +0x505 +1,234 ")

    def check_units(self, root):
        if root.command("systemd-analyze", "--version").returncode != 0:
            return
        for unit in os.listdir(os.path.join(self.extracted("symvmm"), "lib/systemd/system")):
            name = unit.replace("@.", "@web.")
            result = root.command("systemd-analyze", "verify", "--man=yes", name)
            words = [line for line in (result.stdout + result.stderr).splitlines() if unit.split(".")[0] in line]
            self.assertEqual((result.returncode, words), (0, []))

    def check_alternative(self, root):
        """The name firecracker is not taken by the installation; chosen, it is symvmm; `remove` frees it."""
        self.assertNotEqual(root.command("test", "-e", "/usr/bin/firecracker").returncode, 0)
        root.run("update-alternatives", "--quiet", "--install", *FIRECRACKER)
        self.assertTrue(root.run("/usr/bin/firecracker", "--version").startswith("Firecracker v"))
        self.assertIn("--chroot-base-dir", root.run("/usr/bin/jailer", "--help"))

    @vmm.slow
    def test_installed_used_and_purged(self):
        self.need_root()
        root = self.root("")
        root.run("dpkg", "--install", self.inside("symvmm"))
        self.use(root)
        self.check_units(root)
        self.check_alternative(root)
        # What a user makes in /etc does not stay either, if it leads to what was removed.
        root.run("mkdir", "-p", "/etc/systemd/system/multi-user.target.wants")
        root.run("ln", "-s", "/lib/systemd/system/symvmm@.service", "/etc/systemd/system/multi-user.target.wants/symvmm@web.service")
        self.assertIn("/usr/bin/symvmm", root.changes())
        # A second installation is an upgrade, and keeps the alternative.
        root.run("dpkg", "--install", self.inside("symvmm"))
        self.assertTrue(root.run("/usr/bin/firecracker", "--version").startswith("Firecracker v"))
        root.run("dpkg", "--purge", "symvmm")
        self.assertEqual(root.changes(), set())

    @vmm.slow
    def test_both_in_a_fresh_debian(self):
        if os.environ.get("SYMVMM_STRESS", "0") == "0":
            self.skipTest("SYMVMM_STRESS is not set")
        self.need_root()
        fresh = self.path("fresh")
        script = "source scripts/lib/common.sh && need_packages mmdebstrap && debian_sources $(debian_release) $(debian_release)-security"
        release = vmm.checked("bash", "-c", "source scripts/lib/common.sh && debian_release", "package", cwd=vmm.ROOT).strip()
        sources = vmm.checked("bash", "-c", script, "package", cwd=vmm.ROOT, timeout=600).splitlines()
        vmm.checked(
            "mmdebstrap", "--mode=root", "--variant=minbase", "--include=man-db,systemd,dkms,linux-headers-cloud-amd64", "--skip=check/empty",
            '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Check-Valid-Until "false"', release, fresh, *sources, timeout=900)
        root = self.root(fresh)
        print(root.run("dpkg", "--install", self.inside("symvmm"), self.inside("symbiotic-dkms"), timeout=900))
        self.use(root)
        self.check_units(root)
        self.check_alternative(root)
        kernels = [name for name in os.listdir(os.path.join(fresh, "lib/modules")) if os.path.exists(os.path.join(fresh, "lib/modules", name, "build"))]
        self.assertEqual(len(kernels), 1)
        module = f"/lib/modules/{kernels[0]}/updates/dkms/symbiotic.ko"
        self.assertIn(f"vermagic:       {kernels[0]} ", root.run("/sbin/modinfo", module))
        print(root.run("dkms", "status"), root.run("ls", "-l", module))
        self.assertRegex(root.run("dkms", "status"), rf"symbiotic/{re.escape(self.version)}, {re.escape(kernels[0])}, x86_64: installed")
        root.run("dpkg", "--purge", "symvmm", "symbiotic-dkms", timeout=300)
        self.assertEqual(root.changes(), set())
