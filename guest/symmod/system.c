// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>

#include "symmod.h"
#include "system.h"

void *memcpy(void *to, const void *from, size_t size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

void *memset(void *to, int byte, size_t size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
	return start;
}

size_t strlen(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

bool equal(const char *left, const char *right)
{
	while (*left && *left == *right) {
		left++;
		right++;
	}
	return *left == *right;
}

char *after(char *text, const char *start)
{
	while (*start) {
		if (*text++ != *start++)
			return NULL;
	}
	return text;
}

bool read_text(const char *path, char *text, size_t size)
{
	int file = sys_open(path, O_RDONLY);
	size_t length = 0;
	long count;

	if (file < 0)
		return false;
	while (length < size - 1) {
		count = sys_read(file, text + length, size - 1 - length);
		if (count <= 0)
			break;
		length += count;
	}
	sys_close(file);
	text[length] = '\0';
	return length > 0;
}

void append(char *text, size_t size, const char *more)
{
	size_t length = strlen(text);

	while (*more && length < size - 1)
		text[length++] = *more++;
	text[length] = '\0';
}

static void join_list(char *text, size_t size, va_list parts)
{
	const char *part;

	text[0] = '\0';
	while ((part = va_arg(parts, const char *)))
		append(text, size, part);
}

void join(char *text, size_t size, ...)
{
	va_list parts;

	va_start(parts, size);
	join_list(text, size, parts);
	va_end(parts);
}

static void append_digits(char *text, size_t size, unsigned long value, int base, int least)
{
	char digits[24];
	int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value || (int)sizeof(digits) - 1 - at < least);
	append(text, size, digits + at);
}

void append_number(char *text, size_t size, unsigned long value)
{
	append_digits(text, size, value, 10, 1);
}

void append_hex(char *text, size_t size, unsigned long value, int digits)
{
	append_digits(text, size, value, 16, digits);
}

bool parse_number(const char *text, int base, unsigned long *value, const char **end)
{
	const char *at = text;

	*value = 0;
	for (; at - text < 18; at++) {
		int digit = *at >= '0' && *at <= '9' ? *at - '0' :
			    *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 :
			    *at >= 'A' && *at <= 'F' ? *at - 'A' + 10 : 16;

		if (digit >= base)
			break;
		*value = *value * base + digit;
	}
	*end = at;
	return at > text;
}

void report(const char *part, ...)
{
	char line[256];
	char text[224];
	va_list parts;
	int file;

	va_start(parts, part);
	join_list(text, sizeof(text), parts);
	va_end(parts);
	/* <4>: a warning. One write is one line */
	join(line, sizeof(line), "<4>symvmm: ", part, text, NULL);
	file = sys_open(SYMMOD_LOG, O_WRONLY);
	if (file < 0) {
		append(line, sizeof(line), "\n");
		sys_write(2, line + 3, strlen(line) - 3);
		return;
	}
	sys_write(file, line, strlen(line));
	sys_close(file);
}
