/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles the headers, so that Swift Package Manager builds a module of them. */
#include "symbiotic_offsets.h"
