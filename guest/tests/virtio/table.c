// SPDX-License-Identifier: GPL-2.0
/* Indirect tables. */
#include "virtio.h"

static const char *no_table(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE & ~INDIRECT);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	memcpy((void *)table, (void *)q->desc, 3 * 16);
	describe(q, 0, at(table), 3 * 16, TABLE, 0);
	return refuses(d);
}

/* A good request in an indirect table; then descriptor 0 refers to LENGTH bytes at ADDRESS. */
static const char *prepare_table(struct device *d, __u64 address, __u32 length, __u16 flags)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	if (!(d->offered & INDIRECT))
		return "INDIRECT_DESC is not offered";
	good_chain(d);
	memcpy((void *)table, (void *)q->desc, 3 * 16);
	describe(q, 0, address, length, TABLE | flags, 1);
	return 0;
}

static const char *bad_table(struct device *d, __u64 address, __u32 length, __u16 flags)
{
	const char *failure = prepare_table(d, address, length, flags);

	return failure ? failure : refuses(d);
}

static const char *table_next(struct device *d)
{
	return bad_table(d, at(table), 3 * 16, NEXT);
}

static const char *table_length(struct device *d)
{
	static const __u32 lengths[] = { 0, 1, 15, 17, 47, 49, 0xffffffff };
	const char *failure = 0;
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths) && !failure; i++)
		failure = bad_table(d, at(table), lengths[i], 0);
	return failure;
}

static const char *table_outside(struct device *d)
{
	const char *failure = bad_table(d, NOWHERE, 48, 0);

	if (!failure)
		failure = bad_table(d, d->base, 48, 0);
	if (!failure)
		failure = bad_table(d, MEMORY - 16, 48, 0);
	return failure ? failure : bad_table(d, TOP + PAGE - 16, 48, 0);
}

static const char *table_nested(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 3 * 16, 0);

	if (failure)
		return failure;
	memcpy((void *)&table[4], (void *)table, 3 * 16);
	table[0].addr = at(&table[4]);
	table[0].len = 3 * 16;
	table[0].flags = TABLE;
	return refuses(d);
}

static const char *table_loop(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 3 * 16, 0);

	if (failure)
		return failure;
	table[2].flags |= NEXT;
	table[2].next = 2;
	return refuses(d);
}

static const char *table_range(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 3 * 16, 0);

	if (failure)
		return failure;
	table[1].next = 3;
	return refuses(d);
}

static const char *table_long(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 16, 0);
	struct queue *q = requests(d);
	__u16 flags = d->type == VIRTIO_ID_NET ? 0 : WRITE;
	unsigned int count, i;

	if (failure)
		return failure;
	count = q->size + 1;
	for (i = 0; i < count; i++) {
		table[i].addr = at(pages[1]) + i;
		table[i].len = 1;
		table[i].flags = flags | (i + 1 < count ? NEXT : 0);
		table[i].next = i + 1;
	}
	q->desc[0].len = count * 16;
	return refuses(d);
}

static const char *table_write_flag(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 3 * 16, WRITE);

	if (failure)
		return failure;
	if (submit(d, 0) != USED)
		return "the request is not answered";
	return answered_well(d);
}

static const char *table_last(struct device *d)
{
	const char *failure = prepare_table(d, at(table), 2 * 16, 0);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	/* Descriptor 0 as it was, then a table of the other two. */
	describe(q, 0, table[0].addr, table[0].len, table[0].flags, 1);
	describe(q, 1, at(&table[1]), 2 * 16, TABLE, 0);
	table[1].next = 1;
	if (submit(d, 0) != USED)
		return "the request is not answered";
	return answered_well(d);
}

const struct rule table_rules[] = {
	{
		"table-feature", "2.7.5.3.1",
		"A driver uses indirect tables only after VIRTIO_F_INDIRECT_DESC",
		"Uses one without the feature",
		"DEVICE_NEEDS_RESET",
		ON_ALL, no_table,
	},
	{
		"table-nested", "2.7.5.3.1",
		"A table has no indirect descriptors",
		"Lets a table refer to another one",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_nested,
	},
	{
		"table-and-next", "2.7.5.3.1",
		"A descriptor has not both INDIRECT and NEXT",
		"Sets both",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_next,
	},
	{
		"table-length", "2.7.5.3",
		"A table has whole descriptors, at least one",
		"Gives it 0, 1, 15, 17, 47, 49 and 0xffffffff bytes",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_length,
	},
	{
		"table-outside", "2.7.5.3",
		"A table lies in the guest's memory",
		"Places it where no memory is, in registers, over the end of memory, before 2^64",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_outside,
	},
	{
		"table-loop", "2.7.5.2, 2.7.5.3",
		"A chain in a table has no loop",
		"Lets a descriptor of the table refer to itself",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_loop,
	},
	{
		"table-range", "2.7.5.3",
		"next is an index of the table",
		"Sets it to the number of descriptors",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_range,
	},
	{
		"table-long", "2.7.5.3.1",
		"A chain has at most as many descriptors as the device's queue",
		"Uses a table with one more than QueueSizeMax",
		"DEVICE_NEEDS_RESET",
		ON_ALL, table_long,
	},
	{
		"table-write-flag", "2.7.5.3.2",
		"A device ignores WRITE in a descriptor that refers to a table",
		"Sets it",
		"Answers the request",
		ON_ALL, table_write_flag,
	},
	{
		"table-last", "2.7.5.3.2",
		"A device handles descriptors followed by one that refers to a table",
		"Uses such a chain",
		"Answers the request",
		ON_ALL, table_last,
	},
	{ }
};
