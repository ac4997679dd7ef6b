// SPDX-License-Identifier: GPL-2.0
#include "symmod.h"
#include "system.h"

static bool is_space(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r' || byte == '\v' ||
	       byte == '\f';
}

/*
 * Splits off one parameter, as next_arg() in the kernel's lib/cmdline.c: a space between
 * quotes belongs to the word; quotes around the value, or around all of it, do not.
 */
static char *next_parameter(char *line, char **name, char **value)
{
	bool in_quotes = false, is_quoted = false;
	char *at;

	while (is_space(*line))
		line++;
	if (*line == '"') {
		line++;
		in_quotes = true;
		is_quoted = true;
	}
	*name = line;
	*value = NULL;
	for (at = line; *at; at++) {
		if (is_space(*at) && !in_quotes)
			break;
		if (*at == '=' && !*value)
			*value = at;
		if (*at == '"')
			in_quotes = !in_quotes;
	}
	if (*value) {
		*(*value)++ = '\0';
		if (**value == '"') {
			(*value)++;
			if (at > *value && at[-1] == '"')
				at[-1] = '\0';
		}
	}
	if (is_quoted && at > line && at[-1] == '"')
		at[-1] = '\0';
	if (*at)
		*at++ = '\0';
	return at;
}

void read_parameters(struct parameters *parameters, bool read_only)
{
	char *line = parameters->line, *name, *value;
	unsigned long number;
	const char *end;

	parameters->read_only = read_only;
	parameters->mounts_devtmpfs = true;
	for (;;) {
		line = next_parameter(line, &name, &value);
		if (!*name)
			break;
		/* What follows is for init */
		if (!value && equal(name, "--"))
			break;
		if (!value) {
			if (equal(name, "ro"))
				parameters->read_only = true;
			if (equal(name, "rw"))
				parameters->read_only = false;
			if (equal(name, "rootwait"))
				parameters->root_wait = -1;
			continue;
		}
		if (equal(name, "root"))
			parameters->root = value;
		if (equal(name, "rootflags"))
			parameters->root_flags = value;
		if (equal(name, "rootfstype"))
			parameters->root_types = value;
		if (equal(name, "init"))
			parameters->init = value;
		if (equal(name, "rootdelay") && parse_number(value, 10, &number, &end))
			parameters->root_delay = number;
		if (equal(name, "rootwait") && parse_number(value, 10, &number, &end))
			parameters->root_wait = number;
		if (equal(name, "devtmpfs.mount"))
			parameters->mounts_devtmpfs = *value != '0';
	}
}
