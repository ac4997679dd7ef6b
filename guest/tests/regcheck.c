// SPDX-License-Identifier: GPL-2.0
/*
 * regcheck: loads every user-mode register with known values, waits, and
 * checks that none has changed, and its memory as well. Several threads, some
 * of the time inside system calls. Run it while the VMM makes symcalls.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "regcheck.h"

#define GPRS		15
#define THREADS_MAX	256
#define MEMORY_WORDS	(64 * 1024)

#define FLAG_CF		0x000001ULL
#define FLAG_DF		0x000400ULL
#define FLAG_ID		0x200000ULL
#define FLAGS_CHECKED	(FLAG_CF | FLAG_DF | FLAG_ID)

/* rax, rcx and r11: SYSCALL changes them */
#define SYSCALL_CLOBBERS ((1U << 0) | (1U << 2) | (1U << 10))

struct round {
	uint64_t self;
	uint64_t turns;
	uint64_t rsp;
	uint64_t flags_in;
	uint64_t flags_out;
	uint64_t avx;
	int64_t syscall;
	uint64_t fs_word;
	uint32_t mxcsr_in, mxcsr_out;
	uint32_t fcw_in, fcw_out;
	uint64_t unused[6];
	uint64_t gpr_in[16];
	uint64_t gpr_out[16];
	uint8_t x87_in[8][16];
	uint8_t x87_out[8][16];
	uint64_t vector_in[16][4];
	uint64_t vector_out[16][4];
};

_Static_assert(sizeof(struct round) == ROUND_SIZE, "size");
_Static_assert(offsetof(struct round, turns) == ROUND_TURNS, "turns");
_Static_assert(offsetof(struct round, fs_word) == ROUND_FS_WORD, "fs_word");
_Static_assert(offsetof(struct round, mxcsr_in) == ROUND_MXCSR, "mxcsr");
_Static_assert(offsetof(struct round, gpr_in) == ROUND_GPR_IN, "gpr");
_Static_assert(offsetof(struct round, x87_in) == ROUND_X87_IN, "x87");
_Static_assert(offsetof(struct round, vector_out) == ROUND_VEC_OUT, "vector");

struct worker {
	pthread_t thread;
	struct round round;
	uint64_t seed;
	uint64_t rounds;
	uint64_t mismatches;
	uint64_t *memory;
};

