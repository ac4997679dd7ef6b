// SPDX-License-Identifier: GPL-2.0
/*
 * Test build (SYMBIOTIC_TEST=1): a guest that breaks the ABI's rules. The VMM
 * and its other VMs must survive all of it; this guest need not.
 *
 *   echo "COMMAND [CPU [NUMBER]]" > /sys/kernel/debug/symbiotic/test
 *   cat /sys/kernel/debug/symbiotic/test   the latest command's result
 *
 * docs/ABI.md, section 8, lists the commands and the test symcalls.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/uaccess.h>

#include "symbiotic.h"
#include "test.h"

struct invocation {
	const struct test_command *command;
	u64 number;
};

static DEFINE_MUTEX(last_lock);
static char last[80] = "no command yet";

static int run_command(void *data)
{
	struct invocation *invocation = data;

	return invocation->command->run(invocation->number);
}

static ssize_t test_write(struct file *file, const char __user *from,
			  size_t length, loff_t *offset)
{
	char text[64], name[32];
	unsigned int cpu = 0;
	struct invocation invocation = { };
	int err, used;

	if (length >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, length))
		return -EFAULT;
	text[length] = '\0';
	if (sscanf(text, "%31s %u %lli", name, &cpu, (s64 *)&invocation.number) < 1)
		return -EINVAL;
	invocation.command = test_find_command(name);
	if (!invocation.command || cpu >= nr_cpu_ids)
		return -EINVAL;
	WRITE_ONCE(test_ticks, 0);
	err = smp_call_on_cpu(cpu, run_command, &invocation, false);
	mutex_lock(&last_lock);
	used = scnprintf(last, sizeof(last), "%s: %s (%d)", name,
			 err ? "refused" : "accepted", err);
	if (READ_ONCE(test_ticks))
		scnprintf(last + used, sizeof(last) - used, ": %llu ticks",
			  READ_ONCE(test_ticks));
	mutex_unlock(&last_lock);
	return length;
}

static int test_show(struct seq_file *file, void *unused)
{
	mutex_lock(&last_lock);
	seq_printf(file, "%s\n", last);
	mutex_unlock(&last_lock);
	return 0;
}

static int test_open(struct inode *inode, struct file *file)
{
	return single_open(file, test_show, NULL);
}

static const struct file_operations test_file = {
	.owner = THIS_MODULE,
	.open = test_open,
	.read = seq_read,
	.write = test_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void symbiotic_start_test(void)
{
	symbiotic_add_test_symcalls();
	debugfs_create_file("test", 0600, symbiotic_debugfs(), NULL, &test_file);
	pr_notice("test build: test symcalls and test commands are available\n");
}

void symbiotic_stop_test(void)
{
	/* The module's exit frees the symcalls and the debugfs folder */
}
