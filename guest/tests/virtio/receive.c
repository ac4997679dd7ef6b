// SPDX-License-Identifier: GPL-2.0
/* Received frames. The host answers good_chain()'s ARP request with an ARP reply of 42 bytes. */
#include "virtio.h"

#define REPLY		42
#define MERGE		BIT(VIRTIO_NET_F_MRG_RXBUF)

/* Give COUNT buffers of SIZE bytes for received frames, and ask for an ARP reply. */
static const char *ask(struct device *d, unsigned int count, __u32 size, __u16 flags)
{
	struct queue *q = &d->queue[RECEIVE];
	unsigned int i;

	for (i = 0; i < count; i++) {
		memset(pages[4 + i], 0xee, PAGE);
		describe(q, i, at(pages[4 + i]), size, flags, 0);
		expose(q, i);
	}
	notify(d, RECEIVE);
	good_chain(d);
	return sends(d);
}

static const char *check_header(__u16 buffers)
{
	struct virtio_net_hdr_v1 *h = (void *)pages[4];

	if (h->flags || h->gso_type)
		return "flags or gso_type are not 0";
	return h->num_buffers == buffers ? 0 : "num_buffers is wrong";
}

static const char *receives(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);
	struct queue *q = &d->queue[RECEIVE];

	if (!failure)
		failure = ask(d, 1, 2048, WRITE);
	if (failure)
		return failure;
	if (await(d, RECEIVE) != USED)
		return "no frame";
	if (last(q)->len != FRAME_HEADER + REPLY)
		return "another length";
	if (pages[4][FRAME_HEADER + 12] != 8 || pages[4][FRAME_HEADER + 13] != 6)
		return "another frame";
	return check_header(1);
}

static const char *merges(struct device *d)
{
	const char *failure = start_device(d, MERGE);
	struct queue *q = &d->queue[RECEIVE];
	const __u32 size = 20;
	__u32 left = FRAME_HEADER + REPLY;
	unsigned int i;

	if (!failure)
		failure = ask(d, 4, size, WRITE);
	if (failure)
		return failure;
	for (i = 0; left; i++) {
		__u32 length = left < size ? left : size;

		if (await(d, RECEIVE) != USED)
			return "fewer buffers than the frame needs";
		if (last(q)->id != i || last(q)->len != length)
			return "a buffer is not used completely";
		left -= length;
	}
	return check_header(i);
}

static const char *no_merge(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);

	if (!failure)
		failure = ask(d, 4, 20, WRITE);
	if (failure)
		return failure;
	return stays_silent(d, RECEIVE) ? 0 : "the frame is spread over buffers, or cut off";
}

static const char *small_buffer(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (!failure)
		failure = ask(d, 1, FRAME_HEADER - 1, WRITE);
	counts(d, FAULTS);
	if (failure)
		return failure;
	return await(d, RECEIVE) == BROKEN ? 0 : "no DEVICE_NEEDS_RESET";
}

static const char *readable_buffer(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (!failure)
		failure = ask(d, 1, 2048, 0);
	counts(d, FAULTS);
	if (failure)
		return failure;
	if (await(d, RECEIVE) != BROKEN)
		return "no DEVICE_NEEDS_RESET";
	return pages[4][0] == 0xee ? 0 : "the device writes a buffer that it may only read";
}

static const char *before_buffers(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);

	if (failure)
		return failure;
	/* The reply waits for a buffer. */
	good_chain(d);
	failure = sends(d);
	if (failure)
		return failure;
	stays_silent(d, RECEIVE);
	describe(&d->queue[RECEIVE], 0, at(pages[4]), 2048, WRITE, 0);
	expose(&d->queue[RECEIVE], 0);
	notify(d, RECEIVE);
	if (await(d, RECEIVE) != USED)
		return "no frame";
	return check_header(1);
}

const struct rule receive_rules[] = {
	{
		"receive-good", "5.1.6.3.2, 5.1.6.4.1",
		"Without features a frame comes in one buffer: num_buffers 1, flags and gso_type 0",
		"Receives an ARP reply",
		"As the rule says; the used length is that of header and frame",
		ON_NET, receives,
	},
	{
		"receive-merged", "5.1.6.3.2, 5.1.6.4.1",
		"With MRG_RXBUF num_buffers says how many buffers a frame needs, and all but the last are full",
		"Receives a frame into buffers of 20 bytes",
		"As the rule says",
		ON_NET, merges,
	},
	{
		"receive-not-merged", "5.1.6.3.2",
		"Without MRG_RXBUF a device uses one buffer for a frame",
		"Gives it buffers that are too small",
		"Drops the frame and keeps the buffers",
		ON_NET, no_merge,
	},
	{
		"receive-small", "5.1.6.3.1",
		"A buffer for received frames has at least 12 bytes",
		"Gives the device one of 11 bytes",
		"DEVICE_NEEDS_RESET",
		ON_NET, small_buffer,
	},
	{
		"receive-readable", "5.1.6.3",
		"The device writes received frames",
		"Gives it a buffer that it may only read",
		"DEVICE_NEEDS_RESET; the buffer is as before",
		ON_NET, readable_buffer,
	},
	{
		"receive-later", "5.1.6.3",
		"Frames wait for buffers",
		"Gives the device a buffer after the frame has come",
		"Receives the frame",
		ON_NET, before_buffers,
	},
	{ }
};
