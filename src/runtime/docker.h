/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles in the form of Docker and Podman, which name processors, capabilities and kernels that rules are
 * for. */
#ifndef FG_RUNTIME_DOCKER_H
#define FG_RUNTIME_DOCKER_H

#include <jansson.h>

#include "base/error.h"

/* A profile like the one that Docker uses when it is told nothing: all calls that libseccomp knows, without
 * those that Docker's documentation ("Seccomp security profiles for Docker") names as blocked, and with those
 * that a capability brings. NULL with a sentence in err: built without libseccomp. */
json_t *docker_default(struct error *err);

/* Make of such a profile one of the form of OCI configurations, as a container gets it that has the
 * capabilities Docker and containerd give by default: readers that know no conditions (containerd, for
 * Kubernetes) would take every rule for unconditional. In place. Returns 0, -EINVAL or -ENOMEM. */
int docker_flatten(json_t *profile, struct error *err);

#endif
