/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of http.c where there is no libmicrohttpd. */
#include <errno.h>

#include "daemon/metrics.h"

int metrics_new(struct metrics **ret_metrics, const struct metrics_config *config, struct error *err)
{
	return error_set(err, -ENOTSUP, "this fracgpud was built without libmicrohttpd: it has no metrics");
}

void metrics_free(struct metrics *m)
{
}

const char *metrics_url(const struct metrics *m)
{
	return "";
}

int metrics_fd(const struct metrics *m)
{
	return -1;
}

int metrics_wait_ms(const struct metrics *m)
{
	return -1;
}

void metrics_run(struct metrics *m)
{
}

void metrics_count_handoff(struct metrics *m, bool is_served)
{
}
