// SPDX-License-Identifier: Apache-2.0
/*
 * Counts heap allocations. Preload it into a dynamically linked symvmm (LD_PRELOAD). At the end of the process it writes the line
 * "vcpu N all N" to the file in ALLOCATION_COUNTS: allocations by the threads named vcpu0, vcpu1 ..., and by all threads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static atomic_ulong by_vcpus, by_all;

/* glibc's own functions behind the public names. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(void)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	if (strncmp(name, "vcpu", 4) == 0)
		atomic_fetch_add_explicit(&by_vcpus, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&by_all, 1, memory_order_relaxed);
}

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	count();
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	count();
	return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
	void *memory;

	if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
		return EINVAL;
	count();
	memory = __libc_memalign(alignment, size);
	if (!memory)
		return ENOMEM;
	*result = memory;
	return 0;
}

static __attribute__((destructor)) void report(void)
{
	const char *path = getenv("ALLOCATION_COUNTS");
	unsigned long vcpus = atomic_load(&by_vcpus), all = atomic_load(&by_all);
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return;
	dprintf(fd, "vcpu %lu all %lu\n", vcpus, all);
	close(fd);
}
