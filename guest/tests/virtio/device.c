// SPDX-License-Identifier: GPL-2.0
/* Devices: where they are, how a driver starts them. */
#include "virtio.h"

#define FIRST_DEVICE	0xd0000000ull
#define DEVICE_STRIDE	0x1000
#define MAGIC		0x74726976

/* One device works at a time, so all of them share the memory. */
static _Alignas(PAGE) __u8 descriptors[MOST_QUEUES][PAGE];
static _Alignas(PAGE) __u8 available[MOST_QUEUES][PAGE];
static _Alignas(PAGE) __u8 used[MOST_QUEUES][PAGE];

_Alignas(PAGE) __u8 pages[16][PAGE];
_Alignas(PAGE) volatile struct vring_desc table[MOST_SIZE + 16];

void *memset(void *to, int value, unsigned long count)
{
	void *start = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, unsigned long count)
{
	void *start = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return start;
}

int memcmp(const void *one, const void *other, unsigned long count)
{
	const __u8 *a = one, *b = other;

	for (; count; count--, a++, b++)
		if (*a != *b)
			return *a - *b;
	return 0;
}

static __u64 read_offered(struct device *d)
{
	__u64 low;

	put(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = get(d, VIRTIO_MMIO_DEVICE_FEATURES);
	put(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	return low | (__u64)get(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

/* The names that the test gives: a disk, a read-only disk, an interface. */
static void name(struct device *d, unsigned int disks)
{
	d->queues = 1;
	switch (d->type) {
	case VIRTIO_ID_BLOCK:
		d->name = disks ? "virtio-blk.readonly" : "virtio-blk.disk";
		d->bit = disks ? ON_READ_ONLY : ON_DISK;
		break;
	case VIRTIO_ID_NET:
		d->name = "virtio-net.net0";
		d->bit = ON_NET;
		d->requests = 1;
		d->queues = 2;
		break;
	case VIRTIO_ID_RNG:
		d->name = "virtio-rng";
		d->bit = ON_RNG;
		break;
	}
}

unsigned int find_devices(struct device *devices)
{
	unsigned int found = 0, disks = 0;
	struct device *d;

	for (;; found++) {
		d = &devices[found];
		d->base = FIRST_DEVICE + found * DEVICE_STRIDE;
		if (get(d, VIRTIO_MMIO_MAGIC_VALUE) != MAGIC)
			return found;
		d->type = get(d, VIRTIO_MMIO_DEVICE_ID);
		d->offered = read_offered(d);
		name(d, disks);
		disks += d->type == VIRTIO_ID_BLOCK;
	}
}

void reset(struct device *d)
{
	put(d, VIRTIO_MMIO_STATUS, 0);
	counts(d, RESETS);
}

void write_features(struct device *d, __u64 features)
{
	put(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES, features);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES, features >> 32);
}

int negotiate(struct device *d, __u64 features)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	write_features(d, features);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	return (get(d, VIRTIO_MMIO_STATUS) & FEATURES_OK) != 0;
}

void set_rings(struct device *d, unsigned int index, __u64 desc, __u64 avail, __u64 used)
{
	put(d, VIRTIO_MMIO_QUEUE_SEL, index);
	put(d, VIRTIO_MMIO_QUEUE_NUM, d->queue[index].size);
	put(d, VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
	put(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, desc >> 32);
	put(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail);
	put(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, avail >> 32);
	put(d, VIRTIO_MMIO_QUEUE_USED_LOW, used);
	put(d, VIRTIO_MMIO_QUEUE_USED_HIGH, used >> 32);
	put(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

void prepare_queue(struct device *d, unsigned int index)
{
	struct queue *q = &d->queue[index];

	put(d, VIRTIO_MMIO_QUEUE_SEL, index);
	q->size = get(d, VIRTIO_MMIO_QUEUE_NUM_MAX);
	q->seen = 0;
	q->desc = (void *)descriptors[index];
	q->avail = (void *)available[index];
	q->used = (void *)used[index];
	memset(descriptors[index], 0, 16 * q->size);
	memset(available[index], 0, 6 + 2 * q->size);
	memset(used[index], 0, 6 + 8 * q->size);
	barrier();
}

void drive(struct device *d)
{
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

const char *start_device(struct device *d, __u64 features)
{
	unsigned int index;
	struct queue *q;

	if (!negotiate(d, (features & d->offered) | VERSION_1))
		return "the device refuses features that it offers";
	for (index = 0; index < d->queues; index++) {
		q = &d->queue[index];
		prepare_queue(d, index);
		set_rings(d, index, at(q->desc), at(q->avail), at(q->used));
	}
	drive(d);
	if (get(d, VIRTIO_MMIO_STATUS) & NEEDS_RESET)
		return "DEVICE_NEEDS_RESET after a good start";
	return 0;
}
