// SPDX-License-Identifier: GPL-2.0
/* Requests of the entropy device. */
#include "virtio.h"

static const char *good(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	__u32 length, i, zeroes = 0;

	if (failure)
		return failure;
	memset(pages[1], 0, PAGE);
	describe(q, 0, at(pages[1]), 256, WRITE, 0);
	if (submit(d, 0) != USED)
		return "the request is not answered";
	length = last(q)->len;
	if (length == 0 || length > 256)
		return "a bad length";
	for (i = 0; i < length; i++)
		zeroes += pages[1][i] == 0;
	if (length > 32 && zeroes > length / 2)
		return "the bytes are not random";
	for (i = length; i < PAGE; i++)
		if (pages[1][i])
			return "bytes behind the length are written";
	return 0;
}

/* Whether the device wrote to the first page, which holds 0x5a */
static const char *written(void)
{
	unsigned int i;

	for (i = 0; i < PAGE; i++)
		if (pages[1][i] != 0x5a)
			return "the device writes a buffer that it may only read";
	return 0;
}

static const char *readable(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	memset(pages[1], 0x5a, PAGE);
	describe(q, 0, at(pages[1]), 64, 0, 0);
	counts(d, REFUSED);
	if (submit(d, 0) != USED || last(q)->len != 0)
		return "the buffer does not come back empty";
	return written();
}

static const char *mixed(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	memset(pages[1], 0x5a, PAGE);
	describe(q, 0, at(pages[1]), 64, NEXT, 1);
	describe(q, 1, at(pages[2]), 64, WRITE, 0);
	counts(d, REFUSED);
	if (submit(d, 0) != USED || last(q)->len != 0)
		return "the buffers do not come back empty";
	return written();
}

static const char *empty(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	describe(q, 0, at(pages[1]), 0, WRITE, 0);
	counts(d, REFUSED);
	return submit(d, 0) == USED && last(q)->len == 0 ? 0 : "the buffer does not come back empty";
}

static const char *large(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	__u16 i;

	if (failure)
		return failure;
	for (i = 0; i < 32; i++)
		describe(q, i, at(pages[0]), sizeof(pages), WRITE | (i < 31 ? NEXT : 0), i + 1);
	if (submit(d, 0) != USED)
		return "the request is not answered";
	return last(q)->len && last(q)->len <= 32 * sizeof(pages) ? 0 : "a bad length";
}

const struct rule rng_rules[] = {
	{
		"rng-good", "5.4.6.2, 2.7.8.2",
		"The device gives at least one random byte, and as many as the used length says",
		"Asks for 256",
		"Random bytes, and none behind the length",
		ON_RNG, good,
	},
	{
		"rng-readable", "5.4.6.1",
		"A driver gives the device no buffers to read",
		"Gives it one",
		"Returns it with length 0, unchanged",
		ON_RNG, readable,
	},
	{
		"rng-mixed", "5.4.6.1",
		"A driver gives the device no buffers to read",
		"Gives it one to read and one to write",
		"Returns them with length 0, unchanged",
		ON_RNG, mixed,
	},
	{
		"rng-empty", "5.4.6.2",
		"The device gives at least one random byte",
		"Gives it an empty buffer",
		"Returns it with length 0",
		ON_RNG, empty,
	},
	{
		"rng-large", "5.4.6.2",
		"The device may give less than the driver asks for",
		"Asks for 2 MiB in 32 buffers",
		"Returns them with a length up to that",
		ON_RNG, large,
	},
	{ }
};