static const char *const gpr_names[GPRS] = {
	"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8",
	"r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

static volatile sig_atomic_t stop;
static uint64_t turns = 20000;
static bool avx;
static bool quiet;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static uint64_t noise(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill(struct worker *worker)
{
	struct round *round = &worker->round;
	unsigned int i, j;

	for (i = 0; i < GPRS; i++)
		round->gpr_in[i] = noise(&worker->seed);
	for (i = 0; i < 16; i++)
		for (j = 0; j < 4; j++)
			round->vector_in[i][j] = noise(&worker->seed);
	for (i = 0; i < 8; i++) {
		/* A normal number: the top bit of the mantissa is set */
		uint64_t mantissa = noise(&worker->seed) | 1ULL << 63;
		uint16_t exponent = 0x3000 + noise(&worker->seed) % 0x1000;

		memcpy(round->x87_in[i], &mantissa, 8);
		memcpy(round->x87_in[i] + 8, &exponent, 2);
	}
	round->flags_in = 0x202 | (noise(&worker->seed) & FLAGS_CHECKED);
	/* Masks all exceptions; random rounding and flush modes */
	round->mxcsr_in = 0x1f80 | (noise(&worker->seed) & 0xe03f);
	round->fcw_in = 0x007f | (noise(&worker->seed) & 0x0f00);
	/* The x87 status isn't checked: the loads above don't change it */
	round->turns = turns;
	round->syscall = -1;
	if (worker->rounds % 4 == 3) {
		round->syscall = SYS_getppid;
		round->turns = turns / 50 + 1;
		/* No random TF and the like when the kernel is entered */
		round->flags_in &= ~FLAG_DF;
	}
}

static void complain(struct worker *worker, const char *what, unsigned int n,
		     uint64_t expected, uint64_t found)
{
	/* Limit the messages: 20 are enough to see a pattern */
	if (worker->mismatches++ < 20 && !quiet)
		fprintf(stderr, "regcheck: %s %u is 0x%llx, not 0x%llx (round %llu%s)\n",
			what, n, (unsigned long long)found,
			(unsigned long long)expected,
			(unsigned long long)worker->rounds,
			worker->round.syscall < 0 ? "" : ", with system calls");
}

static void check_vectors(struct worker *worker)
{
	const struct round *round = &worker->round;
	unsigned int i, j;

	for (i = 0; i < 16; i++)
		for (j = 0; j < (avx ? 4u : 2u); j++)
			if (round->vector_in[i][j] != round->vector_out[i][j])
				complain(worker, avx ? "ymm" : "xmm", i,
					 round->vector_in[i][j],
					 round->vector_out[i][j]);
	for (i = 0; i < 8; i++)
		if (memcmp(round->x87_in[i], round->x87_out[i], 10))
			complain(worker, "st", i,
				 *(const uint64_t *)round->x87_in[i],
				 *(const uint64_t *)round->x87_out[i]);
}

static void check(struct worker *worker, uint64_t fs_word)
{
	const struct round *round = &worker->round;
	unsigned int i;

	for (i = 0; i < GPRS; i++) {
		if (round->syscall >= 0 && SYSCALL_CLOBBERS >> i & 1)
			continue;
		if (round->gpr_in[i] != round->gpr_out[i])
			complain(worker, gpr_names[i], i, round->gpr_in[i],
				 round->gpr_out[i]);
	}
	if ((round->flags_in ^ round->flags_out) & FLAGS_CHECKED)
		complain(worker, "rflags", 0, round->flags_in, round->flags_out);
	if (round->rsp)
		complain(worker, "rsp", 0, 0, round->rsp);
	if (round->fs_word != fs_word)
		complain(worker, "fs base", 0, fs_word, round->fs_word);
	if (round->mxcsr_in != round->mxcsr_out)
		complain(worker, "mxcsr", 0, round->mxcsr_in, round->mxcsr_out);
	/* Bit 6 of the control word reads as 1 */
	if ((round->fcw_in ^ round->fcw_out) & 0x0f3f)
		complain(worker, "x87 control", 0, round->fcw_in, round->fcw_out);
	check_vectors(worker);
}

static void fill_memory(struct worker *worker, uint64_t seed)
{
	unsigned int i;

	for (i = 0; i < MEMORY_WORDS; i++)
		worker->memory[i] = noise(&seed);
}

static void check_memory(struct worker *worker, uint64_t seed)
{
	unsigned int i;

	for (i = 0; i < MEMORY_WORDS; i++) {
		uint64_t expected = noise(&seed);

		if (worker->memory[i] != expected)
			complain(worker, "memory word", i, expected,
				 worker->memory[i]);
	}
}

static void *work(void *data)
{
	struct worker *worker = data;
	struct round *round = &worker->round;
	uint64_t fs_word, gs_base, seed = worker->seed;

	asm volatile("movq %%fs:0, %0" : "=r" (fs_word));
	round->self = (uintptr_t)round;
	round->avx = avx;
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, round)) {
		perror("regcheck: arch_prctl");
		exit(2);
	}
	fill_memory(worker, seed);
	while (!stop) {
		fill(worker);
		regcheck_round();
		check(worker, fs_word);
		worker->rounds++;
		if (worker->rounds % 64 == 0) {
			check_memory(worker, seed);
			gs_base = 0;
			syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_base);
			if (gs_base != (uintptr_t)round)
				complain(worker, "gs base", 0, (uintptr_t)round, gs_base);
			seed = noise(&worker->seed);
			fill_memory(worker, seed);
		}
	}
	return NULL;
}

/*
 * Flips one bit of each byte that a round stored, and of the memory: the check
 * must find each flip. Returns the number of flips that it didn't find.
 */
