/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpud's own HTTP server, in the daemon's loop: /metrics for Prometheus, / for people, /api/state for
 * that page. Read-only: it answers GET and HEAD, and takes nothing. */
#ifndef FG_DAEMON_METRICS_H
#define FG_DAEMON_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "daemon/prometheus.h"

enum { METRICS_ADDRESS = 64 };

struct metrics_config {
	char address[METRICS_ADDRESS]; /* "": off */
	enum prometheus_names names;
	uint32_t step_s; /* between points of the history; 0: HISTORY_STEP_S */
};

struct metrics;

/* Read "PORT", "127.0.0.1:PORT", "[::1]:PORT"; a port alone, or ":PORT", is of 127.0.0.1; port 0 is any that
 * is free. Returns 0 or -EINVAL. */
int metrics_address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
			  struct error *err);

/* Whether only programs of this host can reach an address. */
bool metrics_is_local(const struct sockaddr_storage *address);

/* Whether the "Host" of a request names this host's own loopback. A page of another site can make a browser
 * ask us by a name that it has pointed at us; it cannot choose what that name is called here. */
bool metrics_host_is_local(const char *host);

/* Listen. Returns 0, -ENOTSUP when fracgpud was built without libmicrohttpd, or negative errno with a
 * sentence in err. */
int metrics_new(struct metrics **ret_metrics, const struct metrics_config *config, struct error *err);
void metrics_free(struct metrics *m);

/* "http://127.0.0.1:9401/": where it listens. */
const char *metrics_url(const struct metrics *m);

/* For the loop: what to wait for to become readable, how long at the most (ms; -1: any time), and what to do
 * then or after. NULL is fine: -1, -1, nothing. */
int metrics_fd(const struct metrics *m);
int metrics_wait_ms(const struct metrics *m);
void metrics_run(struct metrics *m);

/* A hand-off was taken, or refused. NULL is fine. */
void metrics_count_handoff(struct metrics *m, bool is_served);

#endif
