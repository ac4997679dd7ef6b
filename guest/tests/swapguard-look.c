// SPDX-License-Identifier: GPL-2.0
/* swapguard look: one vCPU reads ahead a slot that the other is about to map. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "swapguard.h"

#define BORDERS		8
#define LARGE		(PAGE * 512)	/* of one page-table page */
#define BEHIND		8		/* pages after each border, and slots of a cluster */
#define SEQUENCE	16		/* pages read in turn before each race */
#define PAUSE		"/sys/module/symbiotic/parameters/pause"

/*
 * The page before a border and one behind it: their slots share a cluster, which
 * the kernel reads as a whole, but they have different page tables and thus
 * different locks.
 */
struct pair {
	uint64_t *before, *behind;
};

struct looking {
	struct pair pairs[BORDERS];
	size_t count;
	unsigned char *sequence;
	uint64_t *volatile at;
};

static uint64_t slot_of(int map, const uint64_t *page)
{
	uint64_t entry;

	if (pread(map, &entry, 8, (off_t)((uintptr_t)page / PAGE * 8)) != 8)
		die("pagemap");
	/* Bit 62: swapped; bits 5 to 54: the slot */
	return entry >> 62 & 1 ? entry >> 5 & ((1ULL << 50) - 1) : 0;
}

static void find_pairs(unsigned char *base, struct looking *looking)
{
	int map = open("/proc/self/pagemap", O_RDONLY);
	uint64_t *before, slot, other;
	size_t i, k;

	if (map < 0)
		die("pagemap");
	looking->count = 0;
	for (i = 1; i <= BORDERS; i++) {
		before = (uint64_t *)(base + i * LARGE - PAGE);
		slot = slot_of(map, before);
		for (k = 1; slot && k <= BEHIND; k++) {
			other = slot_of(map, word((unsigned char *)before, k));
			if (other && other / BEHIND == slot / BEHIND)
				break;
		}
		if (slot && k <= BEHIND)
			looking->pairs[looking->count++] =
				(struct pair){ before, word((unsigned char *)before, k) };
	}
	close(map);
}

static bool is_pausing(void)
{
	int file = open(PAUSE, O_RDONLY);
	char text[16] = "";

	if (file < 0 || read(file, text, sizeof(text) - 1) < 1)
		die(PAUSE);
	close(file);
	return atoi(text) == 0;
}

/* Makes the kernel read a slot, and the rest of its cluster, as soon as the other vCPU is between its checks */
static void *read_ahead(void *data)
{
	struct looking *looking = data;
	uint64_t *at = NULL;

	stay_on(1);
	while (1) {
		while (looking->at == at)
			;
		at = looking->at;
		if (!at)
			return NULL;
		while (!is_pausing())
			;
		read_by_kernel(at);
	}
}

static int race_for(struct looking *looking, size_t number)
{
	const struct pair *pair = &looking->pairs[number];
	size_t i;

	/* The kernel reads ahead as much as was useful before: make it useful */
	for (i = 0; i < SEQUENCE; i++)
		read_by_kernel(word(looking->sequence, number * SEQUENCE + i));
	if (put(PAUSE, "100"))
		die(PAUSE);
	looking->at = pair->behind;
	*pair->before = 1000 + number;
	usleep(30000);
	/* Lets the reader go on if bypass did not take part in this fault */
	put(PAUSE, "0");
	put_back((unsigned char *)pair->before, 0, 1);
	if (read_by_kernel(pair->before) != 1000 + number)
		return wrong("older than what was written", number);
	return 0;
}

int guard_look(void)
{
	unsigned char *base = reserve((BORDERS + 1) * LARGE);
	struct looking looking = { 0 };
	pthread_t reader;
	size_t i, k;
	int result = 0;

	read_around_slots();
	looking.sequence = swapped_region(BORDERS * SEQUENCE, 1);
	for (i = 1; i <= BORDERS; i++)
		for (k = 0; k <= BEHIND; k++)
			*word(base + i * LARGE - PAGE, k) = i;
	swap_out(base, (BORDERS + 1) * LARGE / PAGE);
	find_pairs(base, &looking);
	if (pthread_create(&reader, NULL, read_ahead, &looking))
		die("pthread_create");
	stay_on(0);
	for (i = 0; !result && i < looking.count; i++)
		result = race_for(&looking, i);
	put(PAUSE, "0");
	looking.at = NULL;
	pthread_join(reader, NULL);
	if (!result)
		printf("%zu pairs of pages in one cluster, %zu races\n", looking.count, i);
	return result;
}
