// SPDX-License-Identifier: GPL-2.0
/*
 * Checks that the kernel's operations on a process's memory work on swapped
 * pages that are mapped by bypass. One test for each:
 *
 *   swapworks NAME [DEVICE]
 *
 * DEVICE is a disk that the test "direct" may overwrite. Status 0: passed; 1:
 * failed; 2: it could not run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swapworks.h"

static const char *device;

/* ---- A core dump contains mapped and swapped pages -------------------------------- */

#define CORE	"/tmp/core"

static void crash(uint64_t value)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	unsigned char *base;

	setrlimit(RLIMIT_CORE, &all);
	become_known();
	base = swapped_region(PAGES, value);
	check(base, PAGES / 2, value, "dump");
	abort();
}

/* Counts the pages in the file, at page-aligned offsets */
static size_t found_in(const char *path, uint64_t value)
{
	static bool found[PAGES];
	uint64_t page[WORDS];
	FILE *file = fopen(path, "r");
	size_t i, count = 0;

	if (!file)
		die(path);
	while (fread(page, sizeof(page), 1, file) == 1)
		if (page[0] >= value && page[0] < value + PAGES)
			found[page[0] - value] = true;
	fclose(file);
	for (i = 0; i < PAGES; i++)
		count += found[i];
	return count;
}

int works_dump(void)
{
	const uint64_t value = 0x6475706d00000000;
	size_t count;
	pid_t child;
	int status;

	unlink(CORE);
	if (put("/proc/sys/kernel/core_pattern", CORE))
		die("core_pattern");
	child = fork();
	if (child < 0)
		die("fork");
	if (!child)
		crash(value);
	if (waitpid(child, &status, 0) != child)
		die("waitpid");
	if (!WIFSIGNALED(status) || !WCOREDUMP(status)) {
		fprintf(stderr, "swapworks: no core dump: status %#x\n", status);
		return 2;
	}
	count = found_in(CORE, value);
	unlink(CORE);
	return count == PAGES ? 0 : wrong("core dump", count);
}

/* ---- Direct I/O of disks ----------------------------------------------------------- */

int works_direct(void)
{
	unsigned char *from, *to;
	int disk, result;

	if (!device)
		die("give a device");
	disk = open(device, O_RDWR | O_DIRECT);
	if (disk < 0)
		die(device);
	from = swapped_region(PAGES, 1000);
	to = swapped_region(PAGES, 5000);
	result = check(from, PAGES / 2, 1000, "direct, before");
	result |= check(to, PAGES / 2, 5000, "direct, before");
	if (pwrite(disk, from, PAGES * PAGE, 0) != (ssize_t)(PAGES * PAGE))
		die("write");
	if (pread(disk, to, PAGES * PAGE, 0) != (ssize_t)(PAGES * PAGE))
		die("read");
	close(disk);
	result |= check(from, PAGES, 1000, "direct, written");
	return result | check(to, PAGES, 1000, "direct, read");
}

/* ---- Futexes ----------------------------------------------------------------------- */

static long futex(uint64_t *at, int operation, uint32_t value)
{
	const struct timespec limit = { .tv_sec = 20 };

	return syscall(SYS_futex, at, operation, value, &limit, NULL, 0);
}

/* Not FUTEX_PRIVATE_FLAG, so that the kernel looks up the page, not only the address */
static void *wake(void *at)
{
	const double end = now() + 20;

	usleep(300000);
	if (*word(at, 1) != 78)	/* by bypass */
		return at;
	/* On a busy machine the other thread may not wait yet */
	while (futex(at, FUTEX_WAKE, 1) != 1) {
		if (now() > end)
			return at;
		usleep(10000);
	}
	__atomic_store_n((uint32_t *)at, 5, __ATOMIC_SEQ_CST);
	return NULL;
}

int works_futex(void)
{
	unsigned char *base = swapped_region(PAGES, 77);
	pthread_t waker;
	void *failed;

	if (pthread_create(&waker, NULL, wake, base))
		die("pthread_create");
	/* Either thread's first access may map the page */
	if (futex(word(base, 0), FUTEX_WAIT, 77))
		return wrong("futex: the wait", 0);
	pthread_join(waker, &failed);
	if (failed || *(uint32_t *)base != 5)
		return wrong("futex", 0);
	return check(base + PAGE, PAGES - 1, 78, "futex, after");
}

/* ---- userfaultfd: a swapped page is not missing ------------------------------------ */

struct faults {
	int file;
	volatile unsigned long count;
};

static void *serve(void *data)
{
	static uint64_t page[WORDS] = { 4711 };
	struct faults *faults = data;
	struct uffd_msg message;
	struct uffdio_copy copy;

	while (read(faults->file, &message, sizeof(message)) == sizeof(message)) {
		faults->count++;
		copy = (struct uffdio_copy){
			.dst = message.arg.pagefault.address & ~(PAGE - 1),
			.src = (uintptr_t)page,
			.len = PAGE,
		};
		ioctl(faults->file, UFFDIO_COPY, &copy);
	}
	return NULL;
}

int works_userfault(void)
{
	struct uffdio_register area = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	unsigned char *base = swapped_region(PAGES, 300);
	struct faults faults = { 0 };
	pthread_t server;
	int result;

	faults.file = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (faults.file < 0 || ioctl(faults.file, UFFDIO_API, &api))
		die("userfaultfd");
	result = check(base, PAGES / 2, 300, "userfault, before");
	area.range.start = (uintptr_t)base;
	area.range.len = PAGES * PAGE;
	if (ioctl(faults.file, UFFDIO_REGISTER, &area))
		die("UFFDIO_REGISTER");
	if (pthread_create(&server, NULL, serve, &faults))
		die("pthread_create");
	result |= check(base, PAGES, 300, "userfault");
	if (faults.count)
		result |= wrong("userfault: faults for swapped pages", faults.count);
	madvise(base, PAGE, MADV_DONTNEED);
	if (*(volatile uint64_t *)word(base, 0) != 4711 || faults.count != 1)
		result |= wrong("userfault: a missing page", faults.count);
	return result;
}

/* ---- exec --------------------------------------------------------------------------- */

int works_exec(void)
{
	int round, status;
	pid_t child;

	for (round = 0; round < 10; round++) {
		child = fork();
		if (child < 0)
			die("fork");
		if (!child) {
			unsigned char *base;

			become_known();
			base = swapped_region(PAGES, 1);
			if (check(base, PAGES / 2, 1, "exec"))
				_exit(1);
			execl("/proc/self/exe", "swapworks", "nothing", NULL);
			_exit(2);
		}
		if (waitpid(child, &status, 0) != child || status)
			return wrong("exec", round);
	}
	return 0;
}


static const struct {
	const char *name;
	int (*test)(void);
} works[] = {
	{ "dump", works_dump },
	{ "direct", works_direct },
	{ "futex", works_futex },
	{ "userfault", works_userfault },
	{ "exec", works_exec },
	{ "ksm", works_ksm },
	{ "huge", works_huge },
	{ "compaction", works_compaction },
	{ "group", works_group },
	{ "oom", works_oom },
	{ "views", works_views },
};

int main(int argc, char **argv)
{
	size_t i;

	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;	/* the program that exec runs */
	device = argc == 3 ? argv[2] : NULL;
	for (i = 0; argc >= 2 && i < sizeof(works) / sizeof(*works); i++) {
		if (strcmp(works[i].name, argv[1]))
			continue;
		enter_group();
		become_known();
		return works[i].test();
	}
	fprintf(stderr, "usage: swapworks NAME [DEVICE]\n");
	return 2;
}
