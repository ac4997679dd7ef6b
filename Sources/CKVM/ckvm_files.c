// SPDX-License-Identifier: Apache-2.0
/* Files, disks and taps. */
#define _GNU_SOURCE
#include "ckvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "result.h"

int ckvm_memory_file(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

int ckvm_open_tap(const char *name, int header_size)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int error;
	int tap;

	if (strlen(name) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	strcpy(request.ifr_name, name);
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (tap < 0)
		return -errno;
	if (ioctl(tap, TUNSETIFF, &request) < 0 || ioctl(tap, TUNSETVNETHDRSZ, &header_size) < 0) {
		error = errno;
		close(tap);
		return -error;
	}
	return tap;
}

int ckvm_set_tap_offload(int tap, unsigned int flags)
{
	return value_or_errno(ioctl(tap, TUNSETOFFLOAD, (unsigned long)flags));
}

int ckvm_punch_hole(int fd, int64_t offset, int64_t length)
{
	return value_or_errno(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

int ckvm_zero_range(int fd, int64_t offset, int64_t length)
{
	return value_or_errno(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length));
}

int ckvm_block_device_size(int fd, uint64_t *bytes)
{
	return value_or_errno(ioctl(fd, BLKGETSIZE64, bytes));
}

int ckvm_block_logical_sector_size(int fd, uint32_t *bytes)
{
	int size;

	if (ioctl(fd, BLKSSZGET, &size) < 0)
		return -errno;
	*bytes = (uint32_t)size;
	return 0;
}

int ckvm_lock_file(int fd, bool exclusive)
{
	struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	return value_or_errno(fcntl(fd, F_OFD_SETLK, &lock));
}

int ckvm_open_folder(const char *path)
{
	return value_or_errno(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

int ckvm_replace_descriptor(int number, int fd)
{
	return value_or_errno(dup3(fd, number, O_CLOEXEC));
}