static unsigned int check_the_checks(struct worker *worker)
{
	struct round *round = &worker->round, right;
	uint8_t *bytes = (uint8_t *)round;
	unsigned int missed = 0;
	uint64_t fs_word, seed = 1;
	size_t at;

	asm volatile("movq %%fs:0, %0" : "=r" (fs_word));
	round->self = (uintptr_t)round;
	round->avx = avx;
	syscall(SYS_arch_prctl, ARCH_SET_GS, round);
	fill(worker);
	regcheck_round();
	check(worker, fs_word);
	if (worker->mismatches)
		return 1;
	quiet = true;
	right = *round;
	for (at = 0; at < sizeof(*round); at++) {
		bool looked_at = (at >= ROUND_RSP && at < ROUND_RSP + 8) ||
				 at == ROUND_FLAGS_OUT ||
				 (at >= ROUND_FS_WORD && at < ROUND_FS_WORD + 8) ||
				 (at >= ROUND_MXCSR + 4 && at < ROUND_MXCSR + 8) ||
				 (at >= ROUND_GPR_OUT && at < ROUND_GPR_OUT + GPRS * 8) ||
				 (at >= ROUND_X87_OUT && at < ROUND_X87_OUT + 128 &&
				  at % 16 < 10) ||
				 (at >= ROUND_VEC_OUT && at % 32 < (avx ? 32 : 16));

		worker->mismatches = 0;
		bytes[at] ^= 1;
		check(worker, fs_word);
		if (looked_at && !worker->mismatches)
			missed++;
		*round = right;
	}
	fill_memory(worker, seed);
	worker->memory[MEMORY_WORDS / 2] ^= 1ULL << 40;
	worker->mismatches = 0;
	check_memory(worker, seed);
	if (worker->mismatches != 1)
		missed++;
	return missed;
}

static int usage(int status)
{
	fputs("regcheck [-t THREADS] [-s SECONDS] [-n TURNS] [-b] [-x]\n"
	      "Checks that no register, flag or memory word changes behind a program's back.\n"
	      "Ends after SECONDS (0: at SIGTERM or SIGINT); status 1 when something changed.\n"
	      "  -n  turns of the waiting loop in each round (20000)\n"
	      "  -b  XMM only, even if there is AVX\n"
	      "  -x  check the checks: flip each bit and see that it is found\n"
	      "Example: regcheck -t 4 -s 60\n", status ? stderr : stdout);
	return status;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	unsigned long threads = 2, seconds = 10, i;
	uint64_t rounds = 0, mismatches = 0;
	bool self_check = false;
	struct worker *workers;
	int option;

	avx = __builtin_cpu_supports("avx");
	while ((option = getopt(argc, argv, "t:s:n:bxh")) != -1) {
		switch (option) {
		case 't':
			threads = strtoul(optarg, NULL, 0);
			break;
		case 's':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			turns = strtoull(optarg, NULL, 0);
			break;
		case 'b':
			avx = false;
			break;
		case 'x':
			self_check = true;
			break;
		default:
			return usage(option == 'h' ? 0 : 2);
		}
	}
	if (threads < 1 || threads > THREADS_MAX || turns < 1)
		return usage(2);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGALRM, &action, NULL);

	workers = aligned_alloc(64, threads * sizeof(*workers));
	if (!workers)
		return 2;
	memset(workers, 0, threads * sizeof(*workers));
	for (i = 0; i < threads; i++) {
		workers[i].seed = (i + 1) * 0x9e3779b97f4a7c15ULL;
		workers[i].memory = malloc(MEMORY_WORDS * sizeof(uint64_t));
		if (workers[i].memory && self_check) {
			unsigned int missed = check_the_checks(&workers[i]);

			printf("regcheck: changes not found %u\n", missed);
			return missed != 0;
		}
		if (!workers[i].memory ||
		    pthread_create(&workers[i].thread, NULL, work, &workers[i])) {
			fputs("regcheck: out of memory or threads\n", stderr);
			return 2;
		}
	}
	alarm(seconds);
	for (i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		rounds += workers[i].rounds;
		mismatches += workers[i].mismatches;
	}
	printf("regcheck: threads %lu vectors %s rounds %llu mismatches %llu\n",
	       threads, avx ? "ymm" : "xmm", (unsigned long long)rounds,
	       (unsigned long long)mismatches);
	return mismatches || !rounds;
}
