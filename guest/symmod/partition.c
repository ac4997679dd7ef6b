// SPDX-License-Identifier: GPL-2.0
/*
 * Finds a partition by PARTUUID= or PARTLABEL=, which the kernel knows but does not tell
 * on all versions: reads the partition table as the kernel's block/partitions did.
 */
#include "symmod.h"
#include "system.h"

#define BLOCK_CLASS	SYMMOD_MOUNT "/class/block/"

/* getdents64(2) */
struct entry {
	unsigned long inode;
	long offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

static bool read_attribute(const char *name, const char *rest, char *text, size_t size)
{
	char path[160];
	size_t length;

	join(path, sizeof(path), BLOCK_CLASS, name, "/", rest, NULL);
	if (!read_text(path, text, size))
		return false;
	length = strlen(text);
	if (text[length - 1] == '\n')
		text[length - 1] = '\0';
	return true;
}

bool read_device(const char *name, const char *rest, unsigned long *device)
{
	unsigned long major, minor;
	char text[32];
	const char *end;

	if (!read_attribute(name, rest, text, sizeof(text)) ||
	    !parse_number(text, 10, &major, &end) || *end != ':' ||
	    !parse_number(end + 1, 10, &minor, &end))
		return false;
	/* new_encode_dev() */
	*device = (minor & 0xff) | major << 8 | (minor & ~0xffUL) << 12;
	return true;
}

static unsigned long little_endian(const unsigned char *bytes, int count)
{
	unsigned long value = 0;

	while (count--)
		value = value << 8 | bytes[count];
	return value;
}

static char lower(char letter)
{
	return letter >= 'A' && letter <= 'Z' ? letter + 32 : letter;
}

static bool equal_ignoring_case(const char *left, const char *right)
{
	while (*left && lower(*left) == lower(*right)) {
		left++;
		right++;
	}
	return lower(*left) == lower(*right);
}

/* 16 bytes in the order of EFI: the first three fields are little-endian */
static void write_uuid(const unsigned char *bytes, char *text, size_t size)
{
	text[0] = '\0';
	append_hex(text, size, little_endian(bytes, 4), 8);
	append(text, size, "-");
	append_hex(text, size, little_endian(bytes + 4, 2), 4);
	append(text, size, "-");
	append_hex(text, size, little_endian(bytes + 6, 2), 4);
	append(text, size, "-");
	append_hex(text, size, (unsigned long)bytes[8] << 8 | bytes[9], 4);
	append(text, size, "-");
	for (int index = 10; index < 16; index++)
		append_hex(text, size, bytes[index], 2);
}

/* The identifier of partition @number of an open disk */
static bool read_uuid(int disk, unsigned long number, unsigned long block, char *text, size_t size)
{
	unsigned char sector[512];
	unsigned long offset;

	if (sys_pread(disk, sector, sizeof(sector), block) != sizeof(sector))
		return false;
	if (little_endian(sector, 8) == 0x5452415020494645UL) {	/* "EFI PART" */
		unsigned long count = little_endian(sector + 80, 4);
		unsigned long length = little_endian(sector + 84, 4);
		unsigned long table = little_endian(sector + 72, 8);

		if (number > count || length < 128 || length > 4096 || table > 1UL << 32)
			return false;
		offset = table * block + (number - 1) * length;
		if (sys_pread(disk, sector, 128, offset) != 128)
			return false;
		write_uuid(sector + 16, text, size);
		return true;
	}
	if (sys_pread(disk, sector, sizeof(sector), 0) != sizeof(sector) ||
	    little_endian(sector + 510, 2) != 0xaa55)
		return false;
	text[0] = '\0';
	append_hex(text, size, little_endian(sector + 440, 4), 8);
	append(text, size, "-");
	append_hex(text, size, number, 2);
	return true;
}

static bool has_uuid(const char *name, const char *wanted)
{
	unsigned long disk_device, number, block;
	char text[48];
	const char *end;
	bool found;
	int disk;

	if (!read_attribute(name, "partition", text, sizeof(text)) ||
	    !parse_number(text, 10, &number, &end) || number == 0)
		return false;
	/* The link leads into the disk's folder */
	if (!read_device(name, "../dev", &disk_device))
		return false;
	if (!read_attribute(name, "../queue/logical_block_size", text, sizeof(text)) ||
	    !parse_number(text, 10, &block, &end) || block < 512 || block > 1 << 20)
		block = 512;
	sys_unlink(SYMMOD_DISK);
	if (call(__NR_mknod, SYMMOD_DISK, S_IFBLK | 0600, disk_device) < 0)
		return false;
	disk = sys_open(SYMMOD_DISK, O_RDONLY);
	sys_unlink(SYMMOD_DISK);
	if (disk < 0)
		return false;
	found = read_uuid(disk, number, block, text, sizeof(text)) &&
		equal_ignoring_case(text, wanted);
	sys_close(disk);
	return found;
}

static bool has_label(const char *name, const char *wanted)
{
	char text[1024], *line, *end, *label;

	if (!read_attribute(name, "uevent", text, sizeof(text)))
		return false;
	for (line = text; *line; line = end) {
		for (end = line; *end && *end != '\n'; end++)
			;
		if (*end)
			*end++ = '\0';
		label = after(line, "PARTNAME=");
		if (label)
			return equal(label, wanted);
	}
	return false;
}

bool find_partition(const char *wanted, bool by_label, unsigned long *device)
{
	static char list[16384] __attribute__((aligned(8)));
	bool found = false;
	long count, at;
	int folder;

	folder = sys_open(BLOCK_CLASS, O_RDONLY | O_DIRECTORY);
	if (folder < 0)
		return false;
	while (!found && (count = call(__NR_getdents64, folder, list, sizeof(list))) > 0) {
		for (at = 0; !found && at < count; at += ((struct entry *)(list + at))->length) {
			const char *name = ((struct entry *)(list + at))->name;

			if (name[0] == '.')
				continue;
			found = (by_label ? has_label(name, wanted) : has_uuid(name, wanted)) &&
				read_device(name, "dev", device);
		}
	}
	sys_close(folder);
	return found;
}
