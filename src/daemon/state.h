/* SPDX-License-Identifier: Apache-2.0 */
/* Figures and their history as the JSON that fracgpud's page reads. */
#ifndef FG_DAEMON_STATE_H
#define FG_DAEMON_STATE_H

#include <jansson.h>
#include <time.h>

#include "daemon/figures.h"
#include "daemon/history.h"

/* To be released; NULL without memory. docs/howto-metrics.md describes it. */
json_t *state_json(const struct figures *f, const struct history *h, const char *host, time_t now_s);

#endif
