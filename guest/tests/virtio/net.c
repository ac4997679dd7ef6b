// SPDX-License-Identifier: GPL-2.0
/* Frames. The host answers good_chain()'s ARP request with an ARP reply of 42 bytes. */
#include "virtio.h"

#define FRAME		60
#define CHECKSUM	BIT(VIRTIO_NET_F_CSUM)
#define SEGMENTS	(BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6))

struct virtio_net_hdr_v1 *frame_header(void)
{
	return (void *)pages[0];
}

/* The device must return the frame in descriptors 0... and drop it. */
static const char *drops(struct device *d)
{
	counts(d, DROPPED);
	if (submit(d, 0) != USED)
		return "the frame does not come back";
	return last(requests(d))->len ? "a sent frame has a length" : 0;
}

const char *sends(struct device *d)
{
	if (submit(d, 0) != USED)
		return "the frame does not come back";
	return last(requests(d))->len ? "a sent frame has a length" : 0;
}

static const char *requirements(struct device *d)
{
	counts(d, BAD_ACCESSES);
	if (negotiate(d, VERSION_1 | BIT(VIRTIO_NET_F_HOST_TSO4)))
		return "HOST_TSO4 without CSUM";
	counts(d, BAD_ACCESSES);
	if (negotiate(d, VERSION_1 | BIT(VIRTIO_NET_F_HOST_TSO6)))
		return "HOST_TSO6 without CSUM";
	counts(d, BAD_ACCESSES);
	if (negotiate(d, VERSION_1 | BIT(VIRTIO_NET_F_GUEST_TSO4)))
		return "GUEST_TSO4 without GUEST_CSUM";
	counts(d, BAD_ACCESSES);
	if (negotiate(d, VERSION_1 | BIT(VIRTIO_NET_F_GUEST_TSO6)))
		return "GUEST_TSO6 without GUEST_CSUM";
	return 0;
}

static const char *short_frames(struct device *d)
{
	static const __u32 lengths[] = { 0, 1, 11, 12 };
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths) && !failure; i++) {
		good_chain(d);
		describe(q, 0, at(pages[0]), lengths[i], 0, 0);
		failure = drops(d);
	}
	return failure;
}

static const char *large_frame(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);

	if (failure)
		return failure;
	good_chain(d);
	describe(q, 2, 0x100000, 1 << 20, 0, 0);
	return drops(d);
}

static const char *writable(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);
	struct queue *q = requests(d);
	unsigned int i;

	if (failure)
		return failure;
	good_chain(d);
	q->desc[2].flags |= NEXT;
	q->desc[2].next = 3;
	describe(q, 3, at(pages[3]), 512, WRITE, 0);
	memset(pages[3], 0x5a, 512);
	failure = drops(d);
	for (i = 0; i < 512; i++)
		if (pages[3][i] != 0x5a)
			return "the device writes a sent frame";
	return failure;
}

/* A good frame with other flags or another gso_type in the header. */
static const char *with_header(struct device *d, __u64 features, __u8 flags, __u8 type, int good)
{
	const char *failure = start_device(d, features);

	if (failure)
		return failure;
	good_chain(d);
	frame_header()->flags = flags;
	frame_header()->gso_type = type;
	frame_header()->gso_size = 20;
	frame_header()->hdr_len = 34;
	frame_header()->csum_start = 20;
	frame_header()->csum_offset = 6;
	return good ? sends(d) : drops(d);
}

static const char *unknown_flags(struct device *d)
{
	return with_header(d, ANY_FEATURE, 0xf8, VIRTIO_NET_HDR_GSO_NONE, 1);
}

static const char *checksum(struct device *d)
{
	const char *failure = with_header(d, VERSION_1, VIRTIO_NET_HDR_F_NEEDS_CSUM,
					  VIRTIO_NET_HDR_GSO_NONE, 0);

	return failure ? failure : with_header(d, CHECKSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM,
					       VIRTIO_NET_HDR_GSO_NONE, 1);
}

static const char *checksum_place(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	frame_header()->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame_header()->csum_start = 0xfff0;
	frame_header()->csum_offset = 0xff00;
	return drops(d);
}

