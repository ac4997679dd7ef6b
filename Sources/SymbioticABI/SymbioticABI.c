/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the headers a module, and sees that they compile by themselves. */
#include "symbiotic_offsets.h"
