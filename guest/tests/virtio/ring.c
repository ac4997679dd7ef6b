// SPDX-License-Identifier: GPL-2.0
/* Available and used ring: indices, notifications and their suppression. */
#include "virtio.h"

static const char *jump(struct device *d, __u16 by)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	q->avail->idx += by;
	barrier();
	notify(d, d->requests);
	counts(d, FAULTS);
	return await(d, d->requests) == BROKEN ? 0 : "no DEVICE_NEEDS_RESET";
}

static const char *jump_forward(struct device *d)
{
	const char *failure = jump(d, requests(d)->size + 1);

	return failure ? failure : jump(d, 0x8000);
}

static const char *jump_back(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	q->avail->idx--;
	barrier();
	notify(d, d->requests);
	counts(d, FAULTS);
	return await(d, d->requests) == BROKEN ? 0 : "no DEVICE_NEEDS_RESET";
}

static const char *bad_head(struct device *d, __u16 head)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	counts(d, FAULTS);
	return submit(d, head) == BROKEN ? 0 : "no DEVICE_NEEDS_RESET";
}

static const char *heads(struct device *d)
{
	const char *failure = bad_head(d, requests(d)->size);

	return failure ? failure : bad_head(d, 0xffff);
}

static const char *same_head(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;

	if (failure)
		return failure;
	good_chain(d);
	for (i = 0; i < 4; i++)
		expose(q, 0);
	notify(d, d->requests);
	for (i = 0; i < 4; i++)
		if (await(d, d->requests) != USED || last(q)->id != 0)
			return "a chain that is available four times is not used four times";
	return 0;
}

/* A whole queue of one-descriptor requests, until the indices have passed 65535. */
static const char *wraps(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned long left;
	unsigned int done, i;

	if (failure)
		return failure;
	for (i = 0; i < q->size; i++) {
		describe(q, i, at(pages[0]) + i, 1, WRITE, 0);
		q->avail->ring[i] = i;
	}
	for (done = 0; done < 65536u + q->size; done += q->size) {
		q->avail->idx += q->size;
		barrier();
		notify(d, d->requests);
		for (left = 2000000; left && q->used->idx != q->avail->idx; left--)
			get(d, VIRTIO_MMIO_STATUS);
		if (!left)
			return "requests are not used";
	}
	return q->used->idx == q->size ? 0 : "the used index is wrong";
}

static const char *spurious(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < 200; i++)
		notify(d, i % d->queues);
	if (!stays_silent(d, d->requests))
		return "the used index moves";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	for (i = 0; i < 20; i++)
		notify(d, d->requests);
	if (!stays_silent(d, d->requests))
		return "the request is used twice";
	return answered_well(d);
}

/* Without EVENT_IDX. */
static const char *flag_suppresses(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE & ~EVENT_IDX);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	if (!stays_silent(d, d->requests) || get(d, VIRTIO_MMIO_INTERRUPT_STATUS))
		return "an interrupt although the flag is set";
	q->avail->flags = 0;
	/* Where used_event would be: far away. */
	q->avail->ring[q->size] = 0x4000;
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	return interrupts(d, VIRTIO_MMIO_INT_VRING) ? 0 : "no interrupt although the flag is clear";
}

static const char *flag_bits(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE & ~EVENT_IDX);

	if (failure)
		return failure;
	requests(d)->avail->flags = 0xfffe;
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	return interrupts(d, VIRTIO_MMIO_INT_VRING) ? 0 : "no interrupt";
}

static const char *event_index(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;

	if (failure)
		return failure;
	if (!(d->offered & EVENT_IDX))
		return "EVENT_IDX is not offered";
	/* Interrupt when used index 3 has been written; the flag must not matter. */
	q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	q->avail->ring[q->size] = 2;
	for (i = 0; i < 2; i++) {
		good_chain(d);
		if (submit(d, 0) != USED)
			return "a good request is not answered";
	}
	if (!stays_silent(d, d->requests) || get(d, VIRTIO_MMIO_INTERRUPT_STATUS))
		return "an interrupt before used_event";
	good_chain(d);
	if (submit(d, 0) != USED)
		return "a good request is not answered";
	return interrupts(d, VIRTIO_MMIO_INT_VRING) ? 0 : "no interrupt at used_event";
}

static const char *used_flags(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE & ~EVENT_IDX);
	struct queue *q = requests(d);
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < 8; i++) {
		good_chain(d);
		if (submit(d, 0) != USED)
			return "a good request is not answered";
		if (q->used->flags > 1)
			return "other flags than 0 and 1";
	}
	failure = start_device(d, ANY_FEATURE);
	if (failure)
		return failure;
	for (i = 0; i < 8; i++) {
		good_chain(d);
		if (submit(d, 0) != USED)
			return "a good request is not answered";
		if (q->used->flags)
			return "flags with EVENT_IDX";
	}
	return 0;
}

