/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C shim of the sandbox: seccomp(2) and landlock(7). Each function returns
 * a value >= 0, or -errno. No policy, no allocation.
 */
#ifndef CSANDBOX_H
#define CSANDBOX_H

#include <stdbool.h>
#include <stdint.h>

/* One instruction of classic BPF: struct sock_filter. */
struct csandbox_instruction {
	uint16_t code;
	uint8_t jump_true;
	uint8_t jump_false;
	uint32_t k;
};

/* Constants that Swift's importer cannot read, or that Linux 6.1's headers do not have. */
enum {
	CSANDBOX_RETURN_KILL_PROCESS = 0x80000000u,
	CSANDBOX_RETURN_TRAP = 0x00030000u,
	CSANDBOX_RETURN_ALLOW = 0x7fff0000u,
};

/* Whether the kernel has filters with this action: seccomp(2), SECCOMP_GET_ACTION_AVAIL. */
bool csandbox_has_action(uint32_t action);
/*
 * Adds a filter to the calling thread, for the rest of its life. Threads that it makes later inherit it. Needs no_new_privs.
 * The kernel copies the program.
 */
int csandbox_add_filter(const struct csandbox_instruction *program, uint16_t count);

/* The version of Landlock's interface; -ENOSYS or -EOPNOTSUPP without Landlock. */
int csandbox_landlock_version(void);
/* A rule set that handles these accesses, so denies those for which it has no rule. `network` needs version 4. Close-on-exec. */
int csandbox_landlock_rules(uint64_t files, uint64_t network);
/* Allows accesses to a file, or to a folder and all below it. `place` is open with O_PATH. */
int csandbox_landlock_allow(int rules, int place, uint64_t files);
/* Restricts the calling thread, for the rest of its life. Threads that it makes later inherit it. Needs no_new_privs. */
int csandbox_landlock_restrict(int rules);

/* Opens any file or folder with O_PATH | O_CLOEXEC: for rules only. */
int csandbox_open_place(const char *path);

/* Names the calling thread's role for the reports below; keeps 15 bytes. */
void csandbox_set_role(const char *role);
/*
 * Handles SIGSYS of a filter that returns CSANDBOX_RETURN_TRAP: writes one line to standard error for each call of a role that its filter does not
 * allow, then makes the call. For development only.
 */
int csandbox_report_calls(void);
/* The address of the only system call instruction that such a filter must allow: the value of seccomp_data.instruction_pointer. */
uint64_t csandbox_reporter_address(void);
/* Name of a system call of x86-64; NULL if it is unknown here. */
const char *csandbox_call_name(long number);

#endif
