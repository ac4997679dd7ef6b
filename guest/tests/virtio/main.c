// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the cases and reports on the serial port:
 *   begin|NAME                     a case begins
 *   rule|NAME|SECTION|RULE|ACTION|ANSWER|DEVICES|COUNTED|RESULT
 *   count|DEVICE|COUNTER|NUMBER    how much the device must have counted
 *   end
 */
#include "virtio.h"

static struct device devices[16];
static unsigned int device_count;

static const char * const counter_names[COUNTERS] = {
	"bad_accesses", "faults", "refused_requests", "unsupported_requests", "tx_dropped", "resets"
};

static void print_decimal(unsigned long number)
{
	char digits[24];
	char *digit = &digits[23];

	*digit = 0;
	do
		*--digit = '0' + number % 10;
	while (number /= 10);
	print(digit);
}

static void print_item(const char *text, int *some)
{
	print(*some ? ", " : "");
	print(text);
	*some = 1;
}

static const char *run_on(const struct rule *rule, struct device *d, unsigned long *counted)
{
	unsigned long before[COUNTERS];
	const char *failure;
	unsigned int counter;

	memcpy(before, d->expected, sizeof(before));
	failure = rule->run(d);
	for (counter = 0; counter < RESETS; counter++)
		counted[counter] |= d->expected[counter] - before[counter];
	return failure ? failure : works(d);
}

static void run(const struct rule *rule)
{
	unsigned long counted[COUNTERS] = {};
	const char *failure = 0, *where = 0;
	unsigned int devices_run = 0;
	int some = 0;
	unsigned int i;

	print("begin|");
	print(rule->name);
	print("\n");
	for (i = 0; i < device_count && !failure; i++) {
		if (!(rule->devices & devices[i].bit))
			continue;
		devices_run |= devices[i].bit;
		where = devices[i].name;
		failure = run_on(rule, &devices[i], counted);
	}
	print("rule|");
	print(rule->name);
	print("|");
	print(rule->section);
	print("|");
	print(rule->rule);
	print("|");
	print(rule->action);
	print("|");
	print(rule->answer);
	print("|");
	for (i = 0; i < device_count; i++)
		if (devices_run & devices[i].bit)
			print_item(devices[i].name, &some);
	print("|");
	for (some = i = 0; i < RESETS; i++)
		if (counted[i])
			print_item(counter_names[i], &some);
	print("|");
	if (failure) {
		print(where);
		print(": ");
	}
	print(failure ? failure : where ? "passed" : "not run");
	print("\n");
}

static void run_all(const struct rule *rules)
{
	for (; rules->name; rules++)
		run(rules);
}

void guest(void)
{
	unsigned int i, counter;

	device_count = find_devices(devices);
	run_all(status_rules);
	run_all(feature_rules);
	run_all(register_rules);
	run_all(config_rules);
	run_all(setup_rules);
	run_all(ready_rules);
	run_all(ring_rules);
	run_all(chain_rules);
	run_all(table_rules);
	run_all(block_rules);
	run_all(request_rules);
	run_all(discard_rules);
	run_all(net_rules);
	run_all(receive_rules);
	run_all(rng_rules);
	for (i = 0; i < device_count; i++) {
		for (counter = 0; counter < COUNTERS; counter++) {
			print("count|");
			print(devices[i].name);
			print("|");
			print(counter_names[counter]);
			print("|");
			print_decimal(devices[i].expected[counter]);
			print("\n");
		}
	}
	print("end\n");
}
