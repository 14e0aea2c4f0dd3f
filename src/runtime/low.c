/* SPDX-License-Identifier: Apache-2.0 */
/* runc and crun: where they are, and which versions take which profiles. */
#include "runtime/low.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *low_find_named(const char *name, char ret_path[PATH_MAX])
{
	static const char *const places[] = { "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin" };

	for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
		snprintf(ret_path, PATH_MAX, "%s/%s", places[p], name);
		if (access(ret_path, X_OK) == 0)
			return ret_path;
	}
	return NULL;
}

const char *low_find(char ret_path[PATH_MAX])
{
	const char *found = low_find_named("runc", ret_path);

	return found ? found : low_find_named("crun", ret_path);
}

bool low_line_knows_flag(const char *line)
{
	int major, minor;

	if (sscanf(line, "crun version %d.%d", &major, &minor) == 2)
		return major > 1 || (major == 1 && minor >= 6);
	if (sscanf(line, "runc version %d.%d", &major, &minor) == 2)
		return major > 1 || (major == 1 && minor >= 5);
	return false;
}

bool low_knows_flag(const char *path)
{
	char command[PATH_MAX + 32], line[256];
	bool knows = false;
	FILE *pipe;

	if (strchr(path, '\''))
		return false;
	snprintf(command, sizeof(command), "'%s' --version 2>/dev/null", path);
	pipe = popen(command, "re");
	while (pipe && fgets(line, sizeof(line), pipe))
		knows |= low_line_knows_flag(line);
	if (pipe)
		pclose(pipe);
	return knows;
}
