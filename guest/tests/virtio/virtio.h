/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that breaks virtio's rules on purpose. Shared by its files: devices,
 * queues, and what a case is.
 */
#ifndef VIRTIO_GUEST_H
#define VIRTIO_GUEST_H

#include <linux/types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "bare-metal.h"

#define BIT(number)	(1ull << (number))
#define VERSION_1	BIT(VIRTIO_F_VERSION_1)
#define EVENT_IDX	BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT	BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define ANY_FEATURE	(~0ull)

/* Bits of the device status. */
#define ACKNOWLEDGE	VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER		VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK	VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK	VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET	VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED		VIRTIO_CONFIG_S_FAILED

#define NEXT		VRING_DESC_F_NEXT
#define WRITE		VRING_DESC_F_WRITE
#define TABLE		VRING_DESC_F_INDIRECT

#define PAGE		4096

#define DISK_HEADER	sizeof(struct virtio_blk_outhdr)
#define DISK_CONFIG(field) \
	get(d, VIRTIO_MMIO_CONFIG + __builtin_offsetof(struct virtio_blk_config, field))
#define NO_ANSWER	0xff
/* A sector that only the cases that write use. */
#define SCRATCH		8

#define FRAME_HEADER	((__u32)sizeof(struct virtio_net_hdr_v1))
#define RECEIVE		0
#define MOST_QUEUES	2
#define MOST_SIZE	256

/* An address between the guest's memory and the devices, where nothing is. */
#define NOWHERE		0xc8000000ull

/* Bytes of memory, from address 0. The last page of the address space. */
#define MEMORY		option("memory=", 0)
#define TOP		0xfffffffffffff000ull

/* The counters of a device that a case may raise. */
enum counter {
	BAD_ACCESSES, FAULTS, REFUSED, UNSUPPORTED, DROPPED, RESETS, COUNTERS
};

struct queue {
	volatile struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	__u16 size;
	/* The used index up to which the guest has looked. */
	__u16 seen;
};

struct device {
	/* The name in the VMM's statistics. */
	const char *name;
	/* A bit of struct rule's devices. */
	unsigned int bit;
	__u64 base;
	__u32 type;
	__u64 offered;
	/* The queue that takes requests, and the number of queues. */
	unsigned int requests;
	unsigned int queues;
	struct queue queue[MOST_QUEUES];
	/* How often each counter must have been raised so far. */
	unsigned long expected[COUNTERS];
};

/* The devices that run a case. */
#define ON_DISK		1
#define ON_READ_ONLY	2
#define ON_NET		4
#define ON_RNG		8
#define ON_ALL		(ON_DISK | ON_NET | ON_RNG)

/* A case. */
struct rule {
	const char *name;
	/* The specification's section. */
	const char *section;
	const char *rule;
	const char *action;
	const char *answer;
	unsigned int devices;
	/* Returns a null pointer, or what went wrong. */
	const char *(*run)(struct device *d);
};

extern const struct rule status_rules[];
extern const struct rule feature_rules[];
extern const struct rule register_rules[];
extern const struct rule config_rules[];
extern const struct rule setup_rules[];
extern const struct rule ready_rules[];
extern const struct rule ring_rules[];
extern const struct rule chain_rules[];
extern const struct rule table_rules[];
extern const struct rule block_rules[];
extern const struct rule request_rules[];
extern const struct rule discard_rules[];
extern const struct rule net_rules[];
extern const struct rule receive_rules[];
extern const struct rule rng_rules[];

/* What became of a request. */
enum outcome {
	USED, BROKEN, SILENT
};

/* Memory for requests, and for an indirect table. */
extern __u8 pages[16][PAGE];
extern volatile struct vring_desc table[MOST_SIZE + 16];

void *memset(void *to, int value, unsigned long count);
void *memcpy(void *to, const void *from, unsigned long count);
int memcmp(const void *one, const void *other, unsigned long count);

static inline __u64 at(const volatile void *address)
{
	return (__u64)address;
}

static inline __u32 get(struct device *d, __u32 offset)
{
	return *(volatile __u32 *)(d->base + offset);
}

