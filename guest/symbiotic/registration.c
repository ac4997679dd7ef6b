// SPDX-License-Identifier: GPL-2.0
/*
 * Shared memory and MSRs: registers the VM, and each vCPU as it comes on-line.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/reboot.h>
#include <linux/sizes.h>
#include <linux/utsname.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>

#include "symbiotic.h"

#define BUFFER_SIZE	SZ_64K

DEFINE_PER_CPU(struct symbiotic_cpu, symbiotic_cpu);

struct symbiotic_global_page *symbiotic_global;
void *symbiotic_buffer;
u32 symbiotic_buffer_size;

static enum cpuhp_state hotplug_state;
static DEFINE_SPINLOCK(global_lock);	/* protects features and armed_vcpus */

static int write_msr(u32 msr, u64 value)
{
	int err = wrmsrl_safe(msr, value);

	if (err)
		pr_err_ratelimited("the VMM rejects 0x%llx in MSR 0x%x\n",
				   value, msr);
	return err;
}

/* Clears @msr and reads it back */
static int clear_msr(u32 msr)
{
	u64 value;
	int err;

	err = write_msr(msr, 0);
	if (!err)
		err = rdmsrl_safe(msr, &value);
	if (!err && value) {
		pr_err("the VMM keeps 0x%llx in MSR 0x%x\n", value, msr);
		err = -EIO;
	}
	return err;
}

void symbiotic_set_feature(u32 feature, bool on)
{
	unsigned long flags;
	u32 features;

	spin_lock_irqsave(&global_lock, flags);
	features = symbiotic_global->features & ~feature;
	if (on)
		features |= feature;
	WRITE_ONCE(symbiotic_global->features, features);
	spin_unlock_irqrestore(&global_lock, flags);
}

static void count_armed(int change)
{
	unsigned long flags;

	spin_lock_irqsave(&global_lock, flags);
	WRITE_ONCE(symbiotic_global->armed_vcpus,
		   symbiotic_global->armed_vcpus + change);
	spin_unlock_irqrestore(&global_lock, flags);
}

/* ---- One vCPU ------------------------------------------------------------ */

static u64 preempt_count_gpa(unsigned int cpu)
{
	void *address;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	address = &per_cpu(pcpu_hot, cpu).preempt_count;
#else
	address = &per_cpu(__preempt_count, cpu);
#endif
	return virt_addr_valid(address) ? virt_to_phys(address) : 0;
}

static u64 cr3_clear_mask(void)
{
	u64 mask = 0;

#ifdef X86_CR3_PTI_PCID_USER_BIT
	/* Selects the kernel's half of the page-table pair, and its PCID */
	if (boot_cpu_has(X86_FEATURE_PTI))
		mask = BIT_ULL(X86_CR3_PTI_PCID_USER_BIT) | BIT_ULL(PAGE_SHIFT);
#endif
	return mask;
}

/* Optional: without it, the VMM handles doorbells more slowly */
bool symbiotic_has_fast_doorbell(void)
{
	return cpuid_ebx(SYMBIOTIC_CPUID_FEATURES) & SYMBIOTIC_FEATURE_FAST_DOORBELL;
}

static int allocate_cpu(struct symbiotic_cpu *mine, unsigned int cpu)
{
	/*
	 * vmalloc has a guard page below the stack, so an overflow faults
	 * instead of corrupting memory.
	 */
	if (!mine->stack)
		mine->stack = vzalloc_node(SYMBIOTIC_STACK_SIZE, cpu_to_node(cpu));
	if (!mine->local)
		mine->local = (void *)get_zeroed_page(GFP_KERNEL);
	return mine->stack && mine->local ? 0 : -ENOMEM;
}

static void fill_local_page(struct symbiotic_local_page *page, unsigned int cpu)
{
	memset(page, 0, sizeof(*page));
	page->magic = SYMBIOTIC_LOCAL_MAGIC;
	page->version = SYMBIOTIC_ABI_VERSION;
	page->size = sizeof(*page);
	page->cpu = cpu;
	page->apic_id = cpu_physical_id(cpu);
	page->preempt_count_gpa = preempt_count_gpa(cpu);
}

/* Arms the current vCPU; the caller is bound to it */
int symbiotic_arm(void)
{
	struct symbiotic_cpu *mine = this_cpu_ptr(&symbiotic_cpu);
	u64 gs_base;
	int err;

	rdmsrl(MSR_GS_BASE, gs_base);
	symbiotic_publish_current();
	err = write_msr(SYMBIOTIC_MSR_LOCAL_PAGE, virt_to_phys(mine->local));
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_RSP,
				(unsigned long)mine->stack + SYMBIOTIC_STACK_SIZE);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_CS, __KERNEL_CS);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_GS_BASE, gs_base);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_FS_BASE, 0);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_CR3_CLEAR, cr3_clear_mask());
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_IDT, symbiotic_idt_address());
	if (!err && symbiotic_has_fast_doorbell())
		err = write_msr(SYMBIOTIC_MSR_FAST_DOORBELL, (unsigned long)symbiotic_fast_doorbell);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_RIP, (unsigned long)symbiotic_entry);
	if (err)
		return err;
	mine->armed = true;
	count_armed(1);
	return 0;
}

