// SPDX-License-Identifier: GPL-2.0
/*
 * symbiotic.ko: the guest's side of the symbiotic ABI (docs/ABI.md).
 *
 * Loading under any other VMM, or on bare metal, ends with -ENODEV and
 * without a word.
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
MODULE_PARM_DESC(force, "Load on a kernel version that was not tested");

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
		pr_err("the VMM speaks version %u.%u of the ABI, this module %u.%u\n",
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
		pr_err("the VMM can't call into a guest whose registers are encrypted\n");
		return -EOPNOTSUPP;
	}
#ifdef X86_FEATURE_FRED
	if (cpu_feature_enabled(X86_FEATURE_FRED)) {
		pr_err("FRED is on, and the handlers need an IDT: boot with fred=off\n");
		return -EOPNOTSUPP;
	}
#endif
	if (!tested && !force) {
		pr_err("not tested on Linux %s, only on 6.1 and 6.12; force=1 loads it\n",
		       init_utsname()->release);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int __init symbiotic_init(void)
{
	int err;

	if (!found_vmm()) {
		pr_debug("not under a symbiotic VMM\n");
		return -ENODEV;
	}
	err = check_vmm();
	if (!err)
		err = check_kernel();
	if (err)
		return err;

	symbiotic_find_symbols();
	err = symbiotic_build_idt();
	if (err)
		return err;
	err = symbiotic_register_vm();
	if (err)
		goto free_idt;
	/* Before the pages are there: no switch after arming goes unseen */
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
	pr_info("ABI %u.%u, %u vCPUs, doorbell by %s\n",
		SYMBIOTIC_ABI_MAJOR, SYMBIOTIC_ABI_MINOR,
		symbiotic_global->armed_vcpus,
		symbiotic_global->features & SYMBIOTIC_FEATURE_INTERRUPT ?
		"interrupt" : "the guest's own actions only");
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
	/* From here no vCPU is armed: nothing enters this module any more */
	symbiotic_stop_symspy();
	symbiotic_unregister_vm();
	symbiotic_free_idt();
}

module_init(symbiotic_init);
module_exit(symbiotic_exit);

MODULE_DESCRIPTION("The guest's side of symmvm's symbiotic interface");
MODULE_AUTHOR("The symmvm authors");
MODULE_LICENSE("GPL");
