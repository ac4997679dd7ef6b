// SPDX-License-Identifier: GPL-2.0
/*
 * Checks swap with memory larger than RAM. Each page contains its owner, its
 * number, and how often it was rewritten.
 *
 *   swapcheck MEBIBYTES PROCESSES SECONDS [SEED]
 *
 * PROCESSES share the memory; each reads, rewrites, moves, protects, pins,
 * forks and unmaps at random, and checks the contents, for SECONDS or until
 * SIGTERM (killall swapcheck). On success it prints "N pages verified, 0 wrong"
 * and exits with status 0.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swaptools.h"

struct region {
	unsigned char *base;
	size_t pages;
	uint32_t *generation;	/* of each page; 0 = never written, zeroes */
	uint64_t seed;
};

static volatile unsigned long *verified;	/* shared by all processes */
static volatile unsigned long *wrong;
static volatile sig_atomic_t is_over;
static uint64_t state;

static void end_early(int number)
{
	(void)number;
	is_over = 1;
}

static uint64_t random64(void)
{
	state += 0x9e3779b97f4a7c15ULL;
	return mix(state);
}

static uint64_t word(const struct region *r, size_t page, uint32_t generation)
{
	return mix(r->seed ^ mix(page * 2654435761UL + ((uint64_t)generation << 40)));
}

static void write_page(struct region *r, size_t page)
{
	uint64_t *to = (uint64_t *)(r->base + page * PAGE);
	uint64_t value = word(r, page, ++r->generation[page]);
	size_t i;

	for (i = 0; i < WORDS; i++)
		to[i] = value + i;
}

/* @from may be a copy of the page */
static bool is_right(const struct region *r, size_t page, const void *from)
{
	const uint64_t *words = from;
	uint32_t generation = r->generation[page];
	uint64_t value = generation ? word(r, page, generation) : 0;
	size_t i;

	__atomic_add_fetch(verified, 1, __ATOMIC_RELAXED);
	for (i = 0; i < WORDS; i++) {
		uint64_t expected = generation ? value + i : 0;

		if (words[i] != expected) {
			__atomic_add_fetch(wrong, 1, __ATOMIC_RELAXED);
			fprintf(stderr,
				"swapcheck: pid %d page %zu generation %u word %zu: %016llx, not %016llx\n",
				getpid(), page, generation, i,
				(unsigned long long)words[i],
				(unsigned long long)expected);
			return false;
		}
	}
	return true;
}

static void check_page(struct region *r, size_t page)
{
	is_right(r, page, r->base + page * PAGE);
}

/* Chooses a range of pages at random */
static size_t run(const struct region *r, size_t *count)
{
	size_t most = r->pages < 64 ? r->pages : 64;

	*count = 1 + random64() % most;
	return random64() % (r->pages - *count + 1);
}

static void forget(struct region *r, size_t first, size_t count)
{
	memset(&r->generation[first], 0, count * sizeof(*r->generation));
}

/* ---- Operations on pages ---------------------------------------------------- */

static void act_check(struct region *r)
{
	size_t count, first = run(r, &count);

	while (count--)
		check_page(r, first++);
}

static void act_write(struct region *r)
{
	size_t count, first = run(r, &count);

	while (count--)
		write_page(r, first++);
}

static void act_random(struct region *r)
{
	int i;

	for (i = 0; i < 64; i++) {
		size_t page = random64() % r->pages;

		check_page(r, page);
		if (random64() % 2)
			write_page(r, page);
	}
}

