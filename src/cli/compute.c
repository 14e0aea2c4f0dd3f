/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of GPU time as people write them. */
#include "cli/compute.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arbiter/arbiter.h"
#include "base/size.h"
#include "cli/options.h"

static const char *const priority_names[] = {
	[ARBITER_NORMAL] = "normal",
	[ARBITER_REALTIME] = "realtime",
	[ARBITER_IDLE] = "idle",
};

int compute_cap_parse(const char *text, uint32_t *ret_permille, struct error *err)
{
	uint32_t permille = 0;

	if (strcmp(text, "none") != 0 && percent_parse(text, &permille) < 0)
		return error_set(err, -EINVAL, "'%s' is no share of GPU time: write it like 50%%, or none", text);
	*ret_permille = permille == 1000 ? 0 : permille;
	return 0;
}

int compute_weight_parse(const char *text, uint32_t *ret_weight, struct error *err)
{
	char *end;
	unsigned long weight = strtoul(text, &end, 10);

	if (text[strspn(text, "0123456789")] || *end || !weight || weight > ARBITER_WEIGHT_MAX)
		return error_set(err, -EINVAL, "'%s' is no weight: it is a number from 1 to %d", text,
				 ARBITER_WEIGHT_MAX);
	*ret_weight = (uint32_t)weight;
	return 0;
}

int compute_priority_parse(const char *text, uint32_t *ret_priority, struct error *err)
{
	for (uint32_t i = 0; i < sizeof(priority_names) / sizeof(priority_names[0]); i++) {
		if (strcmp(text, priority_names[i]) == 0) {
			*ret_priority = i;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "'%s' is not one of realtime, normal, idle", text);
}

const char *compute_priority_name(uint32_t priority)
{
	return priority_names[priority <= ARBITER_IDLE ? priority : ARBITER_NORMAL];
}

int compute_latency_parse(const char *text, uint64_t *ret_ns, struct error *err)
{
	char *end;
	double value = strtod(text, &end);

	if (strcmp(end, "ms") == 0)
		value *= 1e6;
	else if (strcmp(end, "us") == 0)
		value *= 1e3;
	else
		value = 0;
	/* the smaller-than also catches what is no number */
	if (!(value >= ARBITER_LATENCY_MIN_NS && value <= ARBITER_LATENCY_MAX_NS))
		return error_set(err, -EINVAL, "'%s' is no latency: write it like 5ms; 2ms to 20ms are possible", text);
	*ret_ns = (uint64_t)value;
	return 0;
}
