// SPDX-License-Identifier: GPL-2.0
/* Registers of the MMIO transport, the configuration space, interrupts. */
#include "virtio.h"

#define CONFIG		VIRTIO_MMIO_CONFIG
#define QUEUE_RESET	0x0c0
#define END		0x200

static __u64 get64(struct device *d, __u32 offset)
{
	return *(volatile __u64 *)(d->base + offset);
}

static void put64(struct device *d, __u32 offset, __u64 value)
{
	*(volatile __u64 *)(d->base + offset) = value;
}

static const char *identity(struct device *d)
{
	if (get(d, VIRTIO_MMIO_MAGIC_VALUE) != 0x74726976)
		return "another magic value";
	if (get(d, VIRTIO_MMIO_VERSION) != 2)
		return "another version";
	return get(d, VIRTIO_MMIO_DEVICE_ID) == d->type && d->type ? 0 : "another device ID";
}

static const char *narrow_reads(struct device *d)
{
	__u32 offset;

	reset(d);
	for (offset = 0; offset < CONFIG; offset += 4) {
		__u64 seen = get8(d, offset) | get16(d, offset) | get16(d, offset + 2);

		counts(d, BAD_ACCESSES);
		counts(d, BAD_ACCESSES);
		counts(d, BAD_ACCESSES);
		if (offset % 8 == 0) {
			seen |= get64(d, offset);
			counts(d, BAD_ACCESSES);
		}
		if (seen)
			return "a register answers another width";
	}
	return 0;
}

static const char *odd_reads(struct device *d)
{
	static const __u32 offsets[] = { 1, 2, 3, 0x6e, 0x72 };
	unsigned int i;

	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		counts(d, BAD_ACCESSES);
		if (get(d, offsets[i]))
			return "a read between two registers is answered";
	}
	return 0;
}

static const char *narrow_writes(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	put8(d, VIRTIO_MMIO_STATUS, 0);
	put16(d, VIRTIO_MMIO_STATUS, 0);
	put64(d, VIRTIO_MMIO_STATUS, 0);
	put16(d, VIRTIO_MMIO_QUEUE_NOTIFY, d->requests);
	put8(d, VIRTIO_MMIO_QUEUE_NOTIFY, d->requests);
	put64(d, VIRTIO_MMIO_QUEUE_DESC_LOW, NOWHERE);
	put(d, VIRTIO_MMIO_STATUS + 2, 0);
	for (i = 0; i < 7; i++)
		counts(d, BAD_ACCESSES);
	if (!(get(d, VIRTIO_MMIO_STATUS) & DRIVER_OK))
		return "another width resets the device";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

static const char *read_only(struct device *d)
{
	static const __u32 offsets[] = {
		VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_VERSION, VIRTIO_MMIO_DEVICE_ID,
		VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_QUEUE_NUM_MAX,
		VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_SHM_LEN_HIGH,
		VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_CONFIG_GENERATION
	};
	unsigned int i;

	reset(d);
	put(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	put(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		__u32 before = get(d, offsets[i]);

		put_bad(d, offsets[i], ~before);
		if (get(d, offsets[i]) != before)
			return "a read-only register has changed";
	}
	return 0;
}

static const char *write_only(struct device *d)
{
	static const __u32 offsets[] = {
		VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DRIVER_FEATURES,
		VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_NUM,
		VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_INTERRUPT_ACK,
		VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
		VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
		VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_SHM_SEL
	};
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		counts(d, BAD_ACCESSES);
		if (get(d, offsets[i]))
			return "a write-only register can be read";
	}
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

/* Legacy registers are at 0x28, 0x3c and 0x40. */
static const char *undefined(struct device *d)
{
	static const __u32 offsets[] = {
		0x018, 0x01c, 0x028, 0x02c, 0x03c, 0x040, 0x048, 0x054, 0x068, 0x074, 0x0a8,
		QUEUE_RESET, 0x0c4, 0x0f8
	};
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		put_bad(d, offsets[i], 1);
		counts(d, BAD_ACCESSES);
		if (get(d, offsets[i]))
			return "a register that does not exist can be read";
	}
	put_bad(d, END, 0);
	counts(d, BAD_ACCESSES);
	if (get(d, END) != 0xffffffff)
		return "something is behind the registers";
	put_bad(d, PAGE - 4, 0);
	counts(d, BAD_ACCESSES);
	if (get(d, PAGE - 4) != 0xffffffff)
		return "something is behind the registers";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

static const char *shared_memory(struct device *d)
{
	static const __u32 regions[] = { 0, 1, 255, 0xffffffff };
	unsigned int i;

	for (i = 0; i < sizeof(regions) / sizeof(*regions); i++) {
		put(d, VIRTIO_MMIO_SHM_SEL, regions[i]);
		if ((get(d, VIRTIO_MMIO_SHM_LEN_LOW) & get(d, VIRTIO_MMIO_SHM_LEN_HIGH)) != 0xffffffff)
			return "the length is not -1";
		if ((get(d, VIRTIO_MMIO_SHM_BASE_LOW) & get(d, VIRTIO_MMIO_SHM_BASE_HIGH)) != 0xffffffff)
			return "the address is not -1";
	}
	return 0;
}

const struct rule register_rules[] = {
	{
		"identity", "4.2.2.1, 4.2.2.2",
		"MagicValue, Version and DeviceID are defined",
		"Reads them",
		"0x74726976, 2, the device type",
		ON_ALL | ON_READ_ONLY, identity,
	},
	{
		"narrow-reads", "4.2.2.2",
		"A driver reads control registers with 32 bits",
		"Reads each with 8, 16 and 64 bits",
		"Reads as 0",
		ON_ALL, narrow_reads,
	},
	{
		"odd-reads", "4.2.2.2",
		"A driver reads control registers at a multiple of 4",
		"Reads 32 bits at other places",
		"Reads as 0",
		ON_ALL, odd_reads,
	},
	{
		"narrow-writes", "4.2.2.2",
		"A driver writes control registers with 32 bits at a multiple of 4",
		"Writes Status, QueueNotify and QueueDesc with other widths, and beside Status",
		"Ignores the writes and goes on",
		ON_ALL, narrow_writes,
	},
	{
		"write-read-only", "4.2.2.2",
		"A driver does not write read-only registers",
		"Writes each of the 12",
		"Ignores the writes",
		ON_ALL, read_only,
	},
	{
		"read-write-only", "4.2.2.2",
		"A driver does not read write-only registers",
		"Reads each of the 14",
		"Reads as 0",
		ON_ALL, write_only,
	},
	{
		"undefined-registers", "4.2.2.2",
		"A driver accesses only registers that the table describes",
		"Reads and writes undefined, legacy and QueueReset registers, and those behind the page's used part",
		"Ignores writes; reads as 0, behind the used part as ones",
		ON_ALL, undefined,
	},
	{
		"shared-memory", "4.2.2",
		"A shared memory region that does not exist has length and address -1",
		"Selects regions and reads both",
		"All ones",
		ON_ALL, shared_memory,
	},
	{ }
};
