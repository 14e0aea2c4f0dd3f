/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu-runtime: an OCI runtime that makes containers with a GPU ask fracgpud, and leaves the rest to runc or crun. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/config.h"
#include "runtime/low.h"
#include "wire/wire.h"

/* Global options of runc and crun that take their value as a word of its own. */
static const char *const with_value[] = { "--root", "--log", "--log-format", "--log-level", "--criu", "--rootless",
					  "--cgroup-manager" };

static int fail(const char *text)
{
	fprintf(stderr, "fracgpu-runtime: %s\n", text);
	return 1;
}

static bool takes_value(const char *word)
{
	for (size_t i = 0; i < sizeof(with_value) / sizeof(with_value[0]); i++) {
		if (strcmp(word, with_value[i]) == 0)
			return true;
	}
	return false;
}

/* The index of the runtime's command in argv, or argc. */
static int find_command(int argc, char **argv)
{
	int i = 1;

	while (i < argc && argv[i][0] == '-')
		i += takes_value(argv[i]) ? 2 : 1;
	return i < argc ? i : argc;
}

/* The bundle's folder: --bundle DIR, --bundle=DIR, -b DIR, -b=DIR, or here. */
static const char *find_bundle(int argc, char **argv, int command)
{
	const char *bundle = ".";

	for (int i = command + 1; i < argc; i++) {
		if ((strcmp(argv[i], "--bundle") == 0 || strcmp(argv[i], "-b") == 0) && i + 1 < argc)
			bundle = argv[++i];
		else if (strncmp(argv[i], "--bundle=", 9) == 0)
			bundle = argv[i] + 9;
		else if (strncmp(argv[i], "-b=", 3) == 0)
			bundle = argv[i] + 3;
	}
	return bundle;
}

static int harden(const char *bundle, const char *low)
{
	const char *socket = getenv("FRACGPU_SOCKET");
	char path[PATH_MAX];
	struct error err;
	json_t *config;
	int r = 0;

	snprintf(path, sizeof(path), "%s/config.json", bundle);
	config = config_read(path, &err);
	if (!config)
		return fail(err.text);
	if (config_uses_gpu(config)) {
		r = config_harden(config, socket ? socket : WIRE_SOCKET, low_knows_flag(low), &err);
		if (r == 0)
			r = config_write(config, path, &err);
	}
	json_decref(config);
	return r < 0 ? fail(err.text) : 0;
}

int main(int argc, char **argv)
{
	int command = find_command(argc, argv);
	char path[PATH_MAX];
	/* the engine sets our environment, not the container */
	const char *chosen = getenv("FRACGPU_OCI_RUNTIME");
	const char *low = chosen ? chosen : low_find(path);

	if (!low)
		return fail("neither runc nor crun is installed (FRACGPU_OCI_RUNTIME names another runtime)");
	if (command < argc && (strcmp(argv[command], "create") == 0 || strcmp(argv[command], "run") == 0) &&
	    harden(find_bundle(argc, argv, command), low) != 0)
		return 1;
	argv[0] = (char *)low;
	execvp(low, argv);
	fprintf(stderr, "fracgpu-runtime: cannot run '%s': %s\n", low, strerror(errno));
	return 1;
}
