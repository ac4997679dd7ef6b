// SPDX-License-Identifier: GPL-2.0
/* Requests of a disk. Sector N begins with N in 8 bytes; the read-only disk, too. */
#include "virtio.h"

/* Sectors with their first contents. */
#define MANY		64

__u64 disk_capacity(struct device *d)
{
	return DISK_CONFIG(capacity) | (__u64)get(d, VIRTIO_MMIO_CONFIG + 4) << 32;
}

struct virtio_blk_outhdr *disk_header(__u32 type, __u64 sector)
{
	struct virtio_blk_outhdr *h = (void *)pages[0];

	h->type = type;
	h->ioprio = 0;
	h->sector = sector;
	pages[2][0] = NO_ANSWER;
	return h;
}

/* Header, one buffer (none if LENGTH is 0), status. */
__u8 send_disk_request(struct device *d, struct virtio_blk_outhdr *h, void *data, __u32 length,
		       int writes)
{
	struct queue *q = requests(d);

	describe(q, 0, at(h), DISK_HEADER, NEXT, length ? 1 : 2);
	describe(q, 1, at(data), length, NEXT | (writes ? WRITE : 0), 2);
	describe(q, 2, at(pages[2]), 1, WRITE, 0);
	return submit(d, 0) == USED ? pages[2][0] : NO_ANSWER;
}

__u8 disk_request(struct device *d, __u32 type, __u64 sector, void *data, __u32 length, int writes)
{
	return send_disk_request(d, disk_header(type, sector), data, length, writes);
}

__u8 disk_read(struct device *d, __u64 sector, __u32 length)
{
	return disk_request(d, VIRTIO_BLK_T_IN, sector, pages[1], length, 1);
}

__u8 disk_write(struct device *d, __u64 sector, __u32 length)
{
	return disk_request(d, VIRTIO_BLK_T_OUT, sector, pages[1], length, 0);
}

/* The device must fail the request, which has one buffer. */
const char *disk_fails(struct device *d, __u32 type, __u64 sector, __u32 length, int writes)
{
	counts(d, REFUSED);
	if (disk_request(d, type, sector, pages[1], length, writes) != VIRTIO_BLK_S_IOERR)
		return "no IOERR";
	/* Only the status has been written, behind the buffer. */
	if (last(requests(d))->len != (writes && length ? 0 : 1))
		return "the used length counts bytes that were not written";
	return 0;
}

const char *disk_refuses(struct device *d, __u32 type, __u64 sector, __u32 length, int writes)
{
	counts(d, UNSUPPORTED);
	if (disk_request(d, type, sector, pages[1], length, writes) != VIRTIO_BLK_S_UNSUPP)
		return "no UNSUPP";
	return 0;
}

static const char *good_requests(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < 1024; i++)
		pages[1][i] = i * 7;
	if (disk_write(d, SCRATCH, 1024) != VIRTIO_BLK_S_OK || last(requests(d))->len != 1)
		return "a write fails, or its used length is not 1";
	if (disk_request(d, VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0) != VIRTIO_BLK_S_OK)
		return "a flush fails";
	memset(pages[1], 0, 1024);
	if (disk_read(d, SCRATCH, 1024) != VIRTIO_BLK_S_OK || last(requests(d))->len != 1025)
		return "a read fails, or its used length is not that of data and status";
	for (i = 0; i < 1024; i++)
		if (pages[1][i] != (__u8)(i * 7))
			return "other data";
	if (disk_read(d, disk_capacity(d) - 1, 512) != VIRTIO_BLK_S_OK)
		return "the last sector cannot be read";
	if (*(__u64 *)pages[1] != disk_capacity(d) - 1)
		return "other data in the last sector";
	return 0;
}

static const char *beyond(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	__u64 end = disk_capacity(d);
	__u64 sectors[] = { end, end + 1, BIT(55), BIT(55) - 1, ~0ull, BIT(63) };
	unsigned int i;

	for (i = 0; i < sizeof(sectors) / sizeof(*sectors) && !failure; i++) {
		failure = disk_fails(d, VIRTIO_BLK_T_IN, sectors[i], 512, 1);
		if (!failure)
			failure = disk_fails(d, VIRTIO_BLK_T_OUT, sectors[i], 512, 0);
	}
	/* The first sector inside, the second one outside. */
	if (!failure)
		failure = disk_fails(d, VIRTIO_BLK_T_IN, end - 1, 1024, 1);
	return failure ? failure : disk_fails(d, VIRTIO_BLK_T_OUT, end - 1, 1024, 0);
}

static const char *on_read_only(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	if (!(d->offered & BIT(VIRTIO_BLK_F_RO)))
		return "RO is not offered";
	memset(pages[1], 0x77, 512);
	failure = disk_fails(d, VIRTIO_BLK_T_OUT, 4, 512, 0);
	if (failure)
		return failure;
	if (disk_read(d, 4, 512) || *(__u64 *)pages[1] != 4)
		return "the sector has changed";
	return 0;
}

