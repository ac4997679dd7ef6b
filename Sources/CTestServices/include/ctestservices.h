/* SPDX-License-Identifier: Apache-2.0 */
/* The C shim of test builds: a system call that a test chooses, on a thread that the test chooses. */
#ifndef CTESTSERVICES_H
#define CTESTSERVICES_H

/*
 * From now on, a thread that gets SIGUSR2 makes a system call and writes "test call: RESULT" to standard error. The text has its number and at most
 * six arguments, separated by spaces: numbers, `self` and `parent` for the numbers of these processes, or `@PATH` for the address of a path.
 * Call it before the process has threads. Returns 0, or -errno.
 */
int ctest_call_on_signal(const char *text);

#endif
