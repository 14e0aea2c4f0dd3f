/* SPDX-License-Identifier: Apache-2.0 */
/* The config.json of an OCI bundle (opencontainers/runtime-spec, config.md): read, made to ask fracgpud, written. */
#ifndef FG_RUNTIME_CONFIG_H
#define FG_RUNTIME_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "wire/wire.h"

/* Read a file, "-" for standard input. Numbers beyond 63 bits (limits of 2^64 - 1, as --ulimit memlock=-1 makes them)
 * are kept as they are: config_write() and config_print() know them. NULL with a sentence in err, which names line and
 * column. */
json_t *config_read(const char *path, struct error *err);

/* Write it in the place of the old one, with the same mode and owner. Returns 0 or negative errno. */
int config_write(const json_t *config, const char *path, struct error *err);

/* Write it for people to read. Returns 0 or -ENOMEM, with nothing written. */
int config_print(const json_t *config, FILE *file, struct error *err);

/* Whether the container may get at a GPU: a device or mount of the driver's files, a hook or an environment of
 * NVIDIA's container toolkit, or a limit that is asked for. */
bool config_uses_gpu(const json_t *config);

/* What the container may have, as its configuration says: given by a device of `fracgpu cdi`, else asked for by its
 * environment. Returns 0, or -EINVAL with a sentence in err. */
int config_terms(const json_t *config, struct wire_metadata *ret_metadata, struct error *err);

/* Make the container ask fracgpud at socket, with what config_terms() says.
 * Returns 0, or negative errno with a sentence in err. */
int config_harden(json_t *config, const char *socket, bool wait_killable, struct error *err);

#endif
