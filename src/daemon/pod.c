/* SPDX-License-Identifier: Apache-2.0 */
/* Names of pods. */
#include "daemon/pod.h"

#include <errno.h>
#include <stdbool.h>

static const char *value_of(const json_t *annotations, const char *key)
{
	const char *value = json_string_value(json_object_get(annotations, key));

	return value ? value : "";
}

int pod_find(const json_t *annotations, struct pod *ret_pod)
{
	/* pkg/cri/annotations/annotations.go */
	const struct pod containerd = {
		value_of(annotations, "io.kubernetes.cri.sandbox-namespace"),
		value_of(annotations, "io.kubernetes.cri.sandbox-name"),
		value_of(annotations, "io.kubernetes.cri.container-name"),
	};
	/* kubelet's labels, which CRI-O makes annotations (internal/factory/container/container.go) */
	const struct pod crio = {
		value_of(annotations, "io.kubernetes.pod.namespace"),
		value_of(annotations, "io.kubernetes.pod.name"),
		value_of(annotations, "io.kubernetes.container.name"),
	};
	bool is_containerd = *containerd.space || *containerd.name || *containerd.container;
	bool is_crio = *crio.space || *crio.name || *crio.container;

	*ret_pod = (struct pod){ "", "", "" };
	if (is_containerd && is_crio)
		return -EINVAL;
	if (is_containerd || is_crio)
		*ret_pod = is_containerd ? containerd : crio;
	return 0;
}
