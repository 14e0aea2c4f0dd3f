/* SPDX-License-Identifier: Apache-2.0 */
/* Moved: abi/device.h. This goes when nobody includes it any more. */
#ifndef FG_PRELOAD_DEVICE_H
#define FG_PRELOAD_DEVICE_H

#include "abi/device.h"

#endif
