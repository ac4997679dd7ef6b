// SPDX-License-Identifier: GPL-2.0
/* The device status: order of the bits, reset, DEVICE_NEEDS_RESET. */
#include "virtio.h"

#define UNKNOWN_BITS	(16 | 32)

static const char *reset_clears(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	reset(d);
	if (get(d, VIRTIO_MMIO_STATUS))
		return "the status is not 0";
	if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS))
		return "InterruptStatus is not 0";
	put(d, VIRTIO_MMIO_QUEUE_SEL, d->requests);
	if (get(d, VIRTIO_MMIO_QUEUE_READY))
		return "QueueReady is not 0";
	return 0;
}

static const char *reset_anywhere(struct device *d)
{
	static const __u32 steps[] = {
		ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FAILED, FAILED
	};
	unsigned int i;

	for (i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		reset(d);
		put(d, VIRTIO_MMIO_STATUS, steps[i]);
		reset(d);
		if (get(d, VIRTIO_MMIO_STATUS))
			return "the status is not 0";
	}
	if (!negotiate(d, VERSION_1))
		return "the device refuses VERSION_1";
	reset(d);
	return get(d, VIRTIO_MMIO_STATUS) ? "the status is not 0" : 0;
}

/* As many requests as fit, all of them descriptor chain 0. */
static const char *reset_under_load(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;
	__u16 after;

	if (failure)
		return failure;
	good_chain(d);
	for (i = 0; i < q->size; i++)
		q->avail->ring[i] = 0;
	barrier();
	q->avail->idx = q->size;
	barrier();
	notify(d, d->requests);
	reset(d);
	if (get(d, VIRTIO_MMIO_STATUS))
		return "the status is not 0";
	after = q->used->idx;
	memset(pages[1], 0x5a, PAGE);
	if (!stays_silent(d, d->requests) || q->used->idx != after)
		return "the used index moves after the reset";
	for (i = 0; i < PAGE; i++)
		if (pages[1][i] != 0x5a)
			return "the device writes a buffer after the reset";
	return get(d, VIRTIO_MMIO_INTERRUPT_STATUS) ? "an interrupt after the reset" : 0;
}

static const char *clear_bit(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	if (get(d, VIRTIO_MMIO_STATUS) != (ACKNOWLEDGE | DRIVER))
		return "the bit is cleared";
	return 0;
}

static const char *clear_driver_ok(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	if (!(get(d, VIRTIO_MMIO_STATUS) & DRIVER_OK))
		return "DRIVER_OK is cleared";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

static const char *unknown_bits(struct device *d)
{
	reset(d);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | UNKNOWN_BITS);
	if (get(d, VIRTIO_MMIO_STATUS) != ACKNOWLEDGE)
		return "an unknown bit is set, or a good one is lost";
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | 0xffffff00u);
	if (get(d, VIRTIO_MMIO_STATUS) != (ACKNOWLEDGE | DRIVER))
		return "an unknown bit is set, or a good one is lost";
	return 0;
}

static const char *own_needs_reset(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | NEEDS_RESET);
	return get(d, VIRTIO_MMIO_STATUS) == ACKNOWLEDGE ? 0 : "the driver can set DEVICE_NEEDS_RESET";
}

static const char *features_without_driver(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | FEATURES_OK);
	return get(d, VIRTIO_MMIO_STATUS) == ACKNOWLEDGE ? 0 : "FEATURES_OK is set";
}

static const char *ok_without_features(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
	return get(d, VIRTIO_MMIO_STATUS) & DRIVER_OK ? "DRIVER_OK is set" : 0;
}

static const char *all_at_once(struct device *d)
{
	reset(d);
	/* Two refusals: FEATURES_OK without VERSION_1, DRIVER_OK without FEATURES_OK. */
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	counts(d, BAD_ACCESSES);
	return get(d, VIRTIO_MMIO_STATUS) == (ACKNOWLEDGE | DRIVER) ? 0 : "the device starts";
}

static const char *ok_after_failed(struct device *d)
{
	if (!negotiate(d, VERSION_1))
		return "the device refuses VERSION_1";
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED | DRIVER_OK);
	if (get(d, VIRTIO_MMIO_STATUS) != (ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED))
		return "DRIVER_OK is set";
	return 0;
}

static const char *ok_twice(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	drive(d);
	good_chain(d);
	if (submit(d, 0) != USED)
		return "the device has stopped";
	return answered_well(d);
}

static const char *ok_without_queues(struct device *d)
{
	if (!negotiate(d, VERSION_1))
		return "the device refuses VERSION_1";
	drive(d);
	notify(d, d->requests);
	return get(d, VIRTIO_MMIO_STATUS) & DRIVER_OK ? 0 : "DRIVER_OK is not set";
}

