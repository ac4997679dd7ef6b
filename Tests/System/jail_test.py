# SPDX-License-Identifier: Apache-2.0
"""`symvmm jail`: what the process in the jail is and sees, its limits, its end, wrong arguments. With tiny guests, on any /dev/kvm.

A test that needs a namespace or a control group that the host refuses is skipped by name, and only after unshare(1), mkdir(1) or a write without symvmm
was refused, too.
"""

import contextlib
import json
import os
import re
import shutil
import signal

import vmm

USER, GROUP = 64321, 64322
NOBODY = 65534
# What a jail has. /proc is missing where the host refuses to mount it.
PARTS = {"dev", "run", "symvmm"}
DEVICES = {"kvm", "net", "null", "urandom"}


def status(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {name: value.split() for name, _, value in (line.partition(":") for line in file)}


def has_ended(pid):
    """Whether a process has ended, even if nobody has waited for it."""
    try:
        return status(pid)["State"][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def open_files(pid):
    """What the descriptors of a process name. One may be closed meanwhile."""
    files = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            files[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return files


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def group_mount():
    """Where cgroup v2 is mounted; None if it is not."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return next((line.split()[1] for line in file if line.split()[2] == "cgroup2"), None)


def controllers():
    mount = group_mount()
    if mount is None:
        return []
    with open(os.path.join(mount, "cgroup.controllers"), encoding="utf-8") as file:
        return file.read().split()


class JailTest(vmm.SystemTest):
    group = "host"
    user = USER

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        # Without our code: the same namespaces, and the system calls of a mount.
        self.require("a mount, a PID and an IPC namespace", "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "mount", "-t", "tmpfs", "none", "/mnt")
        os.chmod(self.folder, 0o755)
        self.base = self.path("jails")
        os.mkdir(self.base)

    def require(self, what, *words):
        """Skips the test if the host refuses a command that does not use symvmm."""
        result = vmm.command(*words)
        if result.returncode != 0:
            self.skipTest(f"this host refuses {what}: {(result.stderr or result.stdout).strip().splitlines()[-1:]}")

    def guest(self, name="wait"):
        image = self.assemble(name)
        os.chmod(image, 0o644)
        return image

    def words(self, *options, name="web", become=True):
        ids = ["--uid", str(USER), "--gid", str(GROUP)] if become else []
        return ["--id", name, *ids, "--chroot-base-dir", self.base, *options]

    def jail(self, *options, command=None, image=None, program=None, **rest):
        """Starts a jail with a tiny guest that never ends by itself."""
        words = self.words("--bind", f"{image or self.guest()}:/guest", *options, **rest)
        command = command or ["run", "--kernel", "/guest", "--quiet"]
        return vmm.Machine(self, [*words, "--", *command], program=program, command="jail")

    def root(self, name="web"):
        return os.path.join(self.base, "symvmm", name, "root")

    def socket(self, name="web"):
        return os.path.join(self.root(name), "run", "symvmm", f"{name}.sock")

    def pid_file(self, name="web"):
        return os.path.join(self.root(name), "symvmm.pid")

    def answers(self, name="web"):
        try:
            return vmm.request(self.socket(name), "GET", "/")[0] == 200
        except (OSError, IndexError):
            return False

    def wait_until_jailed(self, machine, name="web"):
        """Waits until the VM in the jail answers; returns the number of its process."""
        self.wait_until("the VM in the jail", lambda: machine.process.poll() is not None or self.answers(name))
        self.assertIsNone(machine.process.poll(), f"the jail ended: {machine.errors}")
        with open(self.pid_file(name), encoding="ascii") as file:
            return int(file.read())

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def seen(self, pid, folder="/"):
        return set(os.listdir(f"/proc/{pid}/root{folder}"))

    def assert_no_jail(self):
        self.wait_until("the jail's folder is empty", lambda: os.listdir(self.base) == [])

    def refused(self, *words, status=2, **options):
        """The one line with which the command refuses."""
        result = self.symvmm("jail", *words, **options)
        self.assertEqual(result.returncode, status, result.stderr)
        errors = self.errors(result)
        self.assertEqual((result.stdout, errors.count("\n")), ("", 1), errors)
        self.assertEqual(os.listdir(self.base), [])
        return errors

    def errors(self, result):
        """What a command printed as errors. A host that refuses user namespaces, such as a chroot, adds a line, which is left out here."""
        if vmm.command("unshare", "--user", "true").returncode == 0:
            return result.stderr
        return re.sub(r"symvmm: the host refuses a user namespace \(.*\): the jail has none\n", "", result.stderr)


class Jail(JailTest):
    def test_the_process_is_another_user_without_rights_in_namespaces_of_its_own(self):
        # Descriptor 7 is a pipe.
        machine = self.jail("--new-net-ns", program=["sh", "-c", 'exec 7>&1; exec "$@"', "sh", vmm.SYMVMM])
        pid = self.wait_until_jailed(machine)
        facts = status(pid)
        self.assertEqual(facts["Uid"], [str(USER)] * 4)
        self.assertEqual(facts["Gid"], [str(GROUP)] * 4)
        self.assertEqual(facts.get("Groups"), [])
        self.assertEqual({facts[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0" * 16})
        self.assertEqual(facts["NoNewPrivs"], ["1"])
        # It is process 1 of its namespace.
        self.assertEqual(facts["NSpid"], [str(pid), "1"])
        for kind in ("mnt", "pid", "ipc", "uts", "net"):
            self.assertNotEqual(namespace(pid, kind), namespace("self", kind), kind)
        with open(f"/proc/{pid}/environ", "rb") as file:
            self.assertEqual(file.read(), b"XDG_RUNTIME_DIR=/run\0")
        files = open_files(pid)
        others = {file for number, file in files.items() if number > 2}
        self.assertNotIn(files[1], others)
        self.assertEqual({name for name in others if name.startswith(self.base)}, set())
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130, machine.errors)
        self.assert_no_jail()

    def test_the_process_has_a_user_namespace_that_knows_one_user(self):
        self.require("a user namespace", "unshare", "--user", "true")
        machine = self.jail()
        pid = self.wait_until_jailed(machine)
        self.assertNotEqual(namespace(pid, "user"), namespace("self", "user"))
        with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
            self.assertEqual(file.read().split(), [str(USER), str(USER), "1"])
        # In it, nobody can make another user namespace: the setting is that of the reader's own.
        if os.access("/proc/sys/user/max_user_namespaces", os.W_OK):
            self.assertNotEqual(vmm.checked("cat", "/proc/sys/user/max_user_namespaces").strip(), "0")
            enter = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials"]
            self.assertEqual(vmm.checked(*enter, "cat", "/proc/sys/user/max_user_namespaces").strip(), "0")
        machine.signal(signal.SIGTERM)
        machine.end()

    def test_nothing_but_the_jails_files_is_visible(self):
        extra = self.write("extra", "bound\n")
        # What Firecracker's users do: a hard link in the jail's folder.
        os.makedirs(self.root())
        shutil.copy(extra, os.path.join(self.root(), "linked"))
        machine = self.jail("--bind", f"{extra}:/data/inner/extra", "--bind", f"{self.runtime}:/shared:rw")
        pid = self.wait_until_jailed(machine)
        self.assertEqual(self.seen(pid) - {"proc"}, PARTS | {"guest", "linked", "data", "shared"})
        self.assertEqual(self.seen(pid, "/dev"), DEVICES)
        self.assertEqual(self.seen(pid, "/dev/net"), {"tun"})
        self.assertEqual(self.seen(pid, "/data/inner"), {"extra"})
        self.assertEqual(self.seen(pid, "/run"), {"symvmm"})
        self.assertLessEqual({name for name in self.seen(pid, "/proc") if name.isdecimal()}, {"1"})
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
            mounts = {line.split()[4]: line.split()[5].split(",") for line in file}
        self.assertEqual(set(mounts) - {"/proc"}, {"/", "/dev", "/run", "/symvmm", "/guest", "/linked", "/data/inner/extra", "/shared"} | {
            place for place in mounts if place.startswith("/dev/")})
        for place, options in mounts.items():
            self.assertIn("nosuid", options, place)
            self.assertEqual("ro" in options, place not in ("/run", "/linked", "/shared") and not place.startswith("/dev/"), place)
            self.assertEqual("noexec" in options, place != "/symvmm", place)
            self.assertTrue("nodev" in options or place.startswith("/dev"), place)
        machine.signal(signal.SIGTERM)
        machine.end()
        # The user's own file stays; what the jail made does not.
        self.assertEqual(os.listdir(self.root()), ["linked"])
        self.assertEqual(os.listdir(self.runtime), [])

    def test_the_api_answers_at_the_socket_in_the_jails_folder(self):
        machine = self.jail(command=["serve"])
        self.wait_until_jailed(machine)
        self.assertEqual(vmm.request(self.socket(), "PUT", "/boot-source", json.dumps({"kernel_image_path": "/guest"}))[0], 204)
        self.assertEqual(vmm.request(self.socket(), "PUT", "/actions", json.dumps({"action_type": "InstanceStart"}))[0], 204)
        machine.wait_for(r"\.")
        facts = json.loads(self.symvmm("stats", self.socket(), "--json").stdout)
        self.assertEqual(facts["name"], "web")
        self.assertEqual(self.symvmm("kill", self.socket()).returncode, 0)
        self.assertEqual(machine.end(), 130, machine.errors)
        self.assert_no_jail()

    def test_the_status_of_the_vm_is_that_of_the_command(self):
        crash = self.jail("--new-pid-ns", image=self.guest("triplefault"))
        self.assertEqual(crash.end(), 4)
        self.assertIn("triple fault", crash.errors)
        self.assert_no_jail()
        wrong = self.jail(command=["run", "--kernel", "/missing"])
        self.assertIn(wrong.end(), (2, 3))
        self.assertIn("/missing", wrong.errors)
        self.assert_no_jail()

    def test_nothing_is_left_after_any_kind_of_kill(self):
        for who in ("program", "command", "janitor"):
            machine = self.jail()
            pid = self.wait_until_jailed(machine)
            janitors = [child for child in self.children(machine.pid) if child != pid]
            self.assertEqual(len(janitors), 1)
            # What a program may leave in its folder: depth, names, a link to a file of the host.
            run = os.path.join(self.root(), "run")
            deep = os.path.join(run, *["deep"] * 200)
            os.makedirs(deep)
            for folder in (run, deep):
                os.symlink(self.guest(), os.path.join(folder, "link"))
                with open(os.path.join(folder, "file\n"), "w", encoding="utf-8"):
                    pass
            os.kill({"program": pid, "command": machine.pid, "janitor": janitors[0]}[who], signal.SIGKILL)
            if who == "janitor":
                machine.signal(signal.SIGTERM)
            self.assertEqual(machine.end(), {"program": 3, "command": -9, "janitor": 130}[who], who)
            if who == "program":
                self.assertEqual(machine.errors.strip().splitlines()[-1], "symvmm: signal 9 ended the VM's process")
            self.wait_until("the VM has ended", lambda pid=pid: has_ended(pid))
            self.assert_no_jail()
            self.assertTrue(os.path.exists(self.guest()))

    def test_the_leftovers_of_a_jail_that_was_killed_as_a_whole_are_replaced(self):
        first = self.jail()
        pid = self.wait_until_jailed(first)
        # First all of them stop: one that saw another's end would clean up.
        processes = [first.pid, *self.children(first.pid)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        for process in processes:
            self.wait_until("it is stopped", lambda process=process: status(process)["State"][0] == "T")
        for process in processes:
            os.kill(process, signal.SIGKILL)
        first.end()
        self.wait_until("the VM has ended", lambda: has_ended(pid))
        self.assertTrue(os.path.exists(self.pid_file()))
        # Otherwise the next wait would find it.
        os.remove(self.socket())
        second = self.jail()
        self.assertNotEqual(self.wait_until_jailed(second), pid)
        second.signal(signal.SIGTERM)
        second.end()
        self.assert_no_jail()

    def test_two_jails_share_a_base_and_a_name_is_used_once(self):
        first, second = self.jail(name="a"), self.jail(name="b")
        self.wait_until_jailed(first, "a")
        self.wait_until_jailed(second, "b")
        result = self.symvmm("jail", *self.words(name="a"), "--", "serve")
        self.assertEqual((result.returncode, result.stderr), (2, "symvmm: --id: a jail named 'a' is running: choose another --id\n"))
        first.signal(signal.SIGTERM)
        first.end()
        self.assertEqual(os.listdir(os.path.join(self.base, "symvmm")), ["b"])
        second.signal(signal.SIGINT)
        second.end()
        self.assert_no_jail()

    def test_a_daemon_runs_on_without_standard_descriptors(self):
        result = self.symvmm("jail", *self.words("--daemonize"), "--", "serve")
        self.assertEqual((result.returncode, result.stdout, self.errors(result)), (0, "", ""))
        with open(self.pid_file(), encoding="ascii") as file:
            pid = int(file.read())
        self.addCleanup(self.end_process, pid)
        self.assertEqual({os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}, {"/dev/null"})
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        self.wait_until("the VM in the jail", self.answers)
        self.assertEqual(self.symvmm("kill", self.socket()).returncode, 0)
        self.assert_no_jail()
        # An error appears before the command ends.
        failed = self.symvmm("jail", *self.words("--daemonize", "--exec-file", self.guest()), "--", "serve")
        self.assertEqual((failed.returncode, self.errors(failed).count("\n")), (3, 1), failed.stderr)
        self.assert_no_jail()

    def end_process(self, pid):
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)

    def test_the_limits_of_the_process_are_set(self):
        machine = self.jail("--resource-limit", "no-file=123", "--resource-limit", "fsize=1000000")
        pid = self.wait_until_jailed(machine)
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            limits = file.read()
        self.assertRegex(limits, r"Max open files +123 +123 ")
        self.assertRegex(limits, r"Max file size +1000000 +1000000 ")
        machine.signal(signal.SIGTERM)
        machine.end()
        machine = self.jail()
        pid = self.wait_until_jailed(machine)
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            self.assertRegex(file.read(), r"Max open files +2048 +2048 ")
        machine.signal(signal.SIGTERM)
        machine.end()

    def test_a_network_namespace_is_joined_by_name_or_path(self):
        name = f"symvmm-{os.getpid()}"
        self.require("a network namespace", "ip", "netns", "add", name)
        self.addCleanup(vmm.command, "ip", "netns", "del", name)
        for words in (name, f"/run/netns/{name}"):
            machine = self.jail("--netns", words)
            pid = self.wait_until_jailed(machine)
            self.assertEqual(os.stat(f"/proc/{pid}/ns/net").st_ino, os.stat(f"/run/netns/{name}").st_ino)
            machine.signal(signal.SIGTERM)
            machine.end()

    def test_a_guest_in_a_jail_uses_the_tap_of_its_user(self):
        name = f"symvmm-{os.getpid()}"
        self.require("a network namespace", "ip", "netns", "add", name)
        self.addCleanup(vmm.command, "ip", "netns", "del", name)
        self.require("a tap device", "ip", "-n", name, "tuntap", "add", "dev", "tap0", "mode", "tap", "user", str(USER), "vnet_hdr")
        machine = self.jail("--netns", name, command=["run", "--kernel", "/guest", "--net", "tap=tap0", "--quiet"])
        machine.wait_for(r"\.")
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130)
        vmm.checked("ip", "-n", name, "tuntap", "add", "dev", "tap1", "mode", "tap", "user", str(USER + 1), "vnet_hdr")
        machine = self.jail("--netns", name, command=["run", "--kernel", "/guest", "--net", "tap=tap1", "--quiet"])
        self.assertEqual(machine.end(), 3)
        self.assertIn("tap1", machine.errors)


class ControlGroups(JailTest):
    """On any cgroup v2: with the file cgroup.max.descendants if it has no controller."""

    def setUp(self):
        super().setUp()
        if group_mount() is None:
            self.skipTest("this host has no cgroup v2")
        self.require("a control group", "sh", "-ec", f"mkdir {group_mount()}/symvmm-probe.$$; rmdir {group_mount()}/symvmm-probe.$$")

    def path_of_group(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return next(line.strip()[3:] for line in file if line.startswith("0::"))

    def settable(self):
        """A limit that this host can set: option, file, value as the file shows it."""
        for controller, file, value in (("memory", "memory.max", "536870912"), ("pids", "pids.max", "77")):
            if controller in controllers():
                probe = f"{group_mount()}/cgroup.subtree_control"
                if vmm.command("sh", "-c", f"echo +{controller} >{probe}").returncode == 0:
                    return file, value
        return "cgroup.max.descendants", "3"

    def test_the_limits_of_the_control_group_are_in_force_and_it_is_removed(self):
        file, value = self.settable()
        # Other tests make control groups at the same time.
        name, parent = f"web-{os.getpid()}", f"symvmm-test-{os.getpid()}/inner"
        for options, group in (([], f"symvmm/{name}"), (["--parent-cgroup", parent], f"{parent}/{name}")):
            machine = self.jail("--cgroup", f"{file}={value}", "--cgroup-version", "2", *options, name=name)
            pid = self.wait_until_jailed(machine, name)
            self.assertEqual(self.path_of_group(pid), "/" + group)
            folder = os.path.join(group_mount(), group)
            with open(os.path.join(folder, file), encoding="ascii") as text:
                self.assertEqual(text.read().strip(), value)
            with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as text:
                self.assertIn(str(pid), text.read().split())
            os.kill(machine.pid, signal.SIGKILL)
            machine.end()
            self.wait_until("the control group is gone", lambda folder=folder: not os.path.exists(folder))
            self.wait_until("its parent is gone", lambda group=group: not os.path.exists(os.path.join(group_mount(), group.split("/")[0])))
            self.assert_no_jail()

    def test_a_limit_that_the_host_cannot_set_is_refused(self):
        parent = f"symvmm-test-{os.getpid()}"
        words = self.words("--cgroup", "nosuch.max=1", "--parent-cgroup", parent)
        self.assertIn("has no controller 'nosuch' (it has: ", self.refused(*words, "--", "serve", status=3))
        words = self.words("--cgroup", "cgroup.max.descendants=many", "--parent-cgroup", parent)
        self.assertIn("--cgroup cgroup.max.descendants=many: Invalid argument", self.refused(*words, "--", "serve", status=3))
        self.assertFalse(os.path.exists(os.path.join(group_mount(), parent)))
        os.mkdir(os.path.join(group_mount(), parent))
        self.addCleanup(os.rmdir, os.path.join(group_mount(), parent))
        machine = self.jail("--parent-cgroup", parent)
        self.wait_until_jailed(machine)
        # A control group with processes is another jail's, whose folder is elsewhere.
        result = self.symvmm("jail", *self.words("--chroot-base-dir", self.path("elsewhere"), "--parent-cgroup", parent), "--", "serve")
        self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), result.stderr)
        self.assertIn(f"{parent}/web is in use: choose another --id or --parent-cgroup", result.stderr)
        self.assertFalse(os.path.exists(self.path("elsewhere")))
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130, machine.errors)


class ControlGroupsOfLinux(JailTest):
    """With all controllers of Linux, which the lab's cgroup v2 has."""

    group = "guest"

    def test_limits_of_memory_and_processes_are_in_force(self):
        for controller in ("memory", "pids"):
            if controller not in controllers():
                self.skipTest(f"this host's cgroup v2 has no controller '{controller}', only: {' '.join(controllers())}")
        machine = self.jail("--cgroup", "memory.max=512M", "--cgroup", "pids.max=77")
        pid = self.wait_until_jailed(machine)
        # KVM's own threads for the VM are in the group, too.
        for file, value in (("memory.max", str(512 << 20)), ("pids.max", "77"), ("cgroup.procs", str(pid))):
            with open(os.path.join(group_mount(), "symvmm", "web", file), encoding="ascii") as text:
                self.assertIn(value, text.read().split())
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130, machine.errors)
        self.assert_no_jail()
        machine = self.jail("--cgroup", "memory.max=256K")
        self.assertEqual(machine.end(), 3)
        self.assertIn("signal 9 ended", machine.errors)
        self.assert_no_jail()
        self.assertFalse(os.path.exists(os.path.join(group_mount(), "symvmm")))


class Refusals(JailTest):
    def test_wrong_arguments_are_refused_with_one_line(self):
        guest = self.guest()
        ids = ["--uid", str(USER), "--gid", str(GROUP)]
        base = ["--chroot-base-dir", self.base]
        serve = ["--", "serve"]
        link = self.path("link")
        os.symlink(self.base, link)
        for words, line in (
            ([*ids, *base, *serve], r"Missing expected argument '--id <id>'"),
            (["--id", "a b", *ids, *base, *serve], r"--id: 'a b' is not a jail's name"),
            (["--id", "../x", *ids, *base, *serve], r"--id: '\.\./x' is not"),
            (["--id", "-x", *ids, *base, *serve], r"--id"),
            (["--id", "a" * 65, *ids, *base, *serve], r"--id: 'a{65}' is not"),
            (["--id", "web", "--gid", "1", *base, *serve], r"--uid is missing"),
            (["--id", "web", "--uid", "1", *base, *serve], r"--gid is missing"),
            (["--id", "web", "--uid", "0", "--gid", "1", *base, *serve], r"--uid: 0 is not possible"),
            (["--id", "web", "--uid", "1", "--gid", "0", *base, *serve], r"--gid: 0 is not possible"),
            (["--id", "web", "--uid", "me", "--gid", "1", *base, *serve], r"'me' is invalid for '--uid"),
            (["--id", "web", "--uid", str(2**32 - 1), "--gid", "1", *base, *serve], r"--uid: 4294967295 is not possible"),
            (self.words(), r"after '--', give the command of the VM: run or serve"),
            (self.words("--", "ps"), r"give the command of the VM: run or serve"),
            (self.words("--exec-file", "/missing", *serve), r"--exec-file: /missing: No such file"),
            (self.words("--exec-file", "", *serve), r"--exec-file: the path is empty"),
            (self.words("--cgroup-version", "1", *serve), r"--cgroup-version: '1' is not possible"),
            (self.words("--cgroup", "memory.max", *serve), r"--cgroup: 'memory.max' is not a limit"),
            (self.words("--cgroup", "../x.max=1", *serve), r"--cgroup: '\.\./x\.max=1' is not a limit"),
            (self.words("--cgroup", "cgroup.procs=1", *serve), r"--cgroup: 'cgroup.procs=1' is not a limit"),
            (self.words("--cgroup", "memory.max=", *serve), r"--cgroup: 'memory.max=' is not a limit"),
            (self.words("--parent-cgroup", "../x", *serve), r"--parent-cgroup: '\.\./x' is not a control group"),
            (self.words("--parent-cgroup", "/x", *serve), r"--parent-cgroup: '/x' is not a control group"),
            (self.words("--resource-limit", "cpu=1", *serve), r"--resource-limit: 'cpu=1' is not a limit"),
            (self.words("--resource-limit", "fsize=x", *serve), r"--resource-limit: 'fsize=x' is not a limit"),
            (self.words("--netns", "no-such-name", *serve), r"--netns: open /run/netns/no-such-name: No such file"),
            (self.words("--netns", "..", *serve), r"--netns: '\.\.' is not a name"),
            (self.words("--netns", "x", "--new-net-ns", *serve), r"--netns cannot be combined"),
            (self.words("--bind", "/missing", *serve), r"--bind: /missing: No such file"),
            (self.words("--bind", "", *serve), r"--bind: '' is not a bind"),
            (self.words("--bind", f"{guest}:x:y:rw", *serve), r"--bind: '.*' is not a bind"),
            (self.words("--bind", f"{guest}:/a/../b", *serve), r"--bind: '/a/\.\./b' is not a place in the jail"),
            (self.words("--bind", f"{guest}:/", *serve), r"--bind: '/' is not a place"),
            (self.words("--bind", f"{guest}:/dev/kvm", *serve), r"--bind: /dev/kvm and /dev overlap"),
            (self.words("--bind", f"{guest}:/run", *serve), r"--bind: /run and /run overlap"),
            (self.words("--bind", f"{guest}:/symvmm", *serve), r"--bind: /symvmm and /symvmm overlap"),
            (self.words("--bind", f"{guest}:/a", "--bind", f"{guest}:/a/b", *serve), r"--bind: /a/b and /a overlap"),
            (self.words("--chroot-base-dir", "", *serve), r"--chroot-base-dir: the path is empty"),
            (self.words("--chroot-base-dir", f"{guest}/x", *serve), r"mkdir .*/x: Not a directory"),
        ):
            with self.subTest(" ".join(words)):
                self.assertRegex(self.refused(*words), rf"\Asymvmm: .*{line}")
                self.assertEqual(os.listdir(self.base), [])

    def test_what_the_host_refuses_is_one_line(self):
        netns = self.write("plain", "")
        self.assertRegex(self.refused(*self.words("--netns", netns, "--", "serve"), status=3), r"--netns .*/plain: Invalid argument")
        self.assertRegex(self.refused(*self.words("--exec-file", self.guest(), "--", "serve"), status=3), r"run .*wait\.elf in the jail: Permission denied")
        dynamic = shutil.copy("/bin/true", self.path("dynamic"))
        self.assertRegex(self.refused(*self.words("--exec-file", dynamic, "--", "serve"), status=3), r"needs shared libraries: give a static program")

    def test_a_folder_that_others_could_change_is_refused(self):
        program = os.path.join(self.base, "symvmm")
        os.mkdir(program)
        os.chmod(program, 0o777)
        for change, line in ((lambda: None, "others may write to it: run chmod go-w"), (self.give_away, "belongs to user 65534, not to you")):
            change()
            result = self.symvmm("jail", *self.words(), "--", "serve")
            self.assertEqual((result.returncode, result.stderr.count("\n")), (3, 1), result.stderr)
            self.assertIn(line, result.stderr)
        os.rmdir(program)
        os.symlink(self.folder, program)
        result = self.symvmm("jail", *self.words(), "--", "serve")
        self.assertEqual((result.returncode, result.stderr.count("\n")), (3, 1), result.stderr)
        os.remove(program)
        os.makedirs(self.root())
        os.symlink("/etc/passwd", os.path.join(self.root(), "passwd"))
        result = self.symvmm("jail", *self.words(), "--", "serve")
        self.assertEqual(result.returncode, 2)
        self.assertIn("is a symbolic link: use a hard link, or --bind", result.stderr)

    def give_away(self):
        os.chmod(os.path.join(self.base, "symvmm"), 0o755)
        os.chown(os.path.join(self.base, "symvmm"), NOBODY, NOBODY)


class OrdinaryUser(JailTest):
    """A jail that nobody starts, who may open /dev/kvm: root gives it a node of its own, so that the host's stays as it is."""

    def setUp(self):
        super().setUp()
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        self.require("a user namespace to users", *become, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt")
        self.program = shutil.copy(vmm.SYMVMM, self.path("symvmm"))
        os.chown(self.base, NOBODY, NOBODY)
        # In a mount namespace, /dev/kvm belongs to nobody.
        node = self.path("kvm")
        self.require("a device node", "sh", "-ec", f"mknod -m 666 {node} c 10 232; : <{node}")
        self.become = ["unshare", "--mount", "sh", "-ec", f'mount --bind {node} /dev/kvm; exec "$@"', "sh", *become]

    def start(self, *options, command=("run", "--kernel", "/guest", "--quiet")):
        words = [*self.words("--bind", f"{self.guest()}:/guest", *options, become=False), "--", *command]
        return vmm.Machine(self, words, program=[*self.become, self.program], command="jail")

    def test_a_user_without_rights_gets_a_jail(self):
        machine = self.start("--new-net-ns")
        pid = self.wait_until_jailed(machine)
        facts = status(pid)
        self.assertEqual(facts["Uid"], [str(NOBODY)] * 4)
        self.assertEqual({facts[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0" * 16})
        for kind in ("mnt", "pid", "ipc", "uts", "net", "user"):
            self.assertNotEqual(namespace(pid, kind), namespace("self", kind), kind)
        self.assertEqual(self.seen(pid) - {"proc"}, PARTS | {"guest"})
        machine.wait_for(r"\.")
        machine.signal(signal.SIGTERM)
        self.assertEqual(machine.end(), 130, machine.errors)
        self.assert_no_jail()

    def test_a_kill_leaves_nothing(self):
        machine = self.start()
        pid = self.wait_until_jailed(machine)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(machine.end(), 3, machine.errors)
        self.assert_no_jail()

    def test_what_only_root_can_do_is_refused(self):
        for options, line in (
            (["--uid", "1"], "--uid: only root can run a VM as another user"),
            (["--gid", "1"], "--gid: only root can run a VM as another group"),
            (["--netns", "web"], "--netns: only root can join a network namespace: use --new-net-ns"),
            (["--chroot-base-dir", "/srv/jailer-of-nobody"], "mkdir /srv/jailer-of-nobody: Permission denied: give --chroot-base-dir"),
        ):
            machine = self.start(*options)
            self.assertEqual((machine.end(), machine.errors.count("\n")), (2, 1), machine.errors)
            self.assertIn(line, machine.errors)
            self.assert_no_jail()
