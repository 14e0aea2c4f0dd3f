/* SPDX-License-Identifier: Apache-2.0 */
/* What a container is called in Kubernetes, by the annotations that its engine writes. */
#ifndef FG_DAEMON_POD_H
#define FG_DAEMON_POD_H

#include <jansson.h>
#include <stdbool.h>

struct pod {
	const char *space, *name; /* of the pod; "": not known */
	const char *container; /* "": not known */
};

/* Look into the annotations of a container that root's engine started (or NULL). The strings are theirs.
 *
 * containerd writes its names over those of the pod's author, CRI-O its own: each lets the author write the other's. So
 * both together are believed to say nothing.
 *
 * Returns 0, or -EINVAL when there are names of both. */
int pod_find(const json_t *annotations, struct pod *ret_pod);

/* Whether a file is what kubelet shows as a container's last words: PLACE/POD/containers/CONTAINER/FILE, where root alone
 * makes files. A pod's author may mount other files under the same name. */
bool pod_is_last_words(const char *path, const char *place);

/* Write why a container does not start where kubelet shows it (`kubectl describe pod`), if its bundle is that of a pod. */
void pod_tell(const char *bundle, const char *why);

#endif
