/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SYMMOD_H
#define SYMMOD_H

#include <stdbool.h>

/*
 * The files that symvmm puts into the initramfs (Sources/VMMSymMod/InitramfsSegment.swift).
 * symmod-init removes all of them.
 */
#define SYMMOD_FOLDER	"/.symvmm"
#define SYMMOD_INIT	SYMMOD_FOLDER "/init"
#define SYMMOD_MODULE	SYMMOD_FOLDER "/symbiotic.ko"
/* The device of the kernel's log */
#define SYMMOD_LOG	SYMMOD_FOLDER "/kmsg"
/* An empty folder, for proc and sysfs */
#define SYMMOD_MOUNT	SYMMOD_FOLDER "/mnt"
/* Where the kernel tells its command line; a test gives its own */
#ifndef SYMMOD_COMMAND_LINE
#define SYMMOD_COMMAND_LINE	SYMMOD_MOUNT "/cmdline"
#endif
/* A block device that partition.c reads */
#define SYMMOD_DISK	SYMMOD_FOLDER "/disk"

/* The kernel's parameters for a boot without initramfs */
struct parameters {
	char line[4096];
	const char *root;
	const char *root_flags;
	const char *root_types;
	const char *init;
	unsigned long root_delay;
	/* Seconds; -1: for ever */
	long root_wait;
	bool read_only;
	bool mounts_devtmpfs;
};

/* init.c: the program itself stays until exec */
void remove_files(void);

/* command_line.c: the same as the kernel reads them; @line is changed */
void read_parameters(struct parameters *parameters, bool read_only);

/*
 * root.c: mounts root= and makes it the root, as the kernel does it.
 * False: it is not mounted, and the line in the log says why.
 */
bool mount_root(struct parameters *parameters);

/* partition.c: the device of PARTUUID= or PARTLABEL=; sysfs is mounted */
bool find_partition(const char *wanted, bool by_label, unsigned long *device);
/* The device number of a name in /sys/class/block, with what follows it in the path */
bool read_device(const char *name, const char *rest, unsigned long *device);

#endif
