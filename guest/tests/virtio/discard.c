// SPDX-License-Identifier: GPL-2.0
/* Discard and write zeroes requests of a disk. */
#include "virtio.h"

static struct virtio_blk_discard_write_zeroes *segment(unsigned int index, __u64 sector, __u32 count, __u32 flags)
{
	struct virtio_blk_discard_write_zeroes *s = (void *)pages[1];

	s[index].sector = sector;
	s[index].num_sectors = count;
	s[index].flags = flags;
	return s;
}

static const char *segments(struct device *d, __u32 type, __u32 most)
{
	const char *failure;
	__u64 end = disk_capacity(d);
	unsigned int i;

	for (i = 0; i <= most; i++)
		segment(i, SCRATCH, 1, 0);
	failure = disk_fails(d, type, 0, 16 * (most + 1), 0);
	if (!failure)
		failure = disk_fails(d, type, 0, 15, 0);
	if (!failure)
		failure = disk_fails(d, type, 0, 17, 0);
	if (!failure)
		failure = disk_fails(d, type, 0, 0, 0);
	if (failure)
		return failure;
	segment(0, end, 1, 0);
	failure = disk_fails(d, type, 0, 16, 0);
	segment(0, end - 1, 2, 0);
	if (!failure)
		failure = disk_fails(d, type, 0, 16, 0);
	segment(0, ~0ull, 1, 0);
	if (!failure)
		failure = disk_fails(d, type, 0, 16, 0);
	segment(0, 0, 0xffffffff, 0);
	return failure ? failure : disk_fails(d, type, 0, 16, 0);
}

static const char *bad_discards(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	if (!(d->offered & BIT(VIRTIO_BLK_F_DISCARD)))
		return "DISCARD is not offered";
	return segments(d, VIRTIO_BLK_T_DISCARD, DISK_CONFIG(max_discard_seg));
}

static const char *bad_zeroes(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	if (!(d->offered & BIT(VIRTIO_BLK_F_WRITE_ZEROES)))
		return "WRITE_ZEROES is not offered";
	return segments(d, VIRTIO_BLK_T_WRITE_ZEROES, DISK_CONFIG(max_write_zeroes_seg));
}

static const char *discard_flags(struct device *d)
{
	static const __u32 flags[] = { 1, 2, 3, 0x80000000 };
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	for (i = 0; i < sizeof(flags) / sizeof(*flags) && !failure; i++) {
		segment(0, SCRATCH, 1, flags[i]);
		failure = disk_refuses(d, VIRTIO_BLK_T_DISCARD, 0, 16, 0);
	}
	/* Only in the second segment. */
	if (failure)
		return failure;
	memset(pages[1], 0x77, 512);
	if (disk_write(d, SCRATCH, 512))
		return "a write fails";
	segment(0, SCRATCH, 1, 0);
	segment(1, SCRATCH, 1, 1);
	return disk_refuses(d, VIRTIO_BLK_T_DISCARD, 0, 32, 0);
}

static const char *zero_flags(struct device *d)
{
	static const __u32 flags[] = { 2, 3, 0x80000000 };
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	for (i = 0; i < sizeof(flags) / sizeof(*flags) && !failure; i++) {
		segment(0, SCRATCH, 1, flags[i]);
		failure = disk_refuses(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
	}
	return failure;
}

static const char *good_zeroes(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	__u32 unmap, i;

	if (failure)
		return failure;
	for (unmap = 0; unmap <= 1; unmap++) {
		memset(pages[1], 0x77, 512);
		if (disk_write(d, SCRATCH, 512))
			return "a write fails";
		segment(0, SCRATCH, 1, unmap);
		if (disk_request(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, pages[1], 16, 0))
			return "the request fails";
		memset(pages[1], 0x77, 512);
		if (disk_read(d, SCRATCH, 512))
			return "a read fails";
		for (i = 0; i < 512; i++)
			if (pages[1][i])
				return "the sector is not zero";
	}
	return 0;
}

static const char *without_features(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);

	if (failure)
		return failure;
	segment(0, SCRATCH, 1, 0);
	failure = disk_refuses(d, VIRTIO_BLK_T_DISCARD, 0, 16, 0);
	return failure ? failure : disk_refuses(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
}

const struct rule discard_rules[] = {
	{
		"discard-segments", "5.2.6.1",
		"A discard has 1 to max_discard_seg whole segments inside the capacity",
		"Sends one more, parts, none, and segments outside",
		"IOERR",
		ON_DISK, bad_discards,
	},
	{
		"discard-flags", "5.2.6.2",
		"A discard with unmap or an unknown flag is unsupported",
		"Sets each, also in the second segment",
		"UNSUPP",
		ON_DISK, discard_flags,
	},
	{
		"zeroes-segments", "5.2.6.1",
		"A write zeroes request has 1 to max_write_zeroes_seg whole segments inside the capacity",
		"Sends one more, parts, none, and segments outside",
		"IOERR",
		ON_DISK, bad_zeroes,
	},
	{
		"zeroes-flags", "5.2.6.2",
		"A write zeroes request with an unknown flag is unsupported",
		"Sets flags other than unmap",
		"UNSUPP",
		ON_DISK, zero_flags,
	},
	{
		"zeroes-read", "5.2.6.2",
		"After a write zeroes request the sectors read as zeroes, with and without unmap",
		"Writes, zeroes and reads a sector, both ways",
		"Zeroes",
		ON_DISK, good_zeroes,
	},
	{
		"disk-no-feature", "5.2.3, 5.2.6",
		"Discard and write zeroes need their features",
		"Sends both without the features",
		"UNSUPP",
		ON_DISK | ON_READ_ONLY, without_features,
	},
	{ }
};
