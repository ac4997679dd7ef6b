// SPDX-License-Identifier: Apache-2.0
/* The process, its threads, signals and events, and the processor. */
#define _GNU_SOURCE
#include "ckvm.h"

#include <cpuid.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "result.h"

static void ignore_signal(int signal)
{
	(void)signal;
}

int ckvm_install_kick_handler(int signal)
{
	struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	return value_or_errno(sigaction(signal, &action, NULL));
}

int ckvm_forbid_privileges_and_dumps(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return value_or_errno(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

int ckvm_unblock_signal(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int ckvm_eventfd(bool nonblocking)
{
	return value_or_errno(eventfd(0, EFD_CLOEXEC | (nonblocking ? EFD_NONBLOCK : 0)));
}

int ckvm_peer_pid(int socket)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -errno;
	/* The kernel reports 0 for a process in another PID namespace. */
	return peer.pid > 0 ? peer.pid : -ESRCH;
}

int ckvm_open_process(int pid)
{
	return value_or_errno((int)syscall(SYS_pidfd_open, pid, 0));
}

int ckvm_signal_process(int pidfd, int signal)
{
	return value_or_errno((int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int ckvm_physical_address_bits(void)
{
	unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;

	if (!__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx))
		return 36;
	eax &= 0xff;
	return eax < 32 ? 36 : eax > 52 ? 52 : (int)eax;
}

int ckvm_processor_name(unsigned char *name)
{
	unsigned int words[12];

	for (unsigned int leaf = 0; leaf < 3; leaf++) {
		unsigned int *word = words + 4 * leaf;

		if (!__get_cpuid(0x80000002 + leaf, word, word + 1, word + 2, word + 3))
			return -ENOENT;
	}
	memcpy(name, words, sizeof(words));
	return 0;
}

int ckvm_hardware_virtualization(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & 1u << 2)
		return 1;
	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & 1u << 5 ? 2 : 0;
}

int ckvm_name_thread(const char *name)
{
	return -pthread_setname_np(pthread_self(), name);
}

void ckvm_use_one_arena(void)
{
	mallopt(M_ARENA_MAX, 1);
}

int ckvm_set_default_stack_size(size_t bytes)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);

	if (error)
		return -error;
	error = pthread_attr_setstacksize(&attributes, bytes);
	if (!error)
		error = pthread_setattr_default_np(&attributes);
	pthread_attr_destroy(&attributes);
	return -error;
}

int ckvm_epoll(void)
{
	return value_or_errno(epoll_create1(EPOLL_CLOEXEC));
}

ssize_t ckvm_random(void *bytes, size_t count)
{
	ssize_t result = getrandom(bytes, count, GRND_NONBLOCK);

	return result < 0 ? -errno : result;
}