static void act_unmap(struct region *r)
{
	size_t count, first = run(r, &count);
	unsigned char *at = r->base + first * PAGE;

	if (munmap(at, count * PAGE))
		die("munmap");
	if (mmap(at, count * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != at)
		die("mmap");
	forget(r, first, count);
}

static void act_discard(struct region *r)
{
	size_t count, first = run(r, &count);

	if (madvise(r->base + first * PAGE, count * PAGE, MADV_DONTNEED))
		die("MADV_DONTNEED");
	forget(r, first, count);
}

static void act_pageout(struct region *r)
{
	size_t count, first = run(r, &count);

	madvise(r->base + first * PAGE, count * PAGE, MADV_PAGEOUT);
}

static void act_willneed(struct region *r)
{
	size_t count, first = run(r, &count);

	madvise(r->base + first * PAGE, count * PAGE, MADV_WILLNEED);
}

static void act_protect(struct region *r)
{
	size_t count, first = run(r, &count), i;
	unsigned char *at = r->base + first * PAGE;

	if (mprotect(at, count * PAGE, PROT_READ))
		die("mprotect");
	for (i = first; i < first + count; i++)
		check_page(r, i);
	if (mprotect(at, count * PAGE, PROT_READ | PROT_WRITE))
		die("mprotect");
	for (i = first; i < first + count; i += 3)
		write_page(r, i);
}

static void act_lock(struct region *r)
{
	size_t count, first = run(r, &count), i;
	unsigned char *at = r->base + first * PAGE;

	if (mlock(at, count * PAGE))
		return;
	for (i = first; i < first + count; i++)
		check_page(r, i);
	munlock(at, count * PAGE);
}

/* mremap() to another address and back, which moves the page-table entries */
static void act_move(struct region *r)
{
	size_t count, first = run(r, &count), i;
	unsigned char *at = r->base + first * PAGE, *there;

	there = mmap(NULL, count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (there == MAP_FAILED)
		return;
	if (mremap(at, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there) != there) {
		/* The range spans two VMAs, which one mremap() can't move */
		if (errno != EFAULT)
			die("mremap");
		munmap(there, count * PAGE);
		return;
	}
	for (i = 0; i < count; i += 2)
		is_right(r, first + i, there + i * PAGE);
	if (mremap(there, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
		die("mremap");
}

/* Through get_user_pages(), from the parent's memory or its own */
static void act_pin(struct region *r)
{
	static unsigned char copy[64 * PAGE];
	size_t count, first = run(r, &count), i;
	struct iovec from = { r->base + first * PAGE, count * PAGE };
	struct iovec to = { copy, sizeof(copy) };

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)(count * PAGE))
		die("process_vm_readv");
	for (i = 0; i < count; i++)
		is_right(r, first + i, copy + i * PAGE);
}

/* Writes through /proc/self/mem, as a debugger does */
static void act_poke(struct region *r)
{
	size_t page = random64() % r->pages, i;
	uint64_t words[WORDS], value;
	int file = open("/proc/self/mem", O_RDWR);

	if (file < 0)
		return;
	value = word(r, page, ++r->generation[page]);
	for (i = 0; i < WORDS; i++)
		words[i] = value + i;
	if (pwrite(file, words, PAGE, (off_t)(uintptr_t)(r->base + page * PAGE)) != (ssize_t)PAGE)
		die("/proc/self/mem");
	close(file);
	check_page(r, page);
}

/* The kernel's own copies to and from user memory, and pages given to a pipe */
static void act_pipe(struct region *r)
{
	static unsigned char copy[8 * PAGE];
	size_t first = random64() % (r->pages > 8 ? r->pages - 8 : 1);
	struct iovec out = { r->base + first * PAGE, 8 * PAGE };
	size_t done = 0, i;
	int ends[2];
	ssize_t sent;

	if (r->pages < 16 || pipe(ends))
		return;
	sent = random64() % 2 ? vmsplice(ends[1], &out, 1, 0) :
				write(ends[1], out.iov_base, out.iov_len);
	close(ends[1]);
	while (sent > 0 && done < (size_t)sent) {
		ssize_t got = read(ends[0], copy + done, (size_t)sent - done);

		if (got <= 0)
			break;
		done += (size_t)got;
	}
	close(ends[0]);
	for (i = 0; i < done / PAGE; i++)
		is_right(r, first + i, copy + i * PAGE);
}

/* A child must see the contents at the fork, even if either process writes afterwards */
static void act_fork(struct region *r)
{
	size_t i, step = 1 + r->pages / 64, start = random64() % step;
	bool is_killed = random64() % 3 == 0;
	pid_t child = fork();

	if (child < 0)
		return;
	if (!child) {
		state = random64() ^ (uint64_t)getpid();
		for (i = start; i < r->pages; i += step) {
			check_page(r, i);
			write_page(r, i);
		}
		for (i = start; i < r->pages; i += step)
			check_page(r, i);
		if (is_killed)
			pause();
		_exit(0);
	}
	for (i = start; i < r->pages; i += 2 * step)
		write_page(r, i);
	if (is_killed) {
		usleep(random64() % 20000);
		kill(child, SIGKILL);
	}
	for (i = start; i < r->pages; i += step)
		check_page(r, i);
	waitpid(child, NULL, 0);
}

static void (*const acts[])(struct region *) = {
	act_check, act_check, act_check, act_write, act_write, act_random,
	act_random, act_unmap, act_discard, act_pageout, act_willneed,
	act_protect, act_lock, act_move, act_pin, act_poke, act_pipe, act_fork,
};

/* ---- check -------------------------------------------------------------------- */

static int worker(size_t pages, double end, uint64_t seed)
{
	struct region r = { .pages = pages, .seed = mix(seed) };
	size_t i;

	state = seed;
	r.base = reserve(pages * PAGE);
	r.generation = mmap(NULL, pages * sizeof(*r.generation), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (r.generation == MAP_FAILED)
		die("mmap");
	for (i = 0; i < pages; i++)
		write_page(&r, i);
	for (i = 0; i < pages; i++)
		check_page(&r, i);
	while (now() < end && !*wrong && !is_over)
		acts[random64() % (sizeof(acts) / sizeof(*acts))](&r);
	for (i = 0; i < pages; i++)
		check_page(&r, i);
	return *wrong ? 1 : 0;
}

static int check(size_t mebibytes, int processes, int seconds, uint64_t seed)
{
	double end = now() + seconds;
	int i, status, failed = 0;

	for (i = 0; i < processes; i++) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child)
			_exit(worker((mebibytes << 20) / PAGE / (size_t)processes, end,
				     seed * 1000 + (uint64_t)i + 1));
	}
	while (wait(&status) > 0)
		failed += !WIFEXITED(status) || WEXITSTATUS(status);
	printf("swapcheck: %lu pages verified, %lu wrong, %d of %d processes failed\n",
	       *verified, *wrong, failed, processes);
	return failed || *wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	/* Without the flag the parent would wait no longer for its children */
	const struct sigaction early = { .sa_handler = end_early, .sa_flags = SA_RESTART };
	volatile unsigned long *shared;

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: swapcheck MEBIBYTES PROCESSES SECONDS [SEED]\n");
		return 2;
	}
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	verified = &shared[0];
	wrong = &shared[1];
	sigaction(SIGTERM, &early, NULL);
	return check(strtoul(argv[1], NULL, 0), atoi(argv[2]), atoi(argv[3]),
		     argc > 4 ? strtoull(argv[4], NULL, 0) : (uint64_t)time(NULL));
}
