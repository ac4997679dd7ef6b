// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "csandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.1's headers have the first version only. The numbers are those of every architecture. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445
#define LANDLOCK_RESTRICT_SELF 446
#define LANDLOCK_VERSION_FLAG 1u
#define LANDLOCK_PATH_BENEATH 1

struct ruleset_attributes {
	uint64_t files;
	uint64_t network;
};

struct path_beneath_attributes {
	uint64_t files;
	int32_t place;
} __attribute__((packed));

_Static_assert(sizeof(struct csandbox_instruction) == sizeof(struct sock_filter), "the kernel reads one as the other");
_Static_assert(offsetof(struct csandbox_instruction, k) == offsetof(struct sock_filter, k), "the kernel reads one as the other");

static int value_or_errno(long result)
{
	return result < 0 ? -errno : (int)result;
}

bool csandbox_has_action(uint32_t action)
{
	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int csandbox_add_filter(const struct csandbox_instruction *program, uint16_t count)
{
	struct sock_fprog filter = {.len = count, .filter = (struct sock_filter *)program};

	/*
	 * SPEC_ALLOW: kernels before 5.16 otherwise switch off speculation for the thread, which slows down the guest. The flag is for threads that
	 * execute programs of others; ours execute only symvmm, and KVM protects itself from guests.
	 */
	return value_or_errno(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter));
}

int csandbox_landlock_version(void)
{
	return value_or_errno(syscall(LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION_FLAG));
}

int csandbox_landlock_rules(uint64_t files, uint64_t network)
{
	struct ruleset_attributes attributes = {.files = files, .network = network};
	/* Kernels before version 4 refuse a structure that is longer than theirs, unless the rest is zero. */
	size_t size = network ? sizeof(attributes) : sizeof(attributes.files);

	return value_or_errno(syscall(LANDLOCK_CREATE_RULESET, &attributes, size, 0));
}

int csandbox_landlock_allow(int rules, int place, uint64_t files)
{
	struct path_beneath_attributes beneath = {.files = files, .place = place};

	return value_or_errno(syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_PATH_BENEATH, &beneath, 0));
}

int csandbox_landlock_restrict(int rules)
{
	return value_or_errno(syscall(LANDLOCK_RESTRICT_SELF, rules, 0));
}

int csandbox_open_place(const char *path)
{
	return value_or_errno(open(path, O_PATH | O_CLOEXEC));
}
