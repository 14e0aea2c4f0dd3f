/* SPDX-License-Identifier: Apache-2.0 */
/* Who wants the GPU, from what the meter saw. */
#include "arbiter/wants.h"

bool wants_update(struct wants *w, bool open, uint64_t busy_ns, uint64_t stay_ns, uint64_t now_ns)
{
	bool ran = busy_ns > w->busy_ns;

	w->busy_ns = busy_ns;
	if (ran) {
		w->wants = true;
		w->idle_since_ns = now_ns;
	} else if (!open || !w->open) {
		w->idle_since_ns = now_ns;
	} else if (now_ns - w->idle_since_ns >= WANTS_GAP_NS) {
		w->wants = false;
	}
	w->open = open;
	if (ran && stay_ns >= WANTS_DOUBT_NS && now_ns - w->doubt_ns >= WANTS_DOUBT_NS) {
		w->doubt_ns = now_ns;
		return false;
	}
	return w->wants;
}
