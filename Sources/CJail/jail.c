// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cjail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* After sys/stat.h. Not sys/mount.h: some versions of it and of linux/mount.h exclude each other. */
#include <linux/mount.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

/* Constants of sys/mount.h, mount(2) and umount2(2). */
#define PRIVATE_RECURSIVE (1ul << 18 | 1ul << 14) /* MS_PRIVATE | MS_REC */
#define NO_SUID_DEVICE_EXEC (2ul | 4ul | 8ul)     /* MS_NOSUID | MS_NODEV | MS_NOEXEC */
#define NO_SUID_EXEC (2ul | 8ul)
#define DETACH 2                                  /* MNT_DETACH */

#define MOST_MOUNTS 64

/* The jailed process. Nothing below returns to the caller of cjail_start(). */

static int channel_of_child;

static void send_message(enum cjail_message_kind kind, enum cjail_step step, int error, size_t index)
{
	struct cjail_message message = {.kind = (int32_t)kind, .step = (int32_t)step, .error = error, .index = (uint32_t)index};

	while (send(channel_of_child, &message, sizeof(message), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

__attribute__((noreturn)) static void fail(enum cjail_step step, size_t index)
{
	send_message(CJAIL_FAILED, step, errno, index);
	_exit(1);
}

/* Waits for the parent. Without a parent, there is no jail. */
static void wait_for_answer(void)
{
	char answer;
	ssize_t count;

	do {
		count = recv(channel_of_child, &answer, 1, 0);
	} while (count < 0 && errno == EINTR);
	if (count != 1)
		_exit(1);
}

static int open_tree_of(const char *path, bool is_folder)
{
	/* Recursive: in a user namespace, the mounts in a folder cannot be left out. */
	unsigned int flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (is_folder ? AT_RECURSIVE : 0);

	return (int)syscall(SYS_open_tree, AT_FDCWD, path, flags);
}

static int restrict_mount(int fd, const char *path, uint64_t attributes)
{
	struct mount_attr set = {.attr_set = attributes};
	unsigned int flags = *path ? 0 : AT_EMPTY_PATH | AT_RECURSIVE;

	return (int)syscall(SYS_mount_setattr, fd, path, flags, &set, sizeof(set));
}

static int attach(int tree, const char *target)
{
	return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

static int make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);

	return fd < 0 ? -1 : close(fd);
}

static uint64_t attributes_of(const struct cjail_mount *mount)
{
	return MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (mount->is_writable ? 0 : MOUNT_ATTR_RDONLY) | (mount->is_program ? 0 : MOUNT_ATTR_NOEXEC);
}

/* A device of the jail's own, or the host's where making one is refused: in a user namespace, and in some containers. */
static void make_device(const struct cjail_plan *plan, size_t index, int tree)
{
	const struct cjail_device *device = &plan->devices[index];

	if (plan->is_privileged && mknod(device->target, S_IFCHR | device->mode, makedev(device->major, device->minor)) == 0) {
		if (chown(device->target, plan->uid, plan->gid) < 0 || chmod(device->target, device->mode) < 0)
			fail(CJAIL_STEP_DEVICE, index);
		return;
	}
	if (make_file(device->target) < 0 || restrict_mount(tree, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC) < 0 ||
	    attach(tree, device->target) < 0)
		fail(CJAIL_STEP_DEVICE, index);
}

static void build_root(const struct cjail_plan *plan)
{
	int trees[MOST_MOUNTS], device_trees[MOST_MOUNTS];
	size_t index;

	errno = E2BIG;
	if (plan->mount_count > MOST_MOUNTS || plan->device_count > MOST_MOUNTS)
		fail(CJAIL_STEP_SOURCE, 0);
	if (mount(NULL, "/", NULL, PRIVATE_RECURSIVE, NULL) < 0)
		fail(CJAIL_STEP_PRIVATE, 0);
	/* Before the root covers the folder in which some of them are. */
	for (index = 0; index < plan->mount_count; index++) {
		trees[index] = open_tree_of(plan->mounts[index].source, plan->mounts[index].is_folder);
		if (trees[index] < 0)
			fail(CJAIL_STEP_SOURCE, index);
	}
	for (index = 0; index < plan->device_count; index++) {
		device_trees[index] = open_tree_of(plan->devices[index].source, false);
		if (device_trees[index] < 0)
			fail(CJAIL_STEP_DEVICE, index);
	}
	if (mount("jail", plan->root, "tmpfs", NO_SUID_DEVICE_EXEC, "mode=0755,size=1m,nr_inodes=1k") < 0 || chdir(plan->root) < 0)
		fail(CJAIL_STEP_ROOT, 0);
	for (index = 0; index < plan->folder_count; index++)
		if (mkdir(plan->folders[index], 0755) < 0)
			fail(CJAIL_STEP_ROOT, 0);
	/* A mount of its own: devices work here, and nowhere else. */
	if (mkdir("dev", 0755) < 0 || mount("jail", "dev", "tmpfs", NO_SUID_EXEC, "mode=0755,size=64k,nr_inodes=64") < 0 ||
	    mkdir("dev/net", 0755) < 0)
		fail(CJAIL_STEP_ROOT, 0);
	for (index = 0; index < plan->device_count; index++)
		make_device(plan, index, device_trees[index]);
	for (index = 0; index < plan->mount_count; index++) {
		const struct cjail_mount *part = &plan->mounts[index];

		if ((part->is_folder ? mkdir(part->target, 0755) : make_file(part->target)) < 0)
			fail(CJAIL_STEP_TARGET, index);
		if (restrict_mount(trees[index], "", attributes_of(part)) < 0 || attach(trees[index], part->target) < 0)
			fail(CJAIL_STEP_MOUNT, index);
	}
	/* Shows this process alone. Some containers refuse it; then there is none, and the VM cannot report its own memory. */
	if (mkdir("proc", 0555) < 0)
		fail(CJAIL_STEP_ROOT, 0);
	(void)mount("proc", "proc", "proc", NO_SUID_DEVICE_EXEC | 1ul /* MS_RDONLY */, "subset=pid");
	if (restrict_mount(AT_FDCWD, "dev", MOUNT_ATTR_RDONLY) < 0 || restrict_mount(AT_FDCWD, ".", MOUNT_ATTR_RDONLY) < 0)
		fail(CJAIL_STEP_SEAL, 0);
	/* The old root lies on top of the new one for a moment: pivot_root(2), "pivot_root(".", ".")". */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", DETACH) < 0 || chdir("/") < 0)
		fail(CJAIL_STEP_PIVOT, 0);
}

static void set_limits(const struct cjail_plan *plan)
{
	for (size_t index = 0; index < plan->limit_count; index++) {
		struct rlimit limit = {plan->limits[index].value, plan->limits[index].value};

		if (setrlimit((__rlimit_resource_t)plan->limits[index].resource, &limit) < 0)
			fail(CJAIL_STEP_LIMIT, index);
	}
}

/* In the user namespace of the jail, no other one can be made: a new one would give back all capabilities in itself. */
static void forbid_user_namespaces(int settings)
{
	int fd = openat(settings, "max_user_namespaces", O_WRONLY | O_CLOEXEC);

	/* A kernel without the setting, or a /proc that is read-only: seccomp refuses unshare(2), too. */
	if (fd >= 0)
		(void)!write(fd, "0", 1);
}

static void become_user(const struct cjail_plan *plan, int settings)
{
	bool has_namespace = true;

	if (plan->is_privileged) {
		if (unshare(CLONE_NEWUSER) == 0) {
			send_message(CJAIL_WANTS_USER_MAP, 0, 0, 0);
		} else {
			has_namespace = false;
			send_message(CJAIL_NO_USER_NAMESPACE, 0, errno, 0);
		}
		wait_for_answer();
	}
	if (has_namespace)
		forbid_user_namespaces(settings);
	/* The capabilities that execve(2) could give at most. EINVAL: past the last one that the kernel knows. */
	for (int capability = 0; capability <= 63; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
			fail(CJAIL_STEP_RIGHTS, 0);
	/* Not glibc's functions: they also signal the process's other threads, which a clone does not have. */
	if ((plan->is_privileged && syscall(SYS_setgroups, 0, NULL) < 0) || syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0 ||
	    syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) < 0)
		fail(CJAIL_STEP_USER, 0);
}

static void drop_rights(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/* setresuid(2) drops the capabilities only of a user 0 that the namespace knows. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
		fail(CJAIL_STEP_RIGHTS, 0);
	/* After the change of the user, which clears it. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		fail(CJAIL_STEP_RIGHTS, 0);
}

/*
 * A program inherits ignored signals and the mask. The mask keeps those that end a VM: process 1 of a PID namespace loses a signal that is neither
 * blocked nor handled, and symvmm waits for them from its start on.
 */
static void reset_signals(void)
{
	struct sigaction hang_up;
	sigset_t kept;

	/* An ignored SIGHUP stays so: nohup(1). */
	sigemptyset(&kept);
	if (sigaction(SIGHUP, NULL, &hang_up) == 0 && hang_up.sa_handler != SIG_IGN)
		sigaddset(&kept, SIGHUP);
	for (int number = 1; number < NSIG; number++)
		if (number != SIGHUP)
			(void)signal(number, SIG_DFL);
	sigaddset(&kept, SIGTERM);
	sigaddset(&kept, SIGINT);
	sigaddset(&kept, SIGQUIT);
	(void)sigprocmask(SIG_SETMASK, &kept, NULL);
}

__attribute__((noreturn)) static void run_jailed(const struct cjail_plan *plan)
{
	int settings;

	wait_for_answer();
	settings = open("/proc/sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (plan->network >= 0 && setns(plan->network, CLONE_NEWNET) < 0)
		fail(CJAIL_STEP_NETWORK, 0);
	umask(022);
	build_root(plan);
	become_user(plan, settings);
	drop_rights();
	umask(077);
	set_limits(plan);
	reset_signals();
	/* The answer shows that the parent lived after it became the one whose death ends this process. */
	send_message(CJAIL_READY, 0, 0, 0);
	wait_for_answer();
	if (plan->null >= 0)
		for (int number = 0; number <= 2; number++)
			if (dup2(plan->null, number) < 0)
				fail(CJAIL_STEP_DESCRIPTORS, 0);
	if (syscall(SYS_close_range, 3u, UINT_MAX, CLOSE_RANGE_CLOEXEC) < 0)
		fail(CJAIL_STEP_DESCRIPTORS, 0);
	execve(plan->program, plan->arguments, plan->environment);
	fail(CJAIL_STEP_EXEC, 0);
}

/* The parent. */

pid_t cjail_start(const struct cjail_plan *plan, int *channel)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
	int ends[2];
	pid_t child;

	if (plan->has_new_network)
		flags |= CLONE_NEWNET;
	if (!plan->is_privileged)
		flags |= CLONE_NEWUSER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	child = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
	if (child < 0) {
		int error = errno;

		close(ends[0]);
		close(ends[1]);
		return -error;
	}
	if (child == 0) {
		close(ends[0]);
		channel_of_child = ends[1];
		run_jailed(plan);
	}
	close(ends[1]);
	*channel = ends[0];
	return child;
}

int cjail_receive(int channel, struct cjail_message *message)
{
	ssize_t count;

	do {
		count = recv(channel, message, sizeof(*message), 0);
	} while (count < 0 && errno == EINTR);
	/* The end of a process that had not read everything is reported as a reset. */
	if (count == 0 || (count < 0 && errno == ECONNRESET))
		return 0;
	if (count < 0)
		return -errno;
	return count == (ssize_t)sizeof(*message) ? 1 : -EPROTO;
}

int cjail_answer(int channel)
{
	ssize_t count;

	do {
		count = send(channel, "", 1, MSG_NOSIGNAL);
	} while (count < 0 && errno == EINTR);
	return count == 1 ? 0 : -errno;
}

pid_t cjail_fork(void)
{
	pid_t child = fork();

	return child < 0 ? -errno : child;
}

int cjail_open_process(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int cjail_close_inherited(void)
{
	return syscall(SYS_close_range, 3u, UINT_MAX, 0) < 0 ? -errno : 0;
}