int symbiotic_disarm(void)
{
	struct symbiotic_cpu *mine = this_cpu_ptr(&symbiotic_cpu);
	int err;

	if (!mine->armed)
		return 0;
	err = clear_msr(SYMBIOTIC_MSR_RIP);
	if (!err)
		err = clear_msr(SYMBIOTIC_MSR_LOCAL_PAGE);
	if (err)
		return err;
	mine->armed = false;
	count_armed(-1);
	return 0;
}

/* On the new vCPU. After an error it works without symcalls. */
static int vcpu_online(unsigned int cpu)
{
	struct symbiotic_cpu *mine = this_cpu_ptr(&symbiotic_cpu);
	int err;

	err = allocate_cpu(mine, cpu);
	if (!err) {
		fill_local_page(mine->local, cpu);
		err = symbiotic_arm();
	}
	if (err)
		pr_warn("cannot arm vCPU %u (%d)\n", cpu, err);
	return 0;
}

static int vcpu_offline(unsigned int cpu)
{
	if (symbiotic_disarm())
		pr_err("cannot disarm vCPU %u\n", cpu);
	return 0;
}

int symbiotic_register_vcpus(void)
{
	int state;

	state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "symbiotic:online",
				  vcpu_online, vcpu_offline);
	if (state < 0)
		return state;
	hotplug_state = state;
	if (!symbiotic_global->armed_vcpus) {
		symbiotic_unregister_vcpus();
		return -EIO;
	}
	return 0;
}

void symbiotic_unregister_vcpus(void)
{
	/* Calls vcpu_offline() on each on-line vCPU */
	cpuhp_remove_state(hotplug_state);
}

/* ---- The VM -------------------------------------------------------------- */

static int reboot_notify(struct notifier_block *block, unsigned long action,
			 void *data)
{
	/* After kexec, these pages belong to the next kernel */
	wrmsrl_safe(SYMBIOTIC_MSR_GLOBAL_PAGE, 0);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_block = { .notifier_call = reboot_notify };

static void allocate_buffer(void)
{
	u32 size;

	/* Contiguous memory may be scarce: try smaller buffers */
	for (size = BUFFER_SIZE; size >= PAGE_SIZE; size /= 2) {
		symbiotic_buffer = alloc_pages_exact(size, GFP_KERNEL | __GFP_ZERO |
						     __GFP_NOWARN);
		if (symbiotic_buffer) {
			symbiotic_buffer_size = size;
			return;
		}
	}
}

static void fill_global_page(struct symbiotic_global_page *page)
{
	page->magic = SYMBIOTIC_GLOBAL_MAGIC;
	page->version = SYMBIOTIC_ABI_VERSION;
	page->size = sizeof(*page);
	page->features = SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL;
	if (symbiotic_has_fast_doorbell())
		page->features |= SYMBIOTIC_FEATURE_FAST_DOORBELL;
	if (symbiotic_buffer) {
		page->buffer_gpa = virt_to_phys(symbiotic_buffer);
		page->buffer_size = symbiotic_buffer_size;
	}
	page->preempt_hardirq_mask = HARDIRQ_MASK;
	page->preempt_softirq_mask = SOFTIRQ_MASK;
	page->preempt_nmi_mask = NMI_MASK;
	strscpy(page->release, init_utsname()->release, sizeof(page->release));
	symbiotic_publish_symcalls();
}

int symbiotic_register_vm(void)
{
	int err;

	symbiotic_global = (void *)get_zeroed_page(GFP_KERNEL);
	if (!symbiotic_global)
		return -ENOMEM;
	allocate_buffer();
	fill_global_page(symbiotic_global);

	/* A kernel before kexec may have left its registration */
	err = clear_msr(SYMBIOTIC_MSR_GLOBAL_PAGE);
	if (!err)
		err = write_msr(SYMBIOTIC_MSR_GLOBAL_PAGE,
				virt_to_phys(symbiotic_global));
	if (!err)
		err = register_reboot_notifier(&reboot_block);
	if (err)
		symbiotic_unregister_vm();
	return err;
}

void symbiotic_unregister_vm(void)
{
	struct symbiotic_cpu *mine;
	unsigned int cpu;

	unregister_reboot_notifier(&reboot_block);
	if (clear_msr(SYMBIOTIC_MSR_GLOBAL_PAGE)) {
		/* The VMM may still write to the pages: never free them */
		pr_err("the VMM keeps the shared pages: leaking them\n");
		return;
	}
	for_each_possible_cpu(cpu) {
		mine = &per_cpu(symbiotic_cpu, cpu);
		vfree(mine->stack);
		mine->stack = NULL;
		free_page((unsigned long)mine->local);
		mine->local = NULL;
	}
	if (symbiotic_buffer)
		free_pages_exact(symbiotic_buffer, symbiotic_buffer_size);
	symbiotic_buffer = NULL;
	free_page((unsigned long)symbiotic_global);
	symbiotic_global = NULL;
}
