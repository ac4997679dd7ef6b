/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Constants of the ABI for the assembler, which does not accept the suffixes
 * in symbiotic_abi.h. symcall.c asserts that the values are equal.
 */
#ifndef SYMBIOTIC_ENTRY_H
#define SYMBIOTIC_ENTRY_H

#define ENTRY_PORT_RETURN	0xe4
#define ENTRY_PORT_FAIL		0xe5
#define ENTRY_PORT_DOORBELL	0xe6
#define ENTRY_E_FAULT		7

#endif /* SYMBIOTIC_ENTRY_H */
