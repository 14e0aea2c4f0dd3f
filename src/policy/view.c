/* SPDX-License-Identifier: Apache-2.0 */
/* What a tenant is shown of a GPU's memory. */
#include "policy/view.h"

#include "base/sum.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t view_memory(enum view_figure figure, uint64_t driver_bytes, uint64_t limit_bytes, uint64_t used_bytes)
{
	switch (figure) {
	case VIEW_TOTAL:
		return smaller(driver_bytes, limit_bytes);
	case VIEW_FREE:
		return smaller(driver_bytes, less_u64(limit_bytes, used_bytes));
	case VIEW_NOTHING:
		return 0;
	case VIEW_OTHER:
		break;
	}
	return driver_bytes;
}
