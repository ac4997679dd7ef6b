// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "tiny-machine.h"

#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	GDT = 0x500,
	BOOT_PARAMS = 0x7000,
	STACK_TOP = 0x9000,
	PAGE_TABLES = 0x9000,
	COMMAND_LINE = 0x20000,
	CMD_LINE_PTR = 0x228,
	CPUID_ROOM = 256,
};

static uint8_t *memory;

int call(int fd, unsigned long request, const char *name, void *argument)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		err(1, "%s", name);
	return result;
}

static void place(uint64_t address, const void *bytes, size_t count)
{
	if (address > MEMORY_SIZE || count > MEMORY_SIZE - address)
		errx(1, "the guest does not fit into its memory");
	memcpy(memory + address, bytes, count);
}

/* Returns the entry. */
static uint64_t load(const char *path)
{
	static uint8_t file[1 << 20];
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	int fd = open(path, O_RDONLY);
	ssize_t size = fd < 0 ? -1 : read(fd, file, sizeof(file));

	if (size < (ssize_t)sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		errx(1, "%s: not an ELF file", path);
	close(fd);
	for (int i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *segment = (const Elf64_Phdr *)(file + header->e_phoff) + i;

		if ((const uint8_t *)(segment + 1) > file + size || segment->p_offset + segment->p_filesz > (uint64_t)size)
			errx(1, "%s: truncated", path);
		if (segment->p_type == PT_LOAD)
			place(segment->p_paddr, file + segment->p_offset, segment->p_filesz);
	}
	return header->e_entry;
}

static void write_tables(const char *command_line)
{
	const uint64_t gdt[6] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067, 0};
	const uint32_t command_line_address = COMMAND_LINE;
	uint64_t *tables = (uint64_t *)(memory + PAGE_TABLES);

	place(GDT, gdt, sizeof(gdt));
	place(COMMAND_LINE, command_line, strlen(command_line) + 1);
	place(BOOT_PARAMS + CMD_LINE_PTR, &command_line_address, sizeof(command_line_address));
	tables[0] = (PAGE_TABLES + 0x1000) | 3;
	for (int i = 0; i < 4; i++)
		tables[512 + i] = (PAGE_TABLES + 0x2000 + i * 0x1000) | 3;
	for (uint64_t i = 0; i < 2048; i++)
		tables[1024 + i] = i << 21 | 0x83;
}

static int make_vm(int kvm)
{
	int vm = CALL(kvm, KVM_CREATE_VM, 0);
	struct kvm_pit_config timer = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY_SIZE, .userspace_addr = (uint64_t)memory};
	uint64_t identity_map = 0xfffbc000;

	CALL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	CALL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	CALL(vm, KVM_CREATE_IRQCHIP, 0);
	CALL(vm, KVM_CREATE_PIT2, &timer);
	return vm;
}

static void set_registers(int vcpu, uint64_t entry)
{
	const struct kvm_segment data = {.limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_regs registers = {.rip = entry, .rsi = BOOT_PARAMS, .rsp = STACK_TOP, .rflags = 2};
	struct kvm_sregs special;

	CALL(vcpu, KVM_GET_SREGS, &special);
	special.ds = special.es = special.ss = special.fs = special.gs = data;
	special.cs = (struct kvm_segment){.limit = 0xffffffff, .selector = 0x10, .type = 11, .present = 1, .s = 1, .g = 1, .l = 1};
	special.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x20, .type = 11, .present = 1};
	special.gdt = (struct kvm_dtable){.base = GDT, .limit = 0x2f};
	special.idt = (struct kvm_dtable){0};
	special.cr0 = 0x80000033;
	special.cr3 = PAGE_TABLES;
	special.cr4 = 0x20;
	special.efer = 0x500;
	CALL(vcpu, KVM_SET_SREGS, &special);
	CALL(vcpu, KVM_SET_REGS, &registers);
}

static int make_vcpu(int kvm, int vm, uint64_t entry, const struct kvm_cpuid_entry2 *more, size_t count)
{
	static union {
		struct kvm_cpuid2 head;
		uint8_t bytes[sizeof(struct kvm_cpuid2) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2)];
	} cpuid = {.head.nent = CPUID_ROOM};
	int vcpu = CALL(vm, KVM_CREATE_VCPU, 0);

	CALL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	if (count > CPUID_ROOM - cpuid.head.nent)
		errx(1, "too much CPUID");
	if (count != 0)
		memcpy(cpuid.head.entries + cpuid.head.nent, more, count * sizeof(*more));
	cpuid.head.nent += count;
	CALL(vcpu, KVM_SET_CPUID2, &cpuid);
	set_registers(vcpu, entry);
	return vcpu;
}

struct tiny_machine make_machine(const char *guest, const char *command_line, const struct kvm_cpuid_entry2 *more, size_t count)
{
	struct tiny_machine machine;
	int kvm;

	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (memory == MAP_FAILED || kvm < 0)
		err(1, "/dev/kvm");
	machine.memory = memory;
	machine.vm = make_vm(kvm);
	write_tables(command_line);
	machine.vcpu = make_vcpu(kvm, machine.vm, load(guest), more, count);
	machine.page = mmap(NULL, CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
	if (machine.page == MAP_FAILED)
		err(1, "run page");
	return machine;
}
