// SPDX-License-Identifier: GPL-2.0
/*
 * Mounts root= as the kernel's init/do_mounts.c does when there is no initramfs.
 */
#include "symmod.h"
#include "system.h"

/* How long to wait for a device without rootwait: the kernel waits for its drivers' probes */
#define PROBE_LIMIT_MS	5000
#define PROBE_POLL_MS	5

/* root=: /dev/NAME, PARTUUID=, PARTLABEL=, MAJOR:MINOR, or a number in hexadecimal */
static bool find_device(const char *root, unsigned long *device)
{
	unsigned long major, minor;
	char name[64], *rest;
	const char *end;

	rest = after((char *)root, "PARTUUID=");
	if (rest)
		return find_partition(rest, false, device);
	rest = after((char *)root, "PARTLABEL=");
	if (rest)
		return find_partition(rest, true, device);
	rest = after((char *)root, "/dev/");
	if (rest) {
		join(name, sizeof(name), rest, NULL);
		/* As in sysfs */
		for (rest = name; *rest; rest++) {
			if (*rest == '/')
				*rest = '!';
		}
		return read_device(name, "dev", device);
	}
	if (parse_number(root, 10, &major, &end) && *end == ':' &&
	    parse_number(end + 1, 10, &minor, &end) && !*end) {
		*device = (minor & 0xff) | major << 8 | (minor & ~0xffUL) << 12;
		return true;
	}
	return parse_number(root, 16, device, &end) && !*end;
}

/* The device, when it is there */
static bool wait_for_device(const struct parameters *parameters, unsigned long *device)
{
	unsigned long limit = PROBE_LIMIT_MS, waited;
	bool found;

	if (parameters->root_delay)
		sleep_ms(parameters->root_delay * 1000);
	if (parameters->root_wait > PROBE_LIMIT_MS / 1000)
		limit = parameters->root_wait * 1000;
	for (waited = 0; parameters->root_wait < 0 || waited < limit; waited += PROBE_POLL_MS) {
		if (sys_mount("sysfs", SYMMOD_MOUNT, "sysfs", 0, NULL) < 0)
			return false;
		found = find_device(parameters->root, device);
		sys_umount(SYMMOD_MOUNT);
		if (found)
			return true;
		sleep_ms(PROBE_POLL_MS);
	}
	return false;
}

static long mount_as(const char *type, const struct parameters *parameters)
{
	unsigned long flags = MS_SILENT | (parameters->read_only ? MS_RDONLY : 0);
	long error = sys_mount("/dev/root", "/root", type, flags, parameters->root_flags);

	/* A disk that cannot be written to */
	if ((error == -EACCES || error == -EROFS) && !parameters->read_only)
		error = sys_mount("/dev/root", "/root", type, flags | MS_RDONLY,
				  parameters->root_flags);
	return error;
}

/* Tries the names in @types, which @separator separates; 0 or the last error */
static long mount_as_one_of(char *types, char separator, const struct parameters *parameters)
{
	long error = -EINVAL;
	char *end;

	for (; *types; types = end) {
		for (end = types; *end && *end != separator; end++)
			;
		if (*end)
			*end++ = '\0';
		/* /proc/filesystems: "nodev\tNAME" needs no device, "\tNAME" does */
		if (separator == '\n') {
			if (*types != '\t')
				continue;
			types++;
		}
		error = mount_as(types, parameters);
		if (error == 0 || (error != -EACCES && error != -EINVAL))
			return error;
	}
	return error;
}

static long mount_device(const struct parameters *parameters)
{
	static char types[4096];
	bool is_read;

	call(__NR_mkdir, "/root", 0700, 0);
	if (parameters->root_types) {
		join(types, sizeof(types), parameters->root_types, NULL);
		return mount_as_one_of(types, ',', parameters);
	}
	if (sys_mount("proc", SYMMOD_MOUNT, "proc", 0, NULL) < 0)
		return -ENODEV;
	is_read = read_text(SYMMOD_MOUNT "/filesystems", types, sizeof(types));
	sys_umount(SYMMOD_MOUNT);
	return is_read ? mount_as_one_of(types, '\n', parameters) : -ENODEV;
}

bool mount_root(struct parameters *parameters)
{
	unsigned long device;
	char number[24] = "";
	long error;

	if (!parameters->root) {
		report("there is no /init in the initramfs and no root= on the command line", NULL);
		return false;
	}
	if (!wait_for_device(parameters, &device)) {
		report("there is no device root=", parameters->root, NULL);
		return false;
	}
	call(__NR_mkdir, "/dev", 0755, 0);
	sys_unlink("/dev/root");
	error = call(__NR_mknod, "/dev/root", S_IFBLK | 0600, device);
	if (error == 0)
		error = mount_device(parameters);
	if (error < 0) {
		append_number(number, sizeof(number), -error);
		report("cannot mount root=", parameters->root, " (error ", number, ")", NULL);
		return false;
	}
	remove_files();
	call(__NR_chdir, "/root", 0, 0);
	if (parameters->mounts_devtmpfs)
		sys_mount("devtmpfs", "dev", "devtmpfs", MS_SILENT, NULL);
	sys_mount(".", "/", NULL, MS_MOVE, NULL);
	call(__NR_chroot, ".", 0, 0);
	return true;
}
