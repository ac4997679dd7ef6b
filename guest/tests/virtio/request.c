// SPDX-License-Identifier: GPL-2.0
/* Malformed and unusual requests of a disk. */
#include "virtio.h"

/* Header in three parts; data and status in parts of odd sizes. */
static const char *any_framing(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	struct virtio_blk_outhdr *h;

	if (failure)
		return failure;
	h = disk_header(VIRTIO_BLK_T_IN, 3);
	describe(q, 0, at(h), 1, NEXT, 1);
	describe(q, 1, at(h) + 1, 10, NEXT, 2);
	describe(q, 2, at(h) + 11, 5, NEXT, 3);
	describe(q, 3, at(pages[1]), 5, NEXT | WRITE, 4);
	describe(q, 4, at(pages[1]) + 5, 1, NEXT | WRITE, 5);
	/* The rest of two sectors, and the status behind them. */
	describe(q, 5, at(pages[1]) + 6, 1024 - 6 + 1, WRITE, 0);
	pages[1][1024] = NO_ANSWER;
	if (submit(d, 0) != USED || pages[1][1024] != VIRTIO_BLK_S_OK)
		return "the request fails";
	return *(__u64 *)pages[1] == 3 && *(__u64 *)(pages[1] + 512) == 4 ? 0 : "other data";
}

static const char *unknown_types(struct device *d)
{
	/* Barrier and SCSI of old, lifetime, secure erase, zones, and undefined ones. */
	static const __u32 types[] = {
		2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 18, 20, 22, 24, 26, 27, 100, 0x80000000,
		0x80000001, 0xffffffff
	};
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	for (i = 0; i < sizeof(types) / sizeof(*types) && !failure; i++)
		failure = disk_refuses(d, types[i], 0, 512, 1);
	return failure;
}

static const char *part_sectors(struct device *d)
{
	static const __u32 lengths[] = { 1, 511, 513, 1023 };
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths) && !failure; i++) {
		failure = disk_fails(d, VIRTIO_BLK_T_IN, 0, lengths[i], 1);
		if (!failure)
			failure = disk_fails(d, VIRTIO_BLK_T_OUT, 0, lengths[i], 0);
	}
	return failure;
}

static const char *no_status(struct device *d, __u32 type, __u32 data)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	describe(q, 0, at(disk_header(type, 0)), DISK_HEADER, data ? NEXT : 0, 1);
	describe(q, 1, at(pages[1]), data, 0, 0);
	return refuses(d);
}

static const char *without_status(struct device *d)
{
	const char *failure = no_status(d, VIRTIO_BLK_T_FLUSH, 0);

	return failure ? failure : no_status(d, VIRTIO_BLK_T_OUT, 512);
}

static const char *short_header(struct device *d)
{
	static const __u32 lengths[] = { 0, 1, 8, 15 };
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths) && !failure; i++) {
		describe(q, 0, at(disk_header(VIRTIO_BLK_T_FLUSH, 0)), lengths[i], NEXT, 1);
		describe(q, 1, at(pages[2]), 1, WRITE, 0);
		counts(d, REFUSED);
		if (submit(d, 0) != USED || pages[2][0] != VIRTIO_BLK_S_IOERR)
			failure = "no IOERR";
	}
	return failure;
}

/* A writable header is room for data; the status is still the last byte. */
static const char *writable_header(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	describe(q, 0, at(disk_header(VIRTIO_BLK_T_IN, 0)), DISK_HEADER, WRITE | NEXT, 1);
	describe(q, 1, at(pages[1]), 512, WRITE | NEXT, 2);
	describe(q, 2, at(pages[2]), 1, WRITE, 0);
	counts(d, REFUSED);
	if (submit(d, 0) != USED || pages[2][0] != VIRTIO_BLK_S_IOERR)
		return "no IOERR";
	return 0;
}

static const char *wrong_direction(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (!failure)
		failure = disk_fails(d, VIRTIO_BLK_T_IN, 0, 512, 0);
	return failure ? failure : disk_fails(d, VIRTIO_BLK_T_OUT, 0, 512, 1);
}

