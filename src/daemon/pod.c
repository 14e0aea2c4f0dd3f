/* SPDX-License-Identifier: Apache-2.0 */
/* Names of pods. */
#include "daemon/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/config.h"

#define PODS "/var/lib/kubelet/pods"

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

/* The end of a name in a path: *at is what follows "/" and a name. */
static bool skip_name(const char **at)
{
	size_t length = **at == '/' ? strcspn(*at + 1, "/") : 0;
	bool is_name = length > 0 && (*at)[1] != '.';

	if (is_name)
		*at += 1 + length;
	return is_name;
}

bool pod_is_last_words(const char *path, const char *place)
{
	static const char middle[] = "/containers";
	const char *at = path + strlen(place);

	if (strncmp(path, place, strlen(place)) != 0 || !skip_name(&at) ||
	    strncmp(at, middle, sizeof(middle) - 1) != 0)
		return false;
	at += sizeof(middle) - 1;
	return skip_name(&at) && skip_name(&at) && !*at;
}

void pod_tell(const char *bundle, const char *why)
{
	char path[PATH_MAX + 16];
	struct error ignored;
	const json_t *mounts;
	json_t *config;

	if (*bundle != '/')
		return;
	snprintf(path, sizeof(path), "%s/config.json", bundle);
	config = config_read(path, &ignored);
	mounts = json_object_get(config, "mounts");
	for (size_t i = 0; i < json_array_size(mounts); i++) {
		const json_t *mount = json_array_get(mounts, i);
		const char *from = value_of(mount, "source");
		cleanup_close int fd = -1;

		if (strcmp(value_of(mount, "destination"), "/dev/termination-log") == 0 && pod_is_last_words(from, PODS))
			fd = open(from, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			dprintf(fd, "fracgpu: %s", why);
	}
	json_decref(config);
}
