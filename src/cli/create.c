/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu create, rm: slices that fracgpud keeps for containers to come. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/compute.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/slice.h"
#include "policy/limit.h"
#include "wire/wire.h"

enum { PATIENCE_S = 60 };

static const char *opt_memory, *opt_compute, *opt_open, *opt_socket = WIRE_SOCKET, *opt_force;

static const struct option_row create_options[] = {
	{ "memory", "LIMIT", "8GiB, 50%, or 0=8GiB,1=50%; without it the whole of each GPU", &opt_memory },
	{ "compute", "SHARE", "at most this share of each GPU's time: 50%, or none", &opt_compute },
	{ "open", NULL, "containers may ask to be in it (FRACGPU_SLICE)", &opt_open },
	{ "socket", "PATH", "where fracgpud listens; without it " WIRE_SOCKET, &opt_socket },
	{ NULL },
};

static const struct option_row rm_options[] = {
	{ "force", NULL, "also when containers are in it: end them", &opt_force },
	{ NULL },
};

static int check(int count, char **words)
{
	uint32_t permille;
	struct error err;

	if (count != 1) {
		complain("create: which name? (see 'fracgpu create --help')");
		return EXIT_USAGE;
	}
	if (!slice_name_is_valid(words[0])) {
		complain("create: '%s': a name has 1 to 63 letters, digits, '.', '_' or '-', and does not "
			 "start with '.'",
			 words[0]);
		return EXIT_USAGE;
	}
	if (opt_memory && limit_check(opt_memory, &err) < 0) {
		complain("create: --memory '%s': %s", opt_memory, err.text);
		return EXIT_USAGE;
	}
	if (opt_compute && compute_cap_parse(opt_compute, &permille, &err) < 0) {
		complain("create: --compute: %s", err.text);
		return EXIT_USAGE;
	}
	return 0;
}

/* Returns a connected socket or negative errno. */
static int reach(struct error *err)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(opt_socket) >= sizeof(address.sun_path))
		errno = ENAMETOOLONG;
	else
		memcpy(address.sun_path, opt_socket, strlen(opt_socket));
	if (fd < 0 || !address.sun_path[0] || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int code = error_set(err, -errno,
				     "cannot reach fracgpud at '%s': %s (does it run, and are you root?)",
				     opt_socket, strerror(errno));

		if (fd >= 0)
			close(fd);
		return code;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Send the request, which is made like a hand-off, and wait for the answer. */
static int ask(const char *name, const char *metadata, struct error *err)
{
	json_t *request = json_pack("{s:s,s:b,s:{s:s,s:s}}", "metadata", metadata, "open", opt_open ? 1 : 0,
				    "state", "id", name, "status", "create");
	cleanup_free char *text = json_dumps(request, JSON_COMPACT);
	cleanup_file FILE *stream = NULL;
	json_t *answer = NULL;
	const char *refusal;
	int r = 0, fd;

	json_decref(request);
	fd = text ? reach(err) : error_set(err, -ENOMEM, "out of memory");
	if (fd < 0)
		return fd;
	stream = fdopen(fd, "r");
	if (stream && send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text))
		answer = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);
	refusal = json_string_value(json_object_get(answer, "error"));
	if (!answer)
		r = error_set(err, -EIO, "fracgpud does not answer");
	else if (refusal)
		r = error_set(err, -EREMOTEIO, "%s", refusal);
	json_decref(answer);
	return r;
}

static int create(int count, char **words)
{
	struct wire_metadata m = { .is_given = true };
	char metadata[WIRE_METADATA];
	struct error err;
	int r = check(count, words);

	if (r)
		return r;
	if (opt_memory)
		snprintf(m.terms.limit, sizeof(m.terms.limit), "%s", opt_memory);
	if (opt_compute)
		snprintf(m.terms.compute, sizeof(m.terms.compute), "%s", opt_compute);
	if (wire_metadata_pack(&m, metadata) < 0)
		return complain("create: the limits are too long");
	if (ask(words[0], metadata, &err) < 0)
		return complain("slice '%s': %s", words[0], err.text);
	return 0;
}

/* Wait until who serves the slice has let go of it: another can be made then. */
static void wait_gone(int owner)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1 };

	while (owner >= 0 && fcntl(owner, F_OFD_SETLKW, &lock) < 0 && errno == EINTR)
		;
}

static int rm(int count, char **words)
{
	char path[SLICE_PATH], file[SLICE_PATH + sizeof("/owner")];
	cleanup_close int owner = -1;
	struct error err;
	json_t *answer;

	if (count != 1) {
		complain("rm: which slice? (see 'fracgpu rm --help')");
		return EXIT_USAGE;
	}
	if (slice_find(words[0], path, &err) < 0)
		return complain("slice '%s': %s", words[0], err.text);
	snprintf(file, sizeof(file), "%s/owner", path);
	owner = open(file, O_RDONLY | O_CLOEXEC);
	if (control_ask(path, json_pack("{s:s}", "end", opt_force ? "kill" : "empty"), &answer, &err) < 0)
		return complain("slice '%s': %s", words[0], err.text);
	json_decref(answer);
	wait_gone(owner);
	return 0;
}

const struct verb verb_create = {
	.name = "create",
	.synopsis = "NAME [OPTIONS]",
	.summary = "Make a slice for containers to come",
	.options = create_options,
	.takes_words = true,
	.is_mixed = true,
	.run = create,
};

const struct verb verb_rm = {
	.name = "rm",
	.synopsis = "NAME [OPTIONS]",
	.summary = "End a slice that 'create' made",
	.options = rm_options,
	.takes_words = true,
	.is_mixed = true,
	.run = rm,
};
