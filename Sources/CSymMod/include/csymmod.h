/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of guest/symmod's program, the first process of a guest to which symvmm brings its module.
 */
#ifndef CSYMMOD_H
#define CSYMMOD_H

#include <stddef.h>
#include <stdint.h>

/*
 * The program, and the number of its bytes in *count. 0 bytes in a build without it: scripts/build puts it in, a plain `swift build` does not.
 */
const uint8_t *csymmod_init(size_t *count);

#endif