static const char *early_buffers(struct device *d)
{
	struct queue *q = requests(d);
	unsigned int index;

	if (!negotiate(d, d->offered))
		return "the device refuses features that it offers";
	for (index = 0; index < d->queues; index++) {
		prepare_queue(d, index);
		set_rings(d, index, at(d->queue[index].desc), at(d->queue[index].avail),
			  at(d->queue[index].used));
	}
	good_chain(d);
	expose(q, 0);
	notify(d, d->requests);
	if (!stays_silent(d, d->requests) || q->used->idx)
		return "the device uses a buffer before DRIVER_OK";
	if (get(d, VIRTIO_MMIO_INTERRUPT_STATUS))
		return "an interrupt before DRIVER_OK";
	drive(d);
	if (await(d, d->requests) != USED)
		return "the buffer is not used after DRIVER_OK";
	return answered_well(d);
}

static const char *needs_reset(struct device *d)
{
	const char *failure = start_device(d, VERSION_1);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	q->desc[0].addr = NOWHERE;
	failure = refuses(d);
	if (failure)
		return failure;
	/* A good request is not served before the reset. */
	good_chain(d);
	expose(q, 0);
	notify(d, d->requests);
	if (!stays_silent(d, d->requests))
		return "the device uses a buffer although it needs a reset";
	if (!(get(d, VIRTIO_MMIO_STATUS) & NEEDS_RESET))
		return "DEVICE_NEEDS_RESET does not stay";
	reset(d);
	return get(d, VIRTIO_MMIO_STATUS) ? "the reset does not clear DEVICE_NEEDS_RESET" : 0;
}

const struct rule status_rules[] = {
	{
		"reset-clears", "2.1, 2.4.1, 4.2.2.1",
		"A reset sets the status, InterruptStatus and each QueueReady to 0",
		"Serves a request, then resets",
		"All three read 0",
		ON_ALL, reset_clears,
	},
	{
		"reset-anywhere", "2.4.1",
		"A reset is possible in every state",
		"Resets after each step of the initialization, and after FAILED",
		"The status reads 0 each time",
		ON_ALL, reset_anywhere,
	},
	{
		"reset-under-load", "2.4.1",
		"After a reset the device neither touches queues nor notifies",
		"Makes a whole queue of requests available and resets at once",
		"Used index, buffers and InterruptStatus stay as they are after the reset",
		ON_ALL, reset_under_load,
	},
	{
		"status-clear", "2.1.1",
		"A driver does not clear a bit of the status, except by a reset",
		"Writes ACKNOWLEDGE when DRIVER is set, too",
		"Ignores the write",
		ON_ALL, clear_bit,
	},
	{
		"status-clear-driver-ok", "2.1.1",
		"A driver does not clear DRIVER_OK, except by a reset",
		"Writes the status of a live device without DRIVER_OK",
		"Ignores the write and goes on",
		ON_ALL, clear_driver_ok,
	},
	{
		"status-unknown", "2.1, 3.4.2",
		"The status has no other bits than those defined; SUSPEND needs its feature",
		"Writes undefined bits and SUSPEND beside good ones",
		"Takes the good ones and ignores the others",
		ON_ALL, unknown_bits,
	},
	{
		"status-needs-reset", "2.1",
		"DEVICE_NEEDS_RESET is the device's bit",
		"Writes it",
		"Ignores the bit. Not counted: a driver may write back what it has read",
		ON_ALL, own_needs_reset,
	},
	{
		"status-no-driver", "3.1.1",
		"DRIVER comes before FEATURES_OK",
		"Writes FEATURES_OK after ACKNOWLEDGE",
		"FEATURES_OK stays 0",
		ON_ALL, features_without_driver,
	},
	{
		"status-no-features", "3.1.1",
		"FEATURES_OK comes before DRIVER_OK",
		"Writes DRIVER_OK after DRIVER",
		"DRIVER_OK stays 0",
		ON_ALL, ok_without_features,
	},
	{
		"status-all", "3.1.1",
		"A driver sets the bits one after the other",
		"Writes all four bits at once after a reset",
		"FEATURES_OK and DRIVER_OK stay 0",
		ON_ALL, all_at_once,
	},
	{
		"status-failed", "2.1.1, 3.1.1",
		"After FAILED a driver resets the device before it starts again",
		"Writes DRIVER_OK after FAILED",
		"DRIVER_OK stays 0",
		ON_ALL, ok_after_failed,
	},
	{
		"status-twice", "3.1.1",
		"DRIVER_OK starts the device",
		"Writes DRIVER_OK again",
		"Goes on as before",
		ON_ALL, ok_twice,
	},
	{
		"status-no-queues", "3.1.1",
		"A driver sets up the queues before DRIVER_OK",
		"Writes DRIVER_OK without a queue and notifies",
		"Does nothing",
		ON_ALL, ok_without_queues,
	},
	{
		"early-buffers", "2.1.2, 3.1.1",
		"Before DRIVER_OK the device uses no buffers and sends no notification, and the driver sends none",
		"Makes a request available and notifies before DRIVER_OK",
		"Waits for DRIVER_OK, then answers the request",
		ON_ALL, early_buffers,
	},
	{
		"needs-reset", "2.1.2",
		"DEVICE_NEEDS_RESET comes with a configuration change notification",
		"Breaks a queue, then adds a good request",
		"Sets DEVICE_NEEDS_RESET, interrupts, serves nothing until the reset",
		ON_ALL, needs_reset,
	},
	{ }
};
