// SPDX-License-Identifier: GPL-2.0
/* QueueReady, and queues that do not exist. */
#include "virtio.h"

static const char *no_queue(struct device *d)
{
	static const __u32 indices[] = { 2, 3, 0x10000, 0xffffffff };
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < sizeof(indices) / sizeof(*indices); i++) {
		put(d, VIRTIO_MMIO_QUEUE_SEL, indices[i]);
		if (get(d, VIRTIO_MMIO_QUEUE_NUM_MAX) || get(d, VIRTIO_MMIO_QUEUE_READY))
			return "a queue that does not exist";
		put_bad(d, VIRTIO_MMIO_QUEUE_NUM, 8);
		put_bad(d, VIRTIO_MMIO_QUEUE_READY, 1);
		put_bad(d, VIRTIO_MMIO_QUEUE_READY, 0);
	}
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

static const char *while_ready(struct device *d)
{
	struct queue *q = requests(d);
	const char *failure = agree(d);
	__u32 offset;

	if (failure)
		return failure;
	set_others(d);
	set_rings(d, d->requests, at(q->desc), at(q->avail), at(q->used));
	put_bad(d, VIRTIO_MMIO_QUEUE_NUM, 4);
	for (offset = VIRTIO_MMIO_QUEUE_DESC_LOW; offset <= VIRTIO_MMIO_QUEUE_USED_LOW; offset += 16) {
		put_bad(d, offset, NOWHERE);
		put_bad(d, offset + 4, 1);
	}
	drive(d);
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a write has had an effect";
	return answered_well(d);
}

static const char *too_early(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	put(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	put_bad(d, VIRTIO_MMIO_QUEUE_NUM, 8);
	put_bad(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
	put_bad(d, VIRTIO_MMIO_QUEUE_READY, 1);
	return get(d, VIRTIO_MMIO_QUEUE_READY) ? "QueueReady is set" : 0;
}

static const char *too_late(struct device *d)
{
	struct queue *q = requests(d);
	const char *failure = agree(d);

	if (failure)
		return failure;
	drive(d);
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	put_bad(d, VIRTIO_MMIO_QUEUE_DESC_LOW, at(q->desc));
	put_bad(d, VIRTIO_MMIO_QUEUE_READY, 1);
	return get(d, VIRTIO_MMIO_QUEUE_READY) ? "QueueReady is set" : 0;
}

static const char *other_ready(struct device *d)
{
	static const __u32 values[] = { 2, 3, 0x101, 0xffffffff };
	const char *failure = agree(d);
	unsigned int i;

	if (failure)
		return failure;
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	for (i = 0; i < sizeof(values) / sizeof(*values); i++) {
		put_bad(d, VIRTIO_MMIO_QUEUE_READY, values[i]);
		if (get(d, VIRTIO_MMIO_QUEUE_READY))
			return "QueueReady is set";
	}
	return 0;
}

static const char *turned_off(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	if (get(d, VIRTIO_MMIO_QUEUE_READY) != 1)
		return "QueueReady is not 1";
	put(d, VIRTIO_MMIO_QUEUE_READY, 0);
	if (get(d, VIRTIO_MMIO_QUEUE_READY))
		return "QueueReady is not 0";
	good_chain(d);
	expose(q, 0);
	notify(d, d->requests);
	return stays_silent(d, d->requests) ? 0 : "the device uses a buffer of the queue";
}

static const char *no_rings(struct device *d)
{
	const char *failure = agree(d);

	if (failure)
		return failure;
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	put(d, VIRTIO_MMIO_QUEUE_READY, 1);
	put(d, VIRTIO_MMIO_QUEUE_DESC_LOW, NOWHERE);
	counts(d, BAD_ACCESSES);
	/* Address 0 is memory: nothing is available there, as this guest does not use it. */
	drive(d);
	notify(d, d->requests);
	return get(d, VIRTIO_MMIO_STATUS) & DRIVER_OK ? 0 : "DRIVER_OK is not set";
}

const struct rule ready_rules[] = {
	{
		"ring-none", "4.2.3.2",
		"A driver writes the addresses before QueueReady",
		"Sets QueueReady, then an address, then DRIVER_OK",
		"Ignores the address and serves nothing",
		ON_ALL, no_rings,
	},
	{
		"queue-missing", "4.2.2, 4.2.3.2",
		"A queue that does not exist has QueueSizeMax 0",
		"Selects such queues on a live device; writes QueueSize and QueueReady",
		"Reads as 0; ignores the writes and goes on",
		ON_ALL, no_queue,
	},
	{
		"queue-ready-writes", "4.2.2.2",
		"A driver does not write size and addresses of a queue that is ready",
		"Writes all of them",
		"Ignores the writes; the queue works with the earlier values",
		ON_ALL, while_ready,
	},
	{
		"queue-early", "3.1.1",
		"A driver sets up queues after FEATURES_OK",
		"Sets one up after DRIVER",
		"Ignores the writes",
		ON_ALL, too_early,
	},
	{
		"queue-late", "3.1.1",
		"A driver sets up queues before DRIVER_OK",
		"Sets one up after DRIVER_OK",
		"Ignores the writes",
		ON_ALL, too_late,
	},
	{
		"queue-ready-values", "4.2.2",
		"QueueReady is 0 or 1",
		"Writes other values",
		"Ignores the writes",
		ON_ALL, other_ready,
	},
	{
		"queue-off", "4.2.2.1, 4.2.2.2",
		"A device does not touch a queue whose QueueReady is 0",
		"Writes 0 on a live device, reads it back, then makes a request available",
		"Reads as 0; the request stays where it is",
		ON_ALL, turned_off,
	},
	{ }
};
