/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C shim of `symvmm jail`: what the jailed process does between clone(2)
 * and execve(2). It makes only async-signal-safe calls, allocates nothing and
 * follows a plan that its parent made. VMMJail has the policy.
 */
#ifndef CJAIL_H
#define CJAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The step at which the jailed process failed. */
enum cjail_step {
	CJAIL_STEP_NETWORK = 1,      /* setns(2) into the network namespace */
	CJAIL_STEP_PRIVATE,          /* no mount propagates to the host */
	CJAIL_STEP_SOURCE,           /* open_tree(2) of the source of mount `index` */
	CJAIL_STEP_ROOT,             /* the tmpfs that becomes the root */
	CJAIL_STEP_TARGET,           /* the mount point of mount `index` */
	CJAIL_STEP_MOUNT,            /* mount `index` */
	CJAIL_STEP_DEVICE,           /* device `index` */
	CJAIL_STEP_SEAL,             /* the root becomes read-only */
	CJAIL_STEP_PIVOT,            /* pivot_root(2) */
	CJAIL_STEP_LIMIT,            /* setrlimit(2) of limit `index` */
	CJAIL_STEP_USER,             /* setgroups(2), setresgid(2), setresuid(2) */
	CJAIL_STEP_RIGHTS,           /* capabilities, no_new_privs, the signal at the parent's death */
	CJAIL_STEP_DESCRIPTORS,      /* standard descriptors; close_range(2) of all others */
	CJAIL_STEP_EXEC,             /* execve(2) */
};

/* What the jailed process tells its parent. */
enum cjail_message_kind {
	CJAIL_FAILED = 1,            /* at `step`, with `error` */
	CJAIL_WANTS_USER_MAP,        /* it is in a new user namespace; answer when its maps are written */
	CJAIL_NO_USER_NAMESPACE,     /* the host refuses one (`error`); it goes on without */
	CJAIL_READY,                 /* the next step after the answer is execve(2) */
};

struct cjail_message {
	int32_t kind;
	int32_t step;
	int32_t error;
	uint32_t index;
};

/* A file or folder of the host that is visible in the jail. */
struct cjail_mount {
	const char *source;
	const char *target;          /* relative to the jail's root; its parent is a folder of the plan */
	bool is_folder;
	bool is_writable;
	bool is_program;             /* may be executed */
};

/* A character device. */
struct cjail_device {
	const char *source;
	const char *target;
	uint32_t major;
	uint32_t minor;
	uint32_t mode;
};

struct cjail_limit {
	int resource;
	uint64_t value;
};

struct cjail_plan {
	const char *root;            /* an empty folder of the host; only this mount namespace sees the jail in it */
	const char *const *folders;  /* parents before children, relative to the root */
	size_t folder_count;
	const struct cjail_mount *mounts;
	size_t mount_count;
	const struct cjail_device *devices;
	size_t device_count;
	const struct cjail_limit *limits;
	size_t limit_count;
	uid_t uid;
	gid_t gid;
	bool is_privileged;          /* started by root: the user namespace comes last. Otherwise it comes first, and makes the others possible. */
	bool has_new_network;        /* a network namespace without interfaces */
	int network;                 /* a descriptor of a network namespace, or -1 */
	int null;                    /* a descriptor for standard input, output and error, or -1: keep those of the parent */
	const char *program;         /* path in the jail */
	char *const *arguments;
	char *const *environment;
};

/*
 * Starts the jailed process, which waits for an answer before its first step. Returns its process number, and in `channel` the descriptor for
 * cjail_receive() and cjail_answer(). The plan must live until the channel ends.
 */
pid_t cjail_start(const struct cjail_plan *plan, int *channel);
/* Waits for a message: 1, or 0 when the channel ends, since the process executes the program or is dead; or -errno. */
int cjail_receive(int channel, struct cjail_message *message);
/* Lets the process continue. */
int cjail_answer(int channel);

/* fork(2). Only for a process with one thread. */
pid_t cjail_fork(void);
/* A descriptor of a process, close-on-exec. pidfd_open(2) */
int cjail_open_process(pid_t pid);
/* Closes all descriptors but standard input, output and error. close_range(2), Linux 5.9 */
int cjail_close_inherited(void);

#endif
