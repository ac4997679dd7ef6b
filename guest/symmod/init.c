// SPDX-License-Identifier: GPL-2.0
/*
 * symmod-init: the first process of a guest to which symvmm brings symbiotic.ko
 * (docs/SYMMOD.md).
 *
 * It loads the module, removes its own files, and executes the initramfs' own /init
 * as process 1, with the arguments and the environment that the kernel gave. Without
 * /init it mounts root= and executes init=, as the kernel would have.
 *
 * Whatever goes wrong with the module costs one line in the kernel's log. The guest
 * then boots without it.
 */
#include "symmod.h"
#include "system.h"

/* How long the module may take to load */
#define LOAD_LIMIT_MS	30000
#define LOAD_POLL_MS	2

/* A literal is written once only */
#define WITHOUT		"; the guest runs without it"

static const char *meaning(long error)
{
	switch (error) {
	case EKEYREJECTED:
	case ENOKEY:
	case EPERM:
	case ENODATA:
	case ENOPKG:
		return "the kernel takes signed modules only";
	case ENOEXEC:
	case EINVAL:
	case EBADMSG:
		return "it does not fit this kernel, or is damaged";
	case ENOENT:
		return "it needs a symbol that this kernel does not have";
	case ENODEV:
		return "it does not find symvmm";
	case EOPNOTSUPP:
		return "it does not support this kernel or this symvmm: its own line says why";
	case ENOMEM:
		return "the guest has too little memory";
	}
	return "the kernel refuses it";
}

/* Loads the module; returns 0 or an errno, at most 255 */
static int load_module(void)
{
	int file = sys_open(SYMMOD_MODULE, O_RDONLY);
	long result;

	if (file < 0)
		return -file;
	result = call(__NR_finit_module, file, "symmod=1", 0);
	return result < 0 ? -result & 0xff : 0;
}

/*
 * In a process of its own: the kernel kills a process in which a module crashes, and
 * panics if that is process 1.
 */
static void load_in_child(void)
{
	char number[24] = "";
	int status = 0, waited;
	long child, ended = 0;

	child = call(__NR_fork, 0, 0, 0);
	if (child == 0)
		call(__NR_exit_group, load_module(), 0, 0);
	if (child < 0) {
		append_number(number, sizeof(number), -child);
		report("no process can load symbiotic.ko (error ", number, ")" WITHOUT, NULL);
		return;
	}
	for (waited = 0; waited < LOAD_LIMIT_MS; waited += LOAD_POLL_MS) {
		ended = call5(__NR_wait4, child, (long)&status, WNOHANG, 0, 0);
		if (ended)
			break;
		sleep_ms(LOAD_POLL_MS);
	}
	if (ended != child) {
		/* It will be a child of the real init, which waits for unknown children, too */
		report("symbiotic.ko has not been loaded after 30 s", WITHOUT, NULL);
	} else if (status & 0x7f) {
		report("symbiotic.ko crashed while it was loaded", WITHOUT, NULL);
	} else if (status >> 8) {
		append_number(number, sizeof(number), status >> 8 & 0xff);
		report("symbiotic.ko is not loaded: ", meaning(status >> 8 & 0xff), " (error ",
		       number, ")" WITHOUT, NULL);
	}
}

void remove_files(void)
{
	sys_unlink(SYMMOD_MODULE);
	sys_unlink(SYMMOD_LOG);
	sys_unlink(SYMMOD_INIT);
	call(__NR_rmdir, SYMMOD_MOUNT, 0, 0);
	call(__NR_rmdir, SYMMOD_FOLDER, 0, 0);
}

/* The result is an errno: it does not return if the program starts */
static long execute(const char *path, char **arguments, char **environment)
{
	arguments[0] = (char *)path;
	return -call(__NR_execve, path, arguments, environment);
}

static void say_failed(const char *path, long error)
{
	char number[24] = "";

	append_number(number, sizeof(number), error);
	report("cannot execute ", path, " (error ", number, ")", NULL);
}

/* Executes what the kernel executes when it finds no initramfs */
static void execute_init(const char *wanted, char **arguments, char **environment)
{
	static const char * const usual[] = {
		"/sbin/init", "/etc/init", "/bin/init", "/bin/sh", NULL
	};
	const char * const *path;

	if (wanted) {
		say_failed(wanted, execute(wanted, arguments, environment));
		return;
	}
	for (path = usual; *path; path++) {
		long error = execute(*path, arguments, environment);

		if (error != ENOENT)
			say_failed(*path, error);
	}
}

/*
 * /proc/cmdline, and whether the kernel was told to mount the root read-only: by root_flags
 * of the boot parameters (arch/x86/kernel/setup.c), which ro and rw override.
 */
static void look_up_parameters(struct parameters *parameters)
{
	unsigned char flags[2] = { 1, 0 };
	int file;

	if (sys_mount("proc", SYMMOD_MOUNT, "proc", 0, NULL) == 0) {
		if (!read_text(SYMMOD_COMMAND_LINE, parameters->line, sizeof(parameters->line)))
			parameters->line[0] = '\0';
		sys_umount(SYMMOD_MOUNT);
	}
	if (sys_mount("sysfs", SYMMOD_MOUNT, "sysfs", 0, NULL) == 0) {
		file = sys_open(SYMMOD_MOUNT "/kernel/boot_params/data", O_RDONLY);
		if (file >= 0) {
			sys_pread(file, flags, sizeof(flags), 0x1f2);
			sys_close(file);
		}
		sys_umount(SYMMOD_MOUNT);
	}
	read_parameters(parameters, flags[0] || flags[1]);
}

/* argc, the arguments, NULL, the environment, NULL */
__attribute__((noreturn, used)) void start(long *stack)
{
	static struct parameters parameters;
	char **arguments = (char **)(stack + 1);
	char **environment = arguments + stack[0] + 1;
	long error;

	/* Started by hand, or by something that is not symvmm's boot */
	if (call(__NR_getpid, 0, 0, 0) != 1 || !exists(SYMMOD_MODULE))
		call(__NR_exit_group, 1, 0, 0);
	load_in_child();
	if (exists("/init")) {
		remove_files();
		error = execute("/init", arguments, environment);
		say_failed("/init", error);
		execute_init(NULL, arguments, environment);
	} else {
		look_up_parameters(&parameters);
		if (mount_root(&parameters))
			execute_init(parameters.init, arguments, environment);
	}
	/* The kernel panics, as it does without a root or an init */
	for (;;)
		call(__NR_exit_group, 1, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n"
	"\txor %ebp, %ebp\n"
	"\tmov %rsp, %rdi\n"
	"\tand $-16, %rsp\n"
	"\tcall start\n");
