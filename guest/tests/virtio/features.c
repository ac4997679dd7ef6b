// SPDX-License-Identifier: GPL-2.0
/* Feature bits: what a device offers, and what it refuses. */
#include "virtio.h"

/* Features of the queues and transports that a device of MMIO may offer (section 6). */
#define GENERAL		(INDIRECT | EVENT_IDX | VERSION_1 | BIT(33) | BIT(34) | BIT(35) | BIT(36) | \
			 BIT(38) | BIT(40) | BIT(41))
/* Without legacy ones. */
#define BLOCK		(BIT(1) | BIT(2) | BIT(4) | BIT(5) | BIT(6) | 0x1fe00ull | BIT(17))
#define NET		(0xffffafull | 0xfffcull << 48)

static const char *offers_version(struct device *d)
{
	return d->offered & VERSION_1 ? 0 : "VERSION_1 is not offered";
}

static const char *offers_known(struct device *d)
{
	__u64 known = GENERAL;

	if (d->type == VIRTIO_ID_BLOCK)
		known |= BLOCK;
	if (d->type == VIRTIO_ID_NET)
		known |= NET;
	return d->offered & ~known ? "it offers a reserved, legacy or unknown feature" : 0;
}

static const char *offers_requirements(struct device *d)
{
	__u64 guest = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
		BIT(VIRTIO_NET_F_GUEST_UFO);
	__u64 host = BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
		BIT(VIRTIO_NET_F_HOST_UFO);
	__u64 control = BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |
		BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);

	if (d->offered & guest && !(d->offered & BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return "segmentation for the guest without checksums";
	if (d->offered & host && !(d->offered & BIT(VIRTIO_NET_F_CSUM)))
		return "segmentation for the host without checksums";
	if (d->offered & control && !(d->offered & BIT(VIRTIO_NET_F_CTRL_VQ)))
		return "features of the control queue without the queue";
	return 0;
}

static const char *other_words(struct device *d)
{
	static const __u32 words[] = { 2, 3, 31, 0x80000000, 0xffffffff };
	unsigned int i;

	reset(d);
	for (i = 0; i < sizeof(words) / sizeof(*words); i++) {
		put(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, words[i]);
		if (get(d, VIRTIO_MMIO_DEVICE_FEATURES))
			return "a feature above 63 is offered";
	}
	return 0;
}

static const char *no_version(struct device *d)
{
	counts(d, BAD_ACCESSES);
	return negotiate(d, d->offered & ~VERSION_1) ? "FEATURES_OK is set" : 0;
}

static const char *not_offered(struct device *d)
{
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		if (d->offered & BIT(bit))
			continue;
		counts(d, BAD_ACCESSES);
		if (negotiate(d, VERSION_1 | BIT(bit)))
			return "FEATURES_OK is set";
	}
	return 0;
}

static const char *high_word(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	write_features(d, VERSION_1);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	if (get(d, VIRTIO_MMIO_STATUS) & FEATURES_OK)
		return "FEATURES_OK is set";
	put(d, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	return get(d, VIRTIO_MMIO_STATUS) & FEATURES_OK ? 0 : "good features are refused";
}

static const char *each_alone(struct device *d)
{
	unsigned int bit;

	/* Segmentation needs checksums: the case net-requirements. */
	for (bit = 0; bit < 64; bit++) {
		__u64 feature = BIT(bit);

		if (!(d->offered & feature))
			continue;
		if (d->type == VIRTIO_ID_NET && bit < 32)
			feature |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
		if (!negotiate(d, (feature & d->offered) | VERSION_1))
			return "an offered feature is refused";
	}
	return 0;
}

static const char *again(struct device *d)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		if (!negotiate(d, d->offered))
			return "the same features are refused later";
	return 0;
}

static const char *before_driver(struct device *d)
{
	reset(d);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
	put(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put_bad(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	put(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	put_bad(d, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	return get(d, VIRTIO_MMIO_STATUS) & FEATURES_OK ? "the features are taken" : 0;
}

static const char *after_ok(struct device *d)
{
	const char *failure;
	struct queue *q = requests(d);
	unsigned int index;

	if (!negotiate(d, VERSION_1))
		return "the device refuses VERSION_1";
	put(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put_bad(d, VIRTIO_MMIO_DRIVER_FEATURES, INDIRECT);
	for (index = 0; index < d->queues; index++) {
		prepare_queue(d, index);
		set_rings(d, index, at(d->queue[index].desc), at(d->queue[index].avail),
			  at(d->queue[index].used));
	}
	drive(d);
	/* The device still has no indirect descriptors. */
	good_chain(d);
	memcpy((void *)table, (void *)q->desc, 3 * 16);
	describe(q, 0, at(table), 3 * 16, TABLE, 0);
	failure = refuses(d);
	return failure ? "the late feature is taken" : 0;
}

const struct rule feature_rules[] = {
	{
		"version-offered", "6.2",
		"A device offers VIRTIO_F_VERSION_1",
		"Reads the features",
		"Bit 32 is set",
		ON_ALL | ON_READ_ONLY, offers_version,
	},
	{
		"features-known", "2.2.2, 6.2",
		"A device offers no reserved, unknown or legacy feature, and none of another transport",
		"Reads the features",
		"Only bits of the device type, of the queues and of MMIO",
		ON_ALL | ON_READ_ONLY, offers_known,
	},
	{
		"features-requirements", "2.2.2, 5.1.3.1",
		"A device offers no feature without the features that it requires",
		"Reads the features",
		"Segmentation comes with checksums, commands with the control queue",
		ON_NET, offers_requirements,
	},
	{
		"features-other-words", "4.2.2",
		"DeviceFeaturesSel selects 32 features",
		"Selects words from 2 to 0xffffffff",
		"0: no feature above 63",
		ON_ALL, other_words,
	},
	{
		"no-version", "6.1",
		"A driver accepts VIRTIO_F_VERSION_1",
		"Accepts all features but this one",
		"FEATURES_OK stays 0",
		ON_ALL | ON_READ_ONLY, no_version,
	},
	{
		"feature-not-offered", "2.2.1",
		"A driver accepts no feature that was not offered",
		"Accepts VERSION_1 with each of the other 63 bits that is not offered",
		"FEATURES_OK stays 0 each time",
		ON_ALL | ON_READ_ONLY, not_offered,
	},
	{
		"feature-high", "2.2.1",
		"A driver accepts no feature that was not offered",
		"Accepts feature 64, then withdraws it",
		"FEATURES_OK stays 0, and is set after the withdrawal",
		ON_ALL, high_word,
	},
	{
		"feature-alone", "2.2.2",
		"A device takes each valid subset of its features",
		"Accepts each feature alone, with those that it requires",
		"FEATURES_OK is set each time",
		ON_ALL | ON_READ_ONLY, each_alone,
	},
	{
		"features-again", "2.2.2",
		"A device takes features that it took before a reset",
		"Negotiates the same features four times",
		"FEATURES_OK is set each time",
		ON_ALL | ON_READ_ONLY, again,
	},
	{
		"features-early", "3.1.1",
		"A driver writes features after DRIVER",
		"Writes them after ACKNOWLEDGE",
		"Ignores the write; FEATURES_OK stays 0",
		ON_ALL, before_driver,
	},
	{
		"features-late", "3.1.1",
		"A driver accepts no feature after FEATURES_OK",
		"Accepts INDIRECT_DESC after FEATURES_OK, then uses it",
		"Ignores the write; the descriptor breaks the queue",
		ON_ALL, after_ok,
	},
	{ }
};
