/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets in the global page, for Swift, which has no offsetof. */
#ifndef SYMBIOTIC_SWAP_OFFSETS_H
#define SYMBIOTIC_SWAP_OFFSETS_H

#include "symbiotic_swap.h"

#include <stddef.h>

#define FIELD(field) ((int)SYMBIOTIC_SWAP_FIELDS_OFFSET + (int)offsetof(struct symbiotic_swap_fields, field))

enum {
	SYMBIOTIC_SWAP_OFFSET_BEGIN = FIELD(control),
	SYMBIOTIC_SWAP_OFFSET_CONTROL = FIELD(control),
	SYMBIOTIC_SWAP_OFFSET_GENERATION = FIELD(generation),
	SYMBIOTIC_SWAP_OFFSET_WINDOW_GPA = FIELD(window_gpa),
	SYMBIOTIC_SWAP_OFFSET_WINDOW_PAGES = FIELD(window_pages),
	SYMBIOTIC_SWAP_OFFSET_DISK = FIELD(vmm) + 8 * SYMBIOTIC_SWAP_VMM_DISK,
	SYMBIOTIC_SWAP_OFFSET_RESIDENT = FIELD(vmm) + 8 * SYMBIOTIC_SWAP_VMM_RESIDENT,
	SYMBIOTIC_SWAP_OFFSET_ACCESSED = FIELD(vmm) + 8 * SYMBIOTIC_SWAP_VMM_ACCESSED,
	SYMBIOTIC_SWAP_OFFSET_COUNTERS = FIELD(counters),
	SYMBIOTIC_SWAP_OFFSET_END = SYMBIOTIC_SWAP_FIELDS_OFFSET + sizeof(struct symbiotic_swap_fields),
};

#undef FIELD

#endif
