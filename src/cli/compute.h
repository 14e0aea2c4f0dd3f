/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of GPU time as people write them. */
#ifndef FG_CLI_COMPUTE_H
#define FG_CLI_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "ledger/ledger.h"

/* "50%", "none". Into permille; 0: no cap. Returns 0 or -EINVAL. */
int compute_cap_parse(const char *text, uint32_t *ret_permille, struct error *err);

/* "1" to "10000". Returns 0 or -EINVAL. */
int compute_weight_parse(const char *text, uint32_t *ret_weight, struct error *err);

/* "realtime", "normal", "idle" into what the ledger has. Returns 0 or -EINVAL. */
int compute_priority_parse(const char *text, uint32_t *ret_priority, struct error *err);
const char *compute_priority_name(uint32_t priority);

/* "5ms", "2.5ms" or "5000us": 2 to 20 ms. Returns 0 or -EINVAL. */
int compute_latency_parse(const char *text, uint64_t *ret_ns, struct error *err);

#endif
