/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What symmod-init needs of a C library: system calls of x86-64, a few string functions.
 * System calls return -errno, as the kernel does.
 */
#ifndef SYMMOD_SYSTEM_H
#define SYMMOD_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/stat.h>
#include <linux/time_types.h>

#ifndef WNOHANG
#define WNOHANG 1
#endif

static inline long call5(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

#define call(number, a, b, c) call5(number, (long)(a), (long)(b), (long)(c), 0, 0)

static inline int sys_open(const char *path, int flags)
{
	return call(__NR_open, path, flags | O_CLOEXEC, 0);
}

static inline void sys_close(int file)
{
	call(__NR_close, file, 0, 0);
}

static inline long sys_read(int file, void *buffer, size_t size)
{
	return call(__NR_read, file, buffer, size);
}

static inline long sys_pread(int file, void *buffer, size_t size, long offset)
{
	return call5(__NR_pread64, file, (long)buffer, size, offset, 0);
}

static inline long sys_write(int file, const void *buffer, size_t size)
{
	return call(__NR_write, file, buffer, size);
}

static inline long sys_mount(const char *source, const char *target, const char *type,
			     unsigned long flags, const char *data)
{
	return call5(__NR_mount, (long)source, (long)target, (long)type, flags, (long)data);
}

static inline void sys_umount(const char *target)
{
	call(__NR_umount2, target, 0, 0);
}

static inline void sys_unlink(const char *path)
{
	call(__NR_unlink, path, 0, 0);
}

static inline bool exists(const char *path)
{
	/* access(2), F_OK */
	return call(__NR_access, path, 0, 0) == 0;
}

static inline void sleep_ms(long milliseconds)
{
	struct __kernel_old_timespec time = {
		.tv_sec = milliseconds / 1000,
		.tv_nsec = milliseconds % 1000 * 1000000,
	};

	call(__NR_nanosleep, &time, 0, 0);
}

/* The compiler calls the first two by itself */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
size_t strlen(const char *text);
bool equal(const char *left, const char *right);
/* The rest of @text behind @start, or NULL if it does not begin with it */
char *after(char *text, const char *start);

/* Reads a file to a string of less than @size bytes; false if it cannot be read or is empty */
bool read_text(const char *path, char *text, size_t size);

/*
 * Puts strings together, up to a NULL, in less than @size bytes. What does not fit is cut off.
 */
void join(char *text, size_t size, ...);
void append(char *text, size_t size, const char *more);
/* @value in decimal, or in hexadecimal with at least @digits digits */
void append_number(char *text, size_t size, unsigned long value);
void append_hex(char *text, size_t size, unsigned long value, int digits);

/* Reads a number that ends where @end points to; false without a digit, or if it has more than 18 */
bool parse_number(const char *text, int base, unsigned long *value, const char **end);

/* One line in the kernel's log, @parts up to a NULL */
void report(const char *part, ...);

#endif
