/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a file at once. */
#include "cli/output.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/config.h"

int output_json(const json_t *value, const char *path, struct error *err)
{
	char made[PATH_MAX];
	FILE *file;
	int fd, r;

	if (!path)
		return config_print(value, stdout, err);
	if ((size_t)snprintf(made, sizeof(made), "%s.XXXXXX", path) >= sizeof(made))
		return error_set(err, -ENAMETOOLONG, "'%s' is too long a name", path);
	fd = mkstemp(made);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file)
		return error_set(err, -errno, "cannot make '%s': %s", made, strerror(errno));
	r = config_print(value, file, err);
	/* engines of other users read it */
	if (r == 0 && (fchmod(fd, 0644) < 0 || fflush(file) != 0 || ferror(file) || rename(made, path) < 0))
		r = error_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	fclose(file);
	if (r < 0)
		unlink(made);
	return r;
}
