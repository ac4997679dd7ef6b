// SPDX-License-Identifier: GPL-2.0
/* The configuration space, interrupts and notifications of the MMIO transport. */
#include "virtio.h"

#define CONFIG		VIRTIO_MMIO_CONFIG
#define END		0x200

/* Of the smallest configuration space: a disk's first fields, the interface's address. */
static const char *early_config(struct device *d)
{
	__u32 low;

	reset(d);
	low = get(d, CONFIG);
	if (d->type == VIRTIO_ID_BLOCK && low == 0)
		return "no capacity before ACKNOWLEDGE";
	if (d->type == VIRTIO_ID_NET && low != 0x12005452)
		return "another address before ACKNOWLEDGE";
	if (!negotiate(d, VERSION_1))
		return "the device refuses VERSION_1";
	return get(d, CONFIG) == low ? 0 : "it changes with FEATURES_OK";
}

static const char *config_widths(struct device *d)
{
	__u32 offset, bytes, halves, word;

	reset(d);
	for (offset = CONFIG; offset < CONFIG + 8; offset += 4) {
		bytes = get8(d, offset) | get8(d, offset + 1) << 8 | get8(d, offset + 2) << 16 |
			(__u32)get8(d, offset + 3) << 24;
		halves = get16(d, offset) | (__u32)get16(d, offset + 2) << 16;
		word = get(d, offset);
		if (bytes != word || halves != word)
			return "widths disagree";
	}
	return 0;
}

static const char *config_writes(struct device *d)
{
	__u32 before;
	unsigned int i;

	if (!negotiate(d, d->offered))
		return "the device refuses features that it offers";
	before = get(d, CONFIG);
	put(d, CONFIG, ~before);
	put8(d, CONFIG, ~before);
	put16(d, CONFIG + 2, before);
	put(d, END - 4, 0);
	for (i = 0; i < 4; i++)
		counts(d, BAD_ACCESSES);
	return get(d, CONFIG) == before ? 0 : "a field has changed";
}

static const char *config_end(struct device *d)
{
	counts(d, BAD_ACCESSES);
	return get(d, END - 4) == 0xffffffff ? 0 : "a field that does not exist";
}

static const char *generation(struct device *d)
{
	__u32 before = get(d, VIRTIO_MMIO_CONFIG_GENERATION);
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	return get(d, VIRTIO_MMIO_CONFIG_GENERATION) == before ? 0 : "it changes without a reason";
}

static const char *interrupt(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);

	if (failure)
		return failure;
	if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS))
		return "an interrupt before the first request";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	if (!interrupts(d, VIRTIO_MMIO_INT_VRING) ||
	    get(d, VIRTIO_MMIO_INTERRUPT_STATUS) != VIRTIO_MMIO_INT_VRING)
		return "no interrupt, or another one";
	put(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS) != VIRTIO_MMIO_INT_VRING)
		return "acknowledging another cause clears this one";
	put_bad(d, VIRTIO_MMIO_INTERRUPT_ACK, ~3u);
	if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS) != VIRTIO_MMIO_INT_VRING)
		return "undefined bits clear this cause";
	put(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	return get(d, VIRTIO_MMIO_INTERRUPT_STATUS) ? "the acknowledged cause stays" : 0;
}

static const char *bad_notify(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	put_bad(d, VIRTIO_MMIO_QUEUE_NOTIFY, d->queues);
	put_bad(d, VIRTIO_MMIO_QUEUE_NOTIFY, 0xffff);
	put_bad(d, VIRTIO_MMIO_QUEUE_NOTIFY, 0x10000 + d->requests);
	put_bad(d, VIRTIO_MMIO_QUEUE_NOTIFY, 0xffffffff);
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

const struct rule config_rules[] = {
	{
		"config-early", "2.5.2",
		"The configuration space can be read before FEATURES_OK",
		"Reads it after a reset",
		"The same as after FEATURES_OK",
		ON_DISK | ON_NET, early_config,
	},
	{
		"config-widths", "4.2.2.2",
		"Fields of the configuration space are read with their own width",
		"Reads the same bytes with 8, 16 and 32 bits",
		"The same value",
		ON_DISK | ON_NET, config_widths,
	},
	{
		"config-writes", "3.1.1, 5.1.4.2",
		"A driver does not write fields that are not writable",
		"Writes them with 8, 16 and 32 bits, and behind the end",
		"Ignores the writes",
		ON_DISK | ON_NET, config_writes,
	},
	{
		"config-end", "2.5.1, 4.2.2.2",
		"A driver reads no field that the device does not have",
		"Reads behind the end of the configuration space",
		"Reads as ones",
		ON_ALL, config_end,
	},
	{
		"config-generation", "2.5, 4.2.2.1",
		"ConfigGeneration changes only with the configuration space",
		"Reads it before and after a start and a request",
		"The same value",
		ON_ALL, generation,
	},
	{
		"interrupt-status", "4.2.2.1, 4.2.2.2",
		"InterruptStatus shows a cause until its bit is written to InterruptACK",
		"Serves a request; acknowledges the other cause, undefined bits, then this cause",
		"Only the last write clears the bit; undefined bits are counted",
		ON_ALL, interrupt,
	},
	{
		"notify-no-queue", "4.2.3.3",
		"QueueNotify takes the index of a queue",
		"Writes indices that do not exist",
		"Ignores the writes and goes on",
		ON_ALL, bad_notify,
	},
	{ }
};
