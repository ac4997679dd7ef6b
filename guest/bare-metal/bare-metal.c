// SPDX-License-Identifier: GPL-2.0
/* Shared by the tiny guests: command line, serial port, power-off and reset. */
#include "bare-metal.h"

#define CMD_LINE_PTR	0x228	/* in boot_params: setup header, cmd_line_ptr */
#define PORT_KEYBOARD	0x64
#define KEYBOARD_RESET	0xfe
#define PORT_PM1_CONTROL 0x604
#define SOFT_OFF	0x3400	/* SLP_EN, SLP_TYP of S5 */

static const char *command_line = "";

void start(const __u8 *boot_params);

static const char *behind(const char *text, const char *word)
{
	for (; *word; text++, word++)
		if (*text != *word)
			return 0;
	return text;
}

__u64 option(const char *word, __u64 otherwise)
{
	const char *at = command_line, *digits;
	__u64 value = 0;

	while (*at) {
		digits = behind(at, word);
		if (digits) {
			for (; *digits >= '0' && *digits <= '9'; digits++)
				value = value * 10 + (*digits - '0');
			return value;
		}
		while (*at && *at++ != ' ')
			;
	}
	return otherwise;
}

void print(const char *text)
{
	for (; *text; text++)
		outb(PORT_SERIAL, *text);
}

void print_number(__u64 number)
{
	int shift;

	for (shift = 60; shift >= 0; shift -= 4)
		outb(PORT_SERIAL, "0123456789abcdef"[number >> shift & 15]);
}

void start(const __u8 *boot_params)
{
	__u32 address = *(const __u32 *)(boot_params + CMD_LINE_PTR);

	if (address)
		command_line = (const char *)(__u64)address;
	guest();
	if (option("finish=", 0) == 1)
		outw(PORT_PM1_CONTROL, SOFT_OFF);
	outb(PORT_KEYBOARD, KEYBOARD_RESET);
}
