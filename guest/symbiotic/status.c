// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/symbiotic/ (one value for each file, readable by all users) and
 * /sys/kernel/debug/symbiotic/status (everything, readable by root).
 */
#include <linux/debugfs.h>
#include <linux/kobject.h>
#include <linux/seq_file.h>
#include <linux/sysfs.h>

#include "symbiotic.h"
#include "symbiotic_swap.h"

static struct dentry *debugfs;
static struct kobject *sysfs;

static ssize_t abi_version_show(struct kobject *object,
				struct kobj_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u.%u\n", SYMBIOTIC_ABI_MAJOR, SYMBIOTIC_ABI_MINOR);
}

static ssize_t armed_vcpus_show(struct kobject *object,
				struct kobj_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", READ_ONCE(symbiotic_global->armed_vcpus));
}

static ssize_t features_show(struct kobject *object,
			     struct kobj_attribute *attribute, char *text)
{
	const u32 features = READ_ONCE(symbiotic_global->features);

	return sysfs_emit(text, "%s%s%s%s%s\n",
			  features & SYMBIOTIC_FEATURE_SYMSPY ? "symspy " : "",
			  features & SYMBIOTIC_FEATURE_SYMCALL ? "symcall " : "",
			  features & SYMBIOTIC_FEATURE_SWAPBYPASS ? "swapbypass " : "",
			  features & SYMBIOTIC_FEATURE_INTERRUPT ? "interrupt " : "",
			  features & SYMBIOTIC_FEATURE_FAST_DOORBELL ? "fast_doorbell " : "");
}

static ssize_t symcalls_show(struct kobject *object,
			     struct kobj_attribute *attribute, char *text)
{
	const bool off = READ_ONCE(symbiotic_global->vmm_flags) &
			 SYMBIOTIC_VMM_SYMCALLS_OFF;

	return sysfs_emit(text, "%s\n", off ? "off" : "on");
}

static struct kobj_attribute abi_version = __ATTR_RO(abi_version);
static struct kobj_attribute armed_vcpus = __ATTR_RO(armed_vcpus);
static struct kobj_attribute features = __ATTR_RO(features);
static struct kobj_attribute symcalls = __ATTR_RO(symcalls);

static struct attribute *attributes[] = {
	&abi_version.attr,
	&armed_vcpus.attr,
	&features.attr,
	&symcalls.attr,
	NULL
};

static const struct attribute_group group = { .attrs = attributes };

static void show_vcpu(struct seq_file *file, unsigned int cpu)
{
	const struct symbiotic_cpu *vcpu = &per_cpu(symbiotic_cpu, cpu);
	const struct symbiotic_local_page *page = vcpu->local;

	if (!page)
		return;
	seq_printf(file,
		   "vcpu %u: armed %d enabled %u symcalls %llu errors %llu completed %llu failures %llu aborts %llu doorbells %llu switches %llu\n",
		   cpu, vcpu->armed, READ_ONCE(page->enabled),
		   READ_ONCE(page->symcalls), READ_ONCE(page->symcall_errors),
		   READ_ONCE(page->completed), READ_ONCE(page->failures),
		   READ_ONCE(page->aborts), READ_ONCE(page->doorbells),
		   READ_ONCE(page->switches));
}

static int status_show(struct seq_file *file, void *unused)
{
	const struct symbiotic_global_page *page = symbiotic_global;
	unsigned int cpu;

	seq_printf(file, "abi: guest %u.%u vmm %u.%u\n",
		   SYMBIOTIC_ABI_MAJOR, SYMBIOTIC_ABI_MINOR,
		   READ_ONCE(page->vmm_version) >> 16,
		   READ_ONCE(page->vmm_version) & 0xffff);
	seq_printf(file, "features: 0x%x\n", READ_ONCE(page->features));
	seq_printf(file, "symcalls: %s\n",
		   READ_ONCE(page->vmm_flags) & SYMBIOTIC_VMM_SYMCALLS_OFF ?
		   "off" : "on");
	seq_printf(file, "buffer: %u bytes\n", symbiotic_buffer_size);
	seq_printf(file, "requests %llu interrupts %llu doorbells %llu\n",
		   READ_ONCE(page->requests), READ_ONCE(page->interrupts),
		   READ_ONCE(page->doorbells));
	for_each_possible_cpu(cpu)
		show_vcpu(file, cpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

int symbiotic_start_status(void)
{
	int err;

	sysfs = kobject_create_and_add("symbiotic", kernel_kobj);
	if (!sysfs)
		return -ENOMEM;
	err = sysfs_create_group(sysfs, &group);
	if (err) {
		kobject_put(sysfs);
		return err;
	}
	/* Errors are ignored: debugfs is optional */
	debugfs = debugfs_create_dir("symbiotic", NULL);
	debugfs_create_file("status", 0400, debugfs, NULL, &status_fops);
	return 0;
}

void symbiotic_stop_status(void)
{
	debugfs_remove(debugfs);
	kobject_put(sysfs);
}

struct dentry *symbiotic_debugfs(void)
{
	return debugfs;
}
