/* SPDX-License-Identifier: Apache-2.0 */
/* Which NVIDIA device file a descriptor is, if any. */
#ifndef FG_ABI_DEVICE_H
#define FG_ABI_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/calls.h"

struct device {
	enum abi_device kind;
	uint32_t minor;		/* of /dev/nvidiaN */
};

/* Look a descriptor up: one fstat() for all but the rarest. Returns false when it is no NVIDIA device.
 * Any thread, signal safe. */
bool device_find(int fd, struct device *ret);

#endif
