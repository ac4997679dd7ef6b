/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offsets of the fields of the shared ABI's structures. Swift has no offsetof,
 * and cannot import the pages' arrays as tuples.
 */
#ifndef SYMBIOTIC_OFFSETS_H
#define SYMBIOTIC_OFFSETS_H

#include "symbiotic_abi.h"

#include <stddef.h>

#define GLOBAL(field) offsetof(struct symbiotic_global_page, field)
#define LOCAL(field) offsetof(struct symbiotic_local_page, field)
#define TASK(field) offsetof(struct symbiotic_task, field)
#define RECORD(field) offsetof(struct symbiotic_task_record, field)
#define MEMORY(field) offsetof(struct symbiotic_memory, field)

enum {
	SYMBIOTIC_GLOBAL_VERSION = GLOBAL(version),
	SYMBIOTIC_GLOBAL_BUFFER_GPA = GLOBAL(buffer_gpa),
	SYMBIOTIC_GLOBAL_BUFFER_SIZE = GLOBAL(buffer_size),
	SYMBIOTIC_GLOBAL_SYMCALLS = GLOBAL(symcalls),
	SYMBIOTIC_GLOBAL_DIRECT = GLOBAL(direct),
	SYMBIOTIC_GLOBAL_VMM_VERSION = GLOBAL(vmm_version),
	SYMBIOTIC_GLOBAL_VMM_FLAGS = GLOBAL(vmm_flags),
	SYMBIOTIC_GLOBAL_REQUESTS = GLOBAL(requests),
	/* The services' parts begin here. */
	SYMBIOTIC_GLOBAL_SERVICES = GLOBAL(services),

	SYMBIOTIC_LOCAL_SEQUENCE = LOCAL(sequence),
	SYMBIOTIC_LOCAL_TASK = LOCAL(task),
	SYMBIOTIC_LOCAL_ENABLED = LOCAL(enabled),
	SYMBIOTIC_LOCAL_ACTIVE = LOCAL(active),
	SYMBIOTIC_LOCAL_ABORTS = LOCAL(aborts),
	SYMBIOTIC_LOCAL_FAILURES = LOCAL(failures),
	SYMBIOTIC_LOCAL_COMPLETED = LOCAL(completed),

	SYMBIOTIC_TASK_TGID = TASK(tgid),
	SYMBIOTIC_TASK_PID = TASK(pid),
	SYMBIOTIC_TASK_UID = TASK(uid),
	SYMBIOTIC_TASK_FLAGS = TASK(flags),
	SYMBIOTIC_TASK_START_TIME = TASK(start_time),
	SYMBIOTIC_TASK_COMM = TASK(comm),

	SYMBIOTIC_RECORD_PARENT = RECORD(parent),
	SYMBIOTIC_RECORD_CPU = RECORD(cpu),
	SYMBIOTIC_RECORD_STATE = RECORD(state),
	SYMBIOTIC_RECORD_THREADS = RECORD(threads),
	SYMBIOTIC_RECORD_USER_TIME = RECORD(user_time),
	SYMBIOTIC_RECORD_SYSTEM_TIME = RECORD(system_time),
	SYMBIOTIC_RECORD_SIZE = sizeof(struct symbiotic_task_record),

	SYMBIOTIC_MEMORY_PAGE_SIZE = MEMORY(page_size),
	SYMBIOTIC_MEMORY_TOTAL = MEMORY(total),
	SYMBIOTIC_MEMORY_SIZE = sizeof(struct symbiotic_memory),
	SYMBIOTIC_UNAME_SIZE = sizeof(struct symbiotic_uname),
};

#undef GLOBAL
#undef LOCAL
#undef TASK
#undef RECORD
#undef MEMORY

#endif
