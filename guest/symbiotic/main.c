// SPDX-License-Identifier: GPL-2.0
/*
 * symbiotic.ko: the guest's side of the symbiotic ABI (docs/ABI.md).
 *
 * Under any other VMM and on bare metal, loading fails with -ENODEV and prints
 * nothing.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/cc_platform.h>
#include <linux/module.h>
#include <linux/utsname.h>
#include <linux/version.h>

#include <asm/cpufeature.h>
#include <asm/processor.h>

#include "symbiotic.h"

static bool force;
module_param(force, bool, 0444);
MODULE_PARM_DESC(force, "Load on an untested kernel version");

static bool symmod;
module_param(symmod, bool, 0444);
MODULE_PARM_DESC(symmod, "The VMM has brought the module into the initramfs");

static bool found_vmm(void)
{
	u32 eax, ebx, ecx, edx;

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	cpuid(SYMBIOTIC_CPUID_SIGNATURE, &eax, &ebx, &ecx, &edx);
	return eax >= SYMBIOTIC_CPUID_FEATURES &&
	       ebx == SYMBIOTIC_SIGNATURE_EBX &&
	       ecx == SYMBIOTIC_SIGNATURE_ECX &&
	       edx == SYMBIOTIC_SIGNATURE_EDX;
}

static int check_vmm(void)
{
	const u32 needed = SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL;
	u32 version, features, msr, ports;

	cpuid(SYMBIOTIC_CPUID_FEATURES, &version, &features, &msr, &ports);
	if (version >> 16 != SYMBIOTIC_ABI_MAJOR || msr != SYMBIOTIC_MSR_BASE ||
	    ports != SYMBIOTIC_CPUID_PORTS) {
		pr_err("the VMM has ABI version %u.%u, this module needs %u.%u\n",
		       version >> 16, version & 0xffff,
		       SYMBIOTIC_ABI_MAJOR, SYMBIOTIC_ABI_MINOR);
		return -EOPNOTSUPP;
	}
	if ((features & needed) != needed) {
		pr_err("the VMM offers features 0x%x, this module needs 0x%x\n",
		       features, needed);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int check_kernel(void)
{
	const unsigned int series = LINUX_VERSION_CODE >> 8;
	const bool tested = series == KERNEL_VERSION(6, 1, 0) >> 8 ||
			    series == KERNEL_VERSION(6, 12, 0) >> 8;

	if (cc_platform_has(CC_ATTR_GUEST_STATE_ENCRYPT)) {
		pr_err("encrypted guest registers are not supported\n");
		return -EOPNOTSUPP;
	}
#ifdef X86_FEATURE_FRED
	if (cpu_feature_enabled(X86_FEATURE_FRED)) {
		pr_err("FRED is enabled, but symcalls need an IDT: boot with fred=off\n");
		return -EOPNOTSUPP;
	}
#endif
	if (!tested && !force) {
		pr_err("tested on Linux 6.1 and 6.12, not on %s: force=1 loads it\n",
		       init_utsname()->release);
		return -EOPNOTSUPP;
	}
	/* Its spinlocks sleep, but swap bypass takes some with preemption disabled */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && !force) {
		pr_err("not tested on PREEMPT_RT kernels: force=1 loads it, without swap bypass\n");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int __init symbiotic_init(void)
{
	int err;

	if (!found_vmm()) {
		pr_debug("no symbiotic VMM\n");
		return -ENODEV;
	}
	symbiotic_find_symbols();
	if (symmod)
		symbiotic_restore_command_line();
	err = check_vmm();
	if (!err)
		err = check_kernel();
	if (err)
		return err;

	err = symbiotic_build_idt();
	if (err)
		return err;
	err = symbiotic_register_vm();
	if (err)
		goto free_idt;
	/* Before the local pages exist, so that no task switch after arming is missed */
	err = symbiotic_start_symspy();
	if (err)
		goto unregister_vm;
	err = symbiotic_register_vcpus();
	if (err)
		goto stop_symspy;
	err = symbiotic_start_interrupt();
	if (err)
		goto unregister_vcpus;
	err = symbiotic_start_status();
	if (err)
		goto stop_interrupt;
	symbiotic_start_test();

	symbiotic_doorbell(SYMBIOTIC_DOORBELL_READY, 0, 0, 0, 0, 0);
	pr_info("ABI %u.%u, %u vCPUs, doorbells %s\n",
		SYMBIOTIC_ABI_MAJOR, SYMBIOTIC_ABI_MINOR,
		symbiotic_global->armed_vcpus,
		symbiotic_global->features & SYMBIOTIC_FEATURE_INTERRUPT ?
		"on interrupt" : "on the guest's own initiative only");
	symbiotic_start_swap();
	return 0;

stop_interrupt:
	symbiotic_stop_interrupt();
unregister_vcpus:
	symbiotic_unregister_vcpus();
stop_symspy:
	symbiotic_stop_symspy();
unregister_vm:
	symbiotic_unregister_vm();
free_idt:
	symbiotic_free_idt();
	return err;
}

static void __exit symbiotic_exit(void)
{
	symbiotic_stop_swap();
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_LEAVING, 0, 0, 0, 0, 0);
	symbiotic_stop_test();
	symbiotic_stop_status();
	symbiotic_stop_interrupt();
	symbiotic_unregister_vcpus();
	/* No vCPU is armed: the VMM no longer enters this module */
	symbiotic_stop_symspy();
	symbiotic_unregister_vm();
	symbiotic_free_idt();
}

module_init(symbiotic_init);
module_exit(symbiotic_exit);

MODULE_DESCRIPTION("The guest's side of symmvm's symbiotic interface");
MODULE_AUTHOR("The symmvm authors");
MODULE_LICENSE("GPL");