/* The device must take a request that the driver need not notify, or ask for a notification. */
static const char *asks(struct device *d, __u64 features)
{
	const char *failure = start_device(d, features);
	struct queue *q = requests(d);
	volatile __u16 *event = (void *)&q->used->ring[q->size];
	unsigned int i;

	if (failure)
		return failure;
	for (i = 0; i < 32; i++) {
		__u16 index = q->avail->idx;
		int asked;

		good_chain(d);
		expose(q, 0);
		if (features & EVENT_IDX)
			asked = *event == index;
		else
			asked = !(q->used->flags & VRING_USED_F_NO_NOTIFY);
		if (asked)
			notify(d, d->requests);
		if (await(d, d->requests) != USED)
			return "a request is lost that the device did not want to be notified of";
	}
	return 0;
}

static const char *notified_as_asked(struct device *d)
{
	const char *failure = asks(d, ANY_FEATURE & ~EVENT_IDX);

	return failure ? failure : asks(d, ANY_FEATURE);
}

static const char *leaves_rings(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	static __u8 before[2][PAGE];
	unsigned long avail = 6 + 2 * (unsigned long)q->size;
	unsigned int i;

	if (failure)
		return failure;
	good_chain(d);
	expose(q, 0);
	memcpy(before[0], (void *)q->desc, 16 * q->size);
	memcpy(before[1], (void *)q->avail, avail);
	notify(d, d->requests);
	if (await(d, d->requests) != USED)
		return "a good request is not answered";
	if (memcmp(before[0], (void *)q->desc, 16 * q->size))
		return "the device writes the descriptor table";
	if (memcmp(before[1], (void *)q->avail, avail))
		return "the device writes the available ring";
	for (i = 1; i < q->size; i++)
		if (q->used->ring[i].id || q->used->ring[i].len)
			return "the device writes other elements of the used ring";
	return 0;
}

const struct rule ring_rules[] = {
	{
		"avail-jump", "2.7.6, 2.7.13.3",
		"The available index grows by the number of chains, at most the queue's size",
		"Adds the size plus 1, and 32768",
		"DEVICE_NEEDS_RESET",
		ON_ALL, jump_forward,
	},
	{
		"avail-back", "2.7.6.1",
		"A driver does not decrement the available index",
		"Decrements it after a request",
		"DEVICE_NEEDS_RESET",
		ON_ALL, jump_back,
	},
	{
		"head-range", "2.7.6",
		"Heads are indices of the descriptor table",
		"Makes chains available at the size and at 65535",
		"DEVICE_NEEDS_RESET",
		ON_ALL, heads,
	},
	{
		"head-again", "3.3.1",
		"A driver does not reuse a chain that the device has not used yet",
		"Makes the same chain available four times",
		"Answers it four times",
		ON_ALL, same_head,
	},
	{
		"index-wrap", "2.7.13.3",
		"The indices wrap at 65536",
		"Serves more than 65536 requests",
		"Goes on",
		ON_RNG, wraps,
	},
	{
		"rings-untouched", "2.7.5.1, 2.7.6, 2.7.8",
		"A device writes no descriptor, no available ring, and no other element of the used ring",
		"Compares them before and after a request",
		"They are as before",
		ON_ALL, leaves_rings,
	},
	{
		"notify-spurious", "2.7.10.2",
		"A device handles notifications without new buffers",
		"Sends 200 of them, a request, and 20 more",
		"Uses nothing twice",
		ON_ALL, spurious,
	},
	{
		"notify-asked", "2.7.10.1, 2.7.10.2",
		"A device asks for a notification, or finds the buffers itself",
		"Notifies only when flags or avail_event ask for it, 32 requests with each",
		"Loses none",
		ON_ALL, notified_as_asked,
	},
	{
		"used-flags", "2.7.10.2",
		"flags of the used ring are 0 or 1, and 0 with EVENT_IDX",
		"Looks after each of 8 requests",
		"As the rule says",
		ON_ALL, used_flags,
	},
	{
		"interrupt-flag", "2.7.7.2",
		"Without EVENT_IDX only the flag of the available ring suppresses the interrupt",
		"Sets the flag for a request; clears it, with a used_event far away, for another",
		"Interrupts for the second request only",
		ON_ALL, flag_suppresses,
	},
	{
		"interrupt-flag-bits", "2.7.7.1",
		"A driver sets flags of the available ring to 0 or 1",
		"Sets all bits but the lowest one",
		"Looks at the lowest one only: interrupts",
		ON_ALL, flag_bits,
	},
	{
		"interrupt-event", "2.7.7.2",
		"With EVENT_IDX the interrupt comes at used_event, whatever the flag is",
		"Sets the flag, and used_event to the third request",
		"Interrupts for the third request only",
		ON_ALL, event_index,
	},
	{ }
};
