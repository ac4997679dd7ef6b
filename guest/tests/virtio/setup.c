// SPDX-License-Identifier: GPL-2.0
/* Setting up queues: sizes, addresses, QueueReady. */
#include "virtio.h"

const char *agree(struct device *d)
{
	unsigned int index;

	if (!negotiate(d, d->offered))
		return "the device refuses features that it offers";
	for (index = 0; index < d->queues; index++)
		prepare_queue(d, index);
	return 0;
}

/* Set up the device's other queues well. */
void set_others(struct device *d)
{
	unsigned int index;

	for (index = 0; index < d->queues; index++)
		if (index != d->requests)
			set_rings(d, index, at(d->queue[index].desc), at(d->queue[index].avail),
				  at(d->queue[index].used));
}

/* With these rings, DRIVER_OK must end in DEVICE_NEEDS_RESET and a configuration interrupt. */
static const char *bad_rings(struct device *d, __u64 desc, __u64 avail, __u64 used)
{
	const char *failure = agree(d);

	if (failure)
		return failure;
	set_others(d);
	set_rings(d, d->requests, desc, avail, used);
	drive(d);
	counts(d, FAULTS);
	if (!(get(d, VIRTIO_MMIO_STATUS) & NEEDS_RESET))
		return "no DEVICE_NEEDS_RESET";
	return interrupts(d, VIRTIO_MMIO_INT_CONFIG) ? 0 :
		"DEVICE_NEEDS_RESET without a configuration interrupt";
}

/* Each of the three parts at a bad address. */
static const char *bad_parts(struct device *d, __u64 desc, __u64 avail, __u64 used)
{
	struct queue *q = requests(d);
	const char *failure;

	prepare_queue(d, d->requests);
	failure = bad_rings(d, desc, at(q->avail), at(q->used));
	if (!failure)
		failure = bad_rings(d, at(q->desc), avail, at(q->used));
	return failure ? failure : bad_rings(d, at(q->desc), at(q->avail), used);
}

static const char *misaligned(struct device *d)
{
	struct queue *q = requests(d);
	const char *failure;

	prepare_queue(d, d->requests);
	failure = bad_parts(d, at(q->desc) + 8, at(q->avail) + 1, at(q->used) + 2);
	return failure ? failure : bad_parts(d, at(q->desc) + 1, at(q->avail) + 3, at(q->used) + 1);
}

static const char *nowhere(struct device *d)
{
	const char *failure = bad_parts(d, NOWHERE, NOWHERE, NOWHERE);

	return failure ? failure : bad_parts(d, BIT(40), BIT(40), BIT(40));
}

static const char *registers(struct device *d)
{
	return bad_parts(d, d->base, d->base, d->base);
}

static const char *memory_end(struct device *d)
{
	__u64 end = MEMORY;

	return bad_parts(d, end - 16, end - 4, end - 4);
}

static const char *address_end(struct device *d)
{
	return bad_parts(d, TOP, TOP + PAGE - 4, TOP + PAGE - 4);
}

/* The size is refused, and the queue cannot be used until a good one is written. */
static const char *bad_size(struct device *d, __u32 size)
{
	struct queue *q = requests(d);
	const char *failure = agree(d);

	if (failure)
		return failure;
	set_others(d);
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	put_bad(d, VIRTIO_MMIO_QUEUE_NUM, size);
	put(d, VIRTIO_MMIO_QUEUE_DESC_LOW, at(q->desc));
	put(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, at(q->avail));
	put(d, VIRTIO_MMIO_QUEUE_USED_LOW, at(q->used));
	put(d, VIRTIO_MMIO_QUEUE_READY, 1);
	drive(d);
	counts(d, FAULTS);
	return get(d, VIRTIO_MMIO_STATUS) & NEEDS_RESET ? 0 : "no DEVICE_NEEDS_RESET";
}

static const char *size_zero(struct device *d)
{
	return bad_size(d, 0);
}

static const char *size_odd(struct device *d)
{
	static const __u32 sizes[] = { 3, 5, 48, 63 };
	const char *failure = 0;
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes) && !failure; i++)
		failure = bad_size(d, sizes[i]);
	return failure;
}

static const char *size_large(struct device *d)
{
	static const __u32 sizes[] = { 512, 32768, 65536, 0x10010, 0x80000000, 0xffffffff };
	const char *failure = 0;
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes) && !failure; i++)
		failure = bad_size(d, sizes[i]);
	return failure;
}

static const char *sizes_work(struct device *d)
{
	struct queue *q = requests(d);
	const char *failure;
	__u16 size, largest;

	prepare_queue(d, d->requests);
	largest = q->size;
	for (size = 4; size <= largest; size *= 2) {
		failure = agree(d);
		if (failure)
			return failure;
		set_others(d);
		q->size = size;
		set_rings(d, d->requests, at(q->desc), at(q->avail), at(q->used));
		drive(d);
		good_chain(d);
		if (submit(d, 0) != USED)
			return "a good request is not answered";
		failure = answered_well(d);
		if (failure)
			return failure;
	}
	return 0;
}

const struct rule setup_rules[] = {
	{
		"ring-misaligned", "2.7.1",
		"Descriptor table, available and used ring are aligned to 16, 2 and 4 bytes",
		"Places each of them beside such an address",
		"DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, misaligned,
	},
	{
		"ring-nowhere", "2.7, 4.2.2",
		"The rings lie in the guest's memory",
		"Places each of them where no memory is, below and above 4 GiB",
		"DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, nowhere,
	},
	{
		"ring-in-registers", "2.7, 4.2.2",
		"The rings lie in the guest's memory",
		"Places each of them in the device's registers",
		"DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, registers,
	},
	{
		"ring-memory-end", "2.7, 4.2.2",
		"The rings lie in the guest's memory",
		"Places each of them so that only its start is in memory",
		"DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, memory_end,
	},
	{
		"ring-address-end", "2.7, 4.2.2",
		"The rings lie in the guest's memory",
		"Places each of them so that its end passes 2^64",
		"DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, address_end,
	},
	{
		"size-zero", "2.7, 4.2.3.2",
		"A queue has entries",
		"Writes size 0, then goes on",
		"Refuses the size; DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, size_zero,
	},
	{
		"size-odd", "2.7",
		"The size is a power of 2",
		"Writes 3, 5, 48 and 63",
		"Refuses the size; DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, size_odd,
	},
	{
		"size-large", "4.2.2.2",
		"The size is at most QueueSizeMax",
		"Writes 512, 32768, 65536, 0x10010, 2^31 and 0xffffffff",
		"Refuses the size; DEVICE_NEEDS_RESET at DRIVER_OK",
		ON_ALL, size_large,
	},
	{
		"size-good", "4.2.2.2",
		"Each power of 2 up to QueueSizeMax is a good size",
		"Serves a request with each from 4",
		"Answers it",
		ON_ALL, sizes_work,
	},
	{ }
};
