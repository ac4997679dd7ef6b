// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "ctestservices.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The call's number and its arguments. */
static long values[7];

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static void handle(int signal)
{
	static const char head[] = "test call: ";
	long result = call(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
	unsigned long number = result < 0 ? -(unsigned long)result : (unsigned long)result;
	char line[64];
	char digits[24];
	size_t at = sizeof(digits);
	size_t length = sizeof(head) - 1;

	(void)signal;
	memcpy(line, head, length);
	if (result < 0)
		line[length++] = '-';
	digits[--at] = '\n';
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	memcpy(line + length, digits + at, sizeof(digits) - at);
	call(SYS_write, STDERR_FILENO, (long)line, (long)(length + sizeof(digits) - at), 0, 0, 0);
}

static long value(const char *word)
{
	if (strcmp(word, "self") == 0)
		return getpid();
	if (strcmp(word, "parent") == 0)
		return getppid();
	if (word[0] == '@')
		return (long)(word + 1);
	return (long)strtoull(word, NULL, 0);
}

int ctest_call_on_signal(const char *text)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	char *words = strdup(text);
	char *rest = NULL;
	size_t count = 0;

	if (!words)
		return -ENOMEM;
	/* The words stay: a path is an argument. */
	for (char *word = strtok_r(words, " ", &rest); word && count < 7; word = strtok_r(NULL, " ", &rest))
		values[count++] = value(word);
	sigemptyset(&action.sa_mask);
	return sigaction(SIGUSR2, &action, NULL) < 0 ? -errno : 0;
}
