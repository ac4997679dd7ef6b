// SPDX-License-Identifier: GPL-2.0
/* Queues: chains, notifications, and good requests. */
#include "virtio.h"

/* Looks before the guest gives up: each is an exit of 10 microseconds or more. */
#define PATIENCE	2000000
/* Looks for something that must not happen. */
#define A_WHILE		100

#define SECTOR		1
#define DEVICE_RANDOM	16

void describe(struct queue *q, __u16 index, __u64 address, __u32 length, __u16 flags, __u16 next)
{
	q->desc[index].addr = address;
	q->desc[index].len = length;
	q->desc[index].flags = flags;
	q->desc[index].next = next;
}

void expose(struct queue *q, __u16 head)
{
	q->avail->ring[q->avail->idx % q->size] = head;
	barrier();
	q->avail->idx++;
	barrier();
}

void notify(struct device *d, unsigned int index)
{
	put(d, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

enum outcome await(struct device *d, unsigned int index)
{
	struct queue *q = &d->queue[index];
	unsigned long left;

	for (left = PATIENCE; left; left--) {
		__u32 status = get(d, VIRTIO_MMIO_STATUS);

		if (q->used->idx != q->seen) {
			q->seen++;
			barrier();
			return USED;
		}
		if (status & NEEDS_RESET)
			return BROKEN;
	}
	return SILENT;
}

enum outcome submit(struct device *d, __u16 head)
{
	expose(requests(d), head);
	notify(d, d->requests);
	return await(d, d->requests);
}

volatile struct vring_used_elem *last(struct queue *q)
{
	return &q->used->ring[(__u16)(q->seen - 1) % q->size];
}

int stays_silent(struct device *d, unsigned int index)
{
	struct queue *q = &d->queue[index];
	__u16 before = q->used->idx;
	unsigned int left;

	for (left = A_WHILE; left; left--) {
		get(d, VIRTIO_MMIO_STATUS);
		if (q->used->idx != before)
			return 0;
	}
	return 1;
}

static void good_disk_chain(struct queue *q)
{
	struct virtio_blk_outhdr *header = (void *)pages[0];

	memset(pages[0], 0, sizeof(*header));
	memset(pages[1], 0xee, 512);
	pages[2][0] = 0xff;
	header->sector = SECTOR;
	describe(q, 0, at(header), sizeof(*header), NEXT, 1);
	describe(q, 1, at(pages[1]), 512, WRITE | NEXT, 2);
	describe(q, 2, at(pages[2]), 1, WRITE, 0);
}

/* An ARP request for 10.77.0.1, which the host answers. */
static void good_net_chain(struct queue *q)
{
	static const __u8 frame[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 77, 0, 2,
		0, 0, 0, 0, 0, 0, 10, 77, 0, 1
	};

	memset(pages[0], 0, sizeof(struct virtio_net_hdr_v1));
	memcpy(pages[1], frame, sizeof(frame));
	describe(q, 0, at(pages[0]), sizeof(struct virtio_net_hdr_v1), NEXT, 1);
	describe(q, 1, at(pages[1]), 14, NEXT, 2);
	describe(q, 2, at(pages[1] + 14), sizeof(frame) - 14, 0, 0);
}

static void good_rng_chain(struct queue *q)
{
	unsigned int index;

	for (index = 0; index < 3; index++) {
		memset(pages[index], 0, DEVICE_RANDOM);
		describe(q, index, at(pages[index]), DEVICE_RANDOM, WRITE | (index < 2 ? NEXT : 0), index + 1);
	}
}

void good_chain(struct device *d)
{
	switch (d->type) {
	case VIRTIO_ID_BLOCK:
		good_disk_chain(requests(d));
		break;
	case VIRTIO_ID_NET:
		good_net_chain(requests(d));
		break;
	case VIRTIO_ID_RNG:
		good_rng_chain(requests(d));
		break;
	}
}

const char *answered_well(struct device *d)
{
	__u32 length = last(requests(d))->len;

	if (last(requests(d))->id != 0)
		return "the used element names another chain";
	switch (d->type) {
	case VIRTIO_ID_BLOCK:
		if (pages[2][0] != VIRTIO_BLK_S_OK)
			return "a good read fails";
		/* Each sector begins with its number. */
		if (*(__u64 *)pages[1] != SECTOR || length != 513)
			return "a good read gives other data or another length";
		break;
	case VIRTIO_ID_NET:
		if (length != 0)
			return "a sent frame has a length";
		break;
	case VIRTIO_ID_RNG:
		if (length == 0 || length > 3 * DEVICE_RANDOM)
			return "a request for random bytes has a bad length";
		break;
	}
	return 0;
}

/* The device may interrupt a little after the guest sees why. */
int interrupts(struct device *d, __u32 cause)
{
	unsigned long left;

	for (left = PATIENCE; left; left--)
		if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS) & cause)
			return 1;
	return 0;
}

const char *refuses(struct device *d)
{
	counts(d, FAULTS);
	if (submit(d, 0) != BROKEN)
		return "no DEVICE_NEEDS_RESET";
	return interrupts(d, VIRTIO_MMIO_INT_CONFIG) ? 0 :
		"DEVICE_NEEDS_RESET without a configuration interrupt";
}

const char *works(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request after a reset is not answered";
	failure = answered_well(d);
	/* The next device uses the same rings. */
	reset(d);
	return failure;
}