static inline void put(struct device *d, __u32 offset, __u32 value)
{
	*(volatile __u32 *)(d->base + offset) = value;
}

static inline __u8 get8(struct device *d, __u32 offset)
{
	return *(volatile __u8 *)(d->base + offset);
}

static inline __u16 get16(struct device *d, __u32 offset)
{
	return *(volatile __u16 *)(d->base + offset);
}

static inline void put8(struct device *d, __u32 offset, __u8 value)
{
	*(volatile __u8 *)(d->base + offset) = value;
}

static inline void put16(struct device *d, __u32 offset, __u16 value)
{
	*(volatile __u16 *)(d->base + offset) = value;
}

static inline void barrier(void)
{
	asm volatile("mfence" : : : "memory");
}

/* The device must count this. */
static inline void counts(struct device *d, enum counter counter)
{
	d->expected[counter]++;
}

/* A write that the device must ignore and count. */
static inline void put_bad(struct device *d, __u32 offset, __u32 value)
{
	put(d, offset, value);
	counts(d, BAD_ACCESSES);
}

/* Find the devices; return their number. */
unsigned int find_devices(struct device *devices);

/* Reset; up to and with FEATURES_OK: whether the device took the features; rings; DRIVER_OK. */
void reset(struct device *d);
void write_features(struct device *d, __u64 features);
int negotiate(struct device *d, __u64 features);
void set_rings(struct device *d, unsigned int index, __u64 desc, __u64 avail, __u64 used);
void prepare_queue(struct device *d, unsigned int index);
void drive(struct device *d);
/* All of that, with those of the features that the device offers. */
const char *start_device(struct device *d, __u64 features);

static inline struct queue *requests(struct device *d)
{
	return &d->queue[d->requests];
}

void describe(struct queue *q, __u16 index, __u64 address, __u32 length, __u16 flags, __u16 next);
void expose(struct queue *q, __u16 head);
void notify(struct device *d, unsigned int index);
/* Wait for the next used chain of a queue, or for DEVICE_NEEDS_RESET. */
enum outcome await(struct device *d, unsigned int index);
/* Give a chain to the queue of requests and wait. */
enum outcome submit(struct device *d, __u16 head);
/* The used ring's element that await() has found. */
volatile struct vring_used_elem *last(struct queue *q);
/* Whether the device leaves the used index alone while the guest looks for a while. */
int stays_silent(struct device *d, unsigned int index);

/* Whether the device interrupts with this cause. */
int interrupts(struct device *d, __u32 cause);

/* A good request in descriptors 0, 1 and 2. */
void good_chain(struct device *d);
/* Whether the device took the good request and answered it well. */
const char *answered_well(struct device *d);
/* The device must refuse the exposed chain 0: DEVICE_NEEDS_RESET, and a configuration interrupt. */
const char *refuses(struct device *d);
/* After a reset, the device does what it should. Leaves the device reset. */
const char *works(struct device *d);

/* The header of a disk request; sets the status to NO_ANSWER. */
struct virtio_blk_outhdr *disk_header(__u32 type, __u64 sector);
/* Send header, one buffer (none if LENGTH is 0) and status; return the status. */
__u8 send_disk_request(struct device *d, struct virtio_blk_outhdr *h, void *data, __u32 length,
		       int writes);
__u8 disk_request(struct device *d, __u32 type, __u64 sector, void *data, __u32 length, int writes);
/* With the buffer in page 1. */
__u8 disk_read(struct device *d, __u64 sector, __u32 length);
__u8 disk_write(struct device *d, __u64 sector, __u32 length);
/* The device must answer IOERR, or UNSUPP. */
const char *disk_fails(struct device *d, __u32 type, __u64 sector, __u32 length, int writes);
const char *disk_refuses(struct device *d, __u32 type, __u64 sector, __u32 length, int writes);
__u64 disk_capacity(struct device *d);

/* Up to FEATURES_OK, with prepared queues; set up the queues that take no requests. */
const char *agree(struct device *d);
void set_others(struct device *d);

/* A frame's header; send good_chain(), which the device must take. */
struct virtio_net_hdr_v1 *frame_header(void);
const char *sends(struct device *d);

#endif /* VIRTIO_GUEST_H */
