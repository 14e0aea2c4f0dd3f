/* SPDX-License-Identifier: Apache-2.0 */
/* Figures in Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
#ifndef FG_DAEMON_PROMETHEUS_H
#define FG_DAEMON_PROMETHEUS_H

#include <stddef.h>

#include "daemon/figures.h"

#define PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Names beside ours: those of HAMi's vGPUmonitor. */
enum prometheus_names {
	PROMETHEUS_OURS,
	PROMETHEUS_HAMI, /* hami_vgpu_memory_used_bytes ... */
	PROMETHEUS_HAMI_LEGACY, /* and vGPU_device_memory_usage_in_bytes ..., as with its --legacy-metrics */
};

/* node: name of this host, for HAMi's label. *ret_text is to be freed. Returns 0 or -ENOMEM. */
int prometheus_write(const struct figures *f, enum prometheus_names names, const char *node, char **ret_text,
		     size_t *ret_size);

#endif