/* Without NEEDS_CSUM the same numbers mean nothing. */
static const char *checksum_unused(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	frame_header()->csum_start = 0xfff0;
	frame_header()->csum_offset = 0xff00;
	frame_header()->hdr_len = 0xffff;
	frame_header()->num_buffers = 7;
	return sends(d);
}

static const char *segments(struct device *d)
{
	static const __u8 types[] = { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6 };
	const char *failure = 0;
	unsigned int i;

	for (i = 0; i < 2 && !failure; i++)
		failure = with_header(d, CHECKSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM, types[i], 0);
	/* Not without NEEDS_CSUM, either. */
	return failure ? failure :
		with_header(d, ANY_FEATURE, 0, VIRTIO_NET_HDR_GSO_TCPV4, 0);
}

static const char *other_segments(struct device *d)
{
	static const __u8 types[] = { 2, VIRTIO_NET_HDR_GSO_UDP, 5, 6, 0x20, 0x40, 0x7f,
		VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN };
	const char *failure = 0;
	unsigned int i;

	for (i = 0; i < sizeof(types) && !failure; i++)
		failure = with_header(d, ANY_FEATURE, VIRTIO_NET_HDR_F_NEEDS_CSUM, types[i], 0);
	return failure;
}

static const char *no_segment_size(struct device *d)
{
	const char *failure = start_device(d, ANY_FEATURE);

	if (failure)
		return failure;
	good_chain(d);
	frame_header()->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame_header()->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	frame_header()->gso_size = 0;
	frame_header()->csum_start = 34;
	frame_header()->csum_offset = 16;
	return drops(d);
}

const struct rule net_rules[] = {
	{
		"net-requirements", "2.2.1, 5.1.3.1",
		"A driver accepts no feature without those that it requires",
		"Accepts each kind of segmentation without checksums",
		"FEATURES_OK stays 0",
		ON_NET, requirements,
	},
	{
		"send-short", "5.1.6.2",
		"A sent frame is a header of 12 bytes and data",
		"Sends 0, 1, 11 and 12 bytes",
		"Returns the buffers and drops the frame",
		ON_NET, short_frames,
	},
	{
		"send-large", "5.1.6.2",
		"A sent frame has at most 65536 bytes and the Ethernet header",
		"Sends 1 MiB",
		"Returns the buffers and drops the frame",
		ON_NET, large_frame,
	},
	{
		"send-writable", "5.1.6.2",
		"The device reads a sent frame",
		"Adds a buffer that the device may write",
		"Returns the buffers unchanged and drops the frame",
		ON_NET, writable,
	},
	{
		"send-flags", "5.1.6.2.2",
		"A device ignores flags that it does not know",
		"Sets the five highest bits of flags",
		"Sends the frame",
		ON_NET, unknown_flags,
	},
	{
		"send-checksum", "5.1.6.2.1",
		"A driver sets NEEDS_CSUM only after VIRTIO_NET_F_CSUM",
		"Sets it without and with the feature",
		"Drops the first frame and sends the second one",
		ON_NET, checksum,
	},
	{
		"send-checksum-place", "5.1.6.2.1",
		"csum_start and csum_offset lie in the frame",
		"Sets them behind its end",
		"Drops the frame",
		ON_NET, checksum_place,
	},
	{
		"send-unused", "5.1.6.2.1, 5.1.6.2.2",
		"Without NEEDS_CSUM a device does not use the fields, it never relies on hdr_len, and num_buffers is 0",
		"Sets csum_start, csum_offset, hdr_len and num_buffers to nonsense",
		"Sends the frame",
		ON_NET, checksum_unused,
	},
	{
		"send-segments", "5.1.6.2.1",
		"A driver asks for segmentation only after the feature, and with NEEDS_CSUM",
		"Asks for TCPv4 and TCPv6 without the features, and for TCPv4 without NEEDS_CSUM",
		"Drops the frame",
		ON_NET, segments,
	},
	{
		"send-other-segments", "5.1.6.2.1",
		"gso_type is NONE, TCPV4, TCPV6 or one whose feature was accepted",
		"Sets UDP, UDP_L4, tunnels, ECN and undefined values",
		"Drops the frame",
		ON_NET, other_segments,
	},
	{
		"send-segment-size", "5.1.6.2.1",
		"A driver that asks for segmentation sets gso_size",
		"Sets it to 0",
		"Drops the frame",
		ON_NET, no_segment_size,
	},
	{ }
};
