// SPDX-License-Identifier: GPL-2.0
/* Descriptor chains and indirect tables. */
#include "virtio.h"

/* Change descriptor INDEX of a good chain; the device must refuse the chain. */
static const char *bad_buffer(struct device *d, __u16 index, __u64 address, __u32 length)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	q->desc[index].addr = address;
	q->desc[index].len = length;
	return refuses(d);
}

static const char *bad_next(struct device *d, __u16 index, __u16 next)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	q->desc[index].flags |= NEXT;
	q->desc[index].next = next;
	return refuses(d);
}

static const char *loops(struct device *d)
{
	const char *failure = bad_next(d, 2, 2);

	if (!failure)
		failure = bad_next(d, 2, 1);
	return failure ? failure : bad_next(d, 0, 0);
}

static const char *next_range(struct device *d)
{
	const char *failure = bad_next(d, 1, requests(d)->size);

	return failure ? failure : bad_next(d, 1, 0xffff);
}

static const char *outside(struct device *d)
{
	const char *failure = 0;
	__u16 index;

	for (index = 0; index < 3 && !failure; index++)
		failure = bad_buffer(d, index, NOWHERE, 16);
	return failure ? failure : bad_buffer(d, 1, BIT(40), 512);
}

static const char *in_registers(struct device *d)
{
	return bad_buffer(d, 1, d->base + VIRTIO_MMIO_CONFIG, 16);
}

static const char *over_end(struct device *d)
{
	const char *failure = bad_buffer(d, 1, MEMORY - 256, 512);

	return failure ? failure : bad_buffer(d, 1, at(pages[1]), 0xfffffe00);
}

static const char *overflow(struct device *d)
{
	const char *failure = bad_buffer(d, 1, TOP, 0x2000);

	return failure ? failure : bad_buffer(d, 1, ~0ull, 1);
}

static const char *four_gib(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	__u16 flags = d->type == VIRTIO_ID_NET ? 0 : WRITE;
	__u16 index;

	if (failure)
		return failure;
	for (index = 0; index < q->size; index++)
		describe(q, index, 0, MEMORY, flags | NEXT, index + 1);
	q->desc[q->size - 1].flags = flags;
	return refuses(d);
}

static const char *order(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	q->desc[1].flags = WRITE | NEXT;
	q->desc[2].flags = 0;
	return refuses(d);
}

static const char *empty_buffers(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	__u16 flags;

	if (failure)
		return failure;
	good_chain(d);
	flags = q->desc[1].flags & ~NEXT;
	/* An empty buffer may have any address. */
	describe(q, 3, q->desc[1].addr, q->desc[1].len, flags | NEXT, 2);
	describe(q, 1, NOWHERE, 0, flags | NEXT, 3);
	if (submit(d, 0) != USED)
		return "the request is not answered";
	return answered_well(d);
}

static const char *full_chain(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	__u16 index, flags;
	__u32 length;
	__u64 address;

	if (failure)
		return failure;
	good_chain(d);
	/* The middle buffer in as many descriptors as the queue has left. */
	flags = q->desc[1].flags;
	address = q->desc[1].addr;
	length = q->desc[1].len;
	q->desc[1].len = 1;
	for (index = 3; index < q->size; index++) {
		q->desc[index == 3 ? 1 : index - 1].next = index;
		describe(q, index, address + 1, 0, flags, 2);
	}
	q->desc[q->size - 1].len = length - 1;
	if (submit(d, 0) != USED)
		return "the request is not answered";
	return answered_well(d);
}

static const char *leaves_readable(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	static __u8 before[PAGE];

	if (failure)
		return failure;
	good_chain(d);
	memcpy(before, pages[0], PAGE);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	return memcmp(before, pages[0], PAGE) ? "the device writes a buffer that it may only read" : 0;
}

const struct rule chain_rules[] = {
	{
		"chain-loop", "2.7.5.2",
		"A chain has no loop",
		"Lets a descriptor refer to itself, and two to each other",
		"DEVICE_NEEDS_RESET",
		ON_ALL, loops,
	},
	{
		"chain-full", "2.7.4.1, 2.7.5.3.1",
		"A chain may have as many descriptors as the queue has entries, arranged in any way",
		"Makes such a chain available, most of its buffers empty",
		"Answers it",
		ON_ALL, full_chain,
	},
	{
		"chain-range", "2.7.5",
		"next is an index of the descriptor table",
		"Sets it to the size and to 65535",
		"DEVICE_NEEDS_RESET",
		ON_ALL, next_range,
	},
	{
		"chain-4gib", "2.7.5.2",
		"A chain has at most 2^32 bytes",
		"Makes all descriptors as large as the memory",
		"DEVICE_NEEDS_RESET",
		ON_ALL, four_gib,
	},
	{
		"chain-order", "2.7.4.2",
		"Buffers to be written come after those to be read",
		"Lets one to be read follow one to be written",
		"DEVICE_NEEDS_RESET",
		ON_ALL, order,
	},
	{
		"buffer-empty", "2.7.4.1",
		"A device makes no assumptions about the arrangement of buffers",
		"Adds an empty buffer at an address without memory",
		"Answers the request",
		ON_ALL, empty_buffers,
	},
	{
		"buffer-outside", "2.7.5, 6.1",
		"Buffers lie in the guest's memory",
		"Places each buffer of a request where no memory is, below and above 4 GiB",
		"DEVICE_NEEDS_RESET",
		ON_ALL, outside,
	},
	{
		"buffer-in-registers", "2.7.5, 6.1",
		"Buffers lie in the guest's memory",
		"Places a buffer in the device's registers",
		"DEVICE_NEEDS_RESET",
		ON_ALL, in_registers,
	},
	{
		"buffer-memory-end", "2.7.5, 6.1",
		"Buffers lie in the guest's memory",
		"Lets a buffer go over the end of memory",
		"DEVICE_NEEDS_RESET",
		ON_ALL, over_end,
	},
	{
		"buffer-overflow", "2.7.5, 6.1",
		"Buffers lie in the guest's memory",
		"Lets address plus length pass 2^64",
		"DEVICE_NEEDS_RESET",
		ON_ALL, overflow,
	},
	{
		"buffer-readable", "2.7.5.1",
		"A device writes no buffer that it may only read",
		"Compares it before and after a request",
		"It is as before",
		ON_DISK | ON_NET, leaves_readable,
	},
	{ }
};
