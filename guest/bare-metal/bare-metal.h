/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the tiny guests. Each of them has one function: guest().
 *
 * Words of the command line that all of them use:
 *   finish=0   end with a reset by the keyboard controller (the default)
 *   finish=1   end with ACPI's power-off
 */
#ifndef BARE_METAL_H
#define BARE_METAL_H

#include <linux/types.h>

/* A port without a device. */
#define PORT_NOTHING	0x80
#define PORT_SERIAL	0x3f8

/* The guest's work; when it returns, the machine ends. */
void guest(void);

/* The number after WORD (which ends with '=') on the command line, or OTHERWISE. */
__u64 option(const char *word, __u64 otherwise);

/* Print a text, or 16 hexadecimal digits, on the serial port. */
void print(const char *text);
void print_number(__u64 number);

static inline void outb(__u16 port, __u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outw(__u16 port, __u16 value)
{
	asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline __u64 ticks(void)
{
	__u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (__u64)high << 32 | low;
}

/*
 * Executes OUT AL to a port COUNT times, sixteen in a row so that the loop
 * takes almost no time. A macro, as the port must be in the instruction.
 */
#define OUTS(port, value, count)					\
do {									\
	for (__u64 left = (count) / 16; left != 0; left--)		\
		asm volatile(".rept 16\n\toutb %0, %1\n\t.endr"		\
			     : : "a"((__u8)(value)), "N"(port) : "memory");	\
	for (__u64 left = (count) % 16; left != 0; left--)		\
		asm volatile("outb %0, %1"				\
			     : : "a"((__u8)(value)), "N"(port) : "memory");	\
} while (0)

#endif /* BARE_METAL_H */