static const char *odd_flush(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	if (disk_request(d, VIRTIO_BLK_T_FLUSH, 1, 0, 0, 0) != VIRTIO_BLK_S_OK)
		return "a flush with a sector fails";
	if (disk_request(d, VIRTIO_BLK_T_FLUSH, 0, pages[1], 512, 0) != VIRTIO_BLK_S_OK)
		return "a flush with data fails";
	return 0;
}

static const char *priority(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct virtio_blk_outhdr *h = disk_header(VIRTIO_BLK_T_IN, 2);

	if (failure)
		return failure;
	h->ioprio = 0xffffffff;
	if (send_disk_request(d, h, pages[1], 512, 1) != VIRTIO_BLK_S_OK)
		return "the request fails";
	return *(__u64 *)pages[1] == 2 ? 0 : "other data";
}

static const char *identifier(struct device *d)
{
	static const __u8 wanted[VIRTIO_BLK_ID_BYTES] = "disk";
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	memset(pages[1], 0xee, 64);
	if (disk_request(d, VIRTIO_BLK_T_GET_ID, 0, pages[1], VIRTIO_BLK_ID_BYTES, 1))
		return "the request fails";
	if (memcmp(pages[1], wanted, VIRTIO_BLK_ID_BYTES) || last(requests(d))->len != 21)
		return "another name or length";
	failure = disk_fails(d, VIRTIO_BLK_T_GET_ID, 0, 19, 1);
	if (!failure)
		failure = disk_fails(d, VIRTIO_BLK_T_GET_ID, 0, 21, 1);
	if (!failure)
		failure = disk_fails(d, VIRTIO_BLK_T_GET_ID, 0, 20, 0);
	return failure ? failure : disk_fails(d, VIRTIO_BLK_T_GET_ID, 0, 0, 1);
}

const struct rule request_rules[] = {
	{
		"disk-framing", "2.7.4.1",
		"A device makes no assumptions about the arrangement of buffers",
		"Splits header and data at odd places, status in the last data buffer",
		"OK",
		ON_DISK | ON_READ_ONLY, any_framing,
	},
	{
		"disk-types", "5.2.6, 5.2.6.2",
		"A request of an unknown type, or of a feature that is not there, is unsupported",
		"Sends 21 such types, with zones, lifetime, secure erase and SCSI",
		"UNSUPP",
		ON_DISK | ON_READ_ONLY, unknown_types,
	},
	{
		"disk-part-sector", "5.2.6.1",
		"Data of reads and writes are multiples of 512 bytes",
		"Reads and writes 1, 511, 513 and 1023 bytes",
		"IOERR",
		ON_DISK, part_sectors,
	},
	{
		"disk-no-status", "5.2.6",
		"A request ends with a status byte",
		"Sends a flush and a write without one",
		"DEVICE_NEEDS_RESET: there is no place for an answer",
		ON_DISK | ON_READ_ONLY, without_status,
	},
	{
		"disk-short-header", "5.2.6",
		"A request begins with a header of 16 bytes",
		"Sends 0, 1, 8 and 15 bytes",
		"IOERR",
		ON_DISK, short_header,
	},
	{
		"disk-writable-header", "5.2.6",
		"The device reads the header",
		"Sends a header that the device may only write",
		"IOERR in the last byte",
		ON_DISK, writable_header,
	},
	{
		"disk-direction", "5.2.6",
		"The device writes the data of a read, and reads those of a write",
		"Sends both with data of the other direction",
		"IOERR",
		ON_DISK, wrong_direction,
	},
	{
		"disk-flush", "5.2.6.1",
		"A flush has sector 0 and no data",
		"Sends a flush with a sector, and one with data",
		"OK: flushes everything",
		ON_DISK, odd_flush,
	},
	{
		"disk-reserved", "5.2.6",
		"The field reserved has no meaning",
		"Sets all its bits",
		"OK",
		ON_DISK, priority,
	},
	{
		"disk-id", "5.2.6.1",
		"The data of a request for the ID have 20 bytes",
		"Asks with 20, 19, 21 and 0 bytes, and with 20 of the other direction",
		"OK with the ID for 20, else IOERR",
		ON_DISK, identifier,
	},
	{ }
};
