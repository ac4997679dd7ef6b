// SPDX-License-Identifier: GPL-2.0
/*
 * The doorbell: the guest exits to the VMM, which may make symcalls. And the
 * interrupt by which the VMM requests a doorbell.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/acpi.h>
#include <linux/interrupt.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "symbiotic.h"

/*
 * Symcalls run between the two writes of in_doorbell, as if this function
 * called them: interrupts are disabled, RCU is watching.
 */
void symbiotic_doorbell(u8 number, u64 rbx, u64 rcx, u64 rdx, u64 rsi, u64 rdi)
{
	struct symbiotic_local_page *page;
	unsigned long flags;

	local_irq_save(flags);
	page = __this_cpu_read(symbiotic_cpu.local);
	if (page)
		page->doorbells++;
	symbiotic_global->doorbells++;
	__this_cpu_write(symbiotic_cpu.in_doorbell, true);
	symbiotic_ring(number, rbx, rcx, rdx, rsi, rdi);
	__this_cpu_write(symbiotic_cpu.in_doorbell, false);
	local_irq_restore(flags);
}

/*
 * Not threaded, so that it works while the guest cannot schedule tasks. The
 * interrupt controller keeps an edge that arrives meanwhile.
 */
static irqreturn_t on_request(int irq, void *data)
{
	symbiotic_global->interrupts++;
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SERVE, 0, 0, 0, 0, 0);
	return IRQ_HANDLED;
}

static void clear_interrupt_feature(void *data)
{
	symbiotic_set_feature(SYMBIOTIC_FEATURE_INTERRUPT, false);
}

static int doorbell_probe(struct platform_device *device)
{
	int irq, err;

	irq = platform_get_irq(device, 0);
	if (irq < 0)
		return irq;
	err = devm_request_irq(&device->dev, irq, on_request, 0, "symbiotic", NULL);
	if (err)
		return err;
	/* devm undoes it in reverse order: first the feature, then the interrupt */
	err = devm_add_action_or_reset(&device->dev,
				       clear_interrupt_feature, NULL);
	if (err)
		return err;
	symbiotic_set_feature(SYMBIOTIC_FEATURE_INTERRUPT, true);
	return 0;
}

static const struct acpi_device_id doorbell_ids[] = {
	{ SYMBIOTIC_ACPI_HID, 0 },
	{ }
};
MODULE_DEVICE_TABLE(acpi, doorbell_ids);

static struct platform_driver doorbell_driver = {
	.probe = doorbell_probe,
	.driver = {
		.name = "symbiotic",
		.acpi_match_table = doorbell_ids,
		.suppress_bind_attrs = true,
	},
};

int symbiotic_start_interrupt(void)
{
	return platform_driver_register(&doorbell_driver);
}

void symbiotic_stop_interrupt(void)
{
	platform_driver_unregister(&doorbell_driver);
}