/* RO is the device's property, not a choice of the driver. */
static const char *read_only_refused(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE & ~BIT(VIRTIO_BLK_F_RO));

	if (failure)
		return failure;
	return disk_fails(d, VIRTIO_BLK_T_OUT, 4, 512, 0);
}

static const char *padding(struct device *d)
{
	__u32 writeback = VIRTIO_MMIO_CONFIG + __builtin_offsetof(struct virtio_blk_config, wce);
	__u32 may_unmap = VIRTIO_MMIO_CONFIG +
		__builtin_offsetof(struct virtio_blk_config, write_zeroes_may_unmap);

	if (get(d, writeback & ~3u) & 0xff00)
		return "unused0 is not 0";
	return get(d, may_unmap & ~3u) & 0xffffff00 ? "unused1 is not 0" : 0;
}

/* The test makes the disk larger when it reads "resize". */
static const char *resized(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	__u64 before = disk_capacity(d);
	__u32 generation = get(d, VIRTIO_MMIO_CONFIG_GENERATION);

	if (failure)
		return failure;
	print("resize\n");
	if (!interrupts(d, VIRTIO_MMIO_INT_CONFIG))
		return "no configuration interrupt";
	if (disk_capacity(d) <= before)
		return "the old capacity";
	if (get(d, VIRTIO_MMIO_CONFIG_GENERATION) == generation)
		return "the old ConfigGeneration";
	if (disk_read(d, before, 512) != VIRTIO_BLK_S_OK || *(__u64 *)pages[1] != before)
		return "the new part cannot be read";
	return 0;
}

static const char *many(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	struct virtio_blk_outhdr *h = (void *)pages[3];
	unsigned int count = q->size / 4, i;

	if (failure)
		return failure;
	for (i = 0; i < count; i++) {
		h[i].type = VIRTIO_BLK_T_IN;
		h[i].ioprio = 0;
		h[i].sector = MANY + i;
		pages[2][i] = NO_ANSWER;
		*(__u64 *)(pages[4 + i / 8] + i % 8 * 512) = ~0ull;
		describe(q, 3 * i, at(&h[i]), DISK_HEADER, NEXT, 3 * i + 1);
		describe(q, 3 * i + 1, at(pages[4 + i / 8] + i % 8 * 512), 512, WRITE | NEXT, 3 * i + 2);
		describe(q, 3 * i + 2, at(&pages[2][i]), 1, WRITE, 0);
		expose(q, 3 * i);
	}
	notify(d, 0);
	for (i = 0; i < count; i++)
		if (await(d, 0) != USED)
			return "a request is not answered";
	for (i = 0; i < count; i++)
		if (pages[2][i] || *(__u64 *)(pages[4 + i / 8] + i % 8 * 512) != MANY + i)
			return "a request fails, or gives other data";
	return 0;
}

const struct rule block_rules[] = {
	{
		"disk-good", "5.2.6, 2.7.8.2",
		"A read gives what was written; the used length is that of data and status",
		"Writes, flushes and reads two sectors; reads the last one",
		"OK, with lengths 1 and 1025",
		ON_DISK, good_requests,
	},
	{
		"disk-many", "5.2.6",
		"Requests are answered in any order",
		"Makes a queue of reads available with one notification",
		"OK, each with its own data",
		ON_DISK | ON_READ_ONLY, many,
	},
	{
		"disk-capacity", "5.2.6.1",
		"A request stays inside the capacity",
		"Reads and writes at the end, over the end, at sectors whose offset overflows",
		"IOERR",
		ON_DISK, beyond,
	},
	{
		"read-only-write", "5.2.6.2",
		"A write to a read-only disk fails and changes nothing",
		"Writes a sector and reads it",
		"IOERR; the sector is as before",
		ON_READ_ONLY, on_read_only,
	},
	{
		"read-only-refused", "5.2.6.2",
		"A write to a disk that offers RO fails",
		"Does not accept RO, and writes",
		"IOERR",
		ON_READ_ONLY, read_only_refused,
	},
	{
		"disk-padding", "5.2.5.2",
		"unused0 and unused1 of the configuration space are 0",
		"Reads them",
		"0",
		ON_DISK | ON_READ_ONLY, padding,
	},
	{
		"disk-resized", "2.5, 3.2.1, 4.2.2.1, 5.2.6.2",
		"A change of the capacity changes ConfigGeneration and is notified",
		"Lets the test make the disk larger",
		"A configuration interrupt, another generation, the new capacity; the new part can be read",
		ON_DISK, resized,
	},
	{ }
};
