/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu seccomp-profile: a hard profile of any other one. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/compute.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/runtime.h"
#include "policy/limit.h"
#include "runtime/config.h"
#include "runtime/docker.h"
#include "runtime/low.h"
#include "runtime/profile.h"
#include "wire/wire.h"

static const char *opt_base = "docker-default", *opt_socket = WIRE_SOCKET, *opt_memory, *opt_compute,
		  *opt_slice, *opt_runtime, *opt_flatten, *opt_output;

static const struct option_row options[] = {
	{ "base", "FILE", "a profile, or docker-default, or unconfined; without it docker-default",
	  &opt_base },
	{ "socket", "PATH", "where fracgpud listens; without it " WIRE_SOCKET, &opt_socket },
	{ "memory", "LIMIT",
	  "8GiB, 50%, or 0=8GiB: what the profile gives; without it what a container asks for", &opt_memory },
	{ "compute", "SHARE", "at most this share of each GPU's time, likewise", &opt_compute },
	{ "slice", "NAME", "all containers with this profile are in that slice (fracgpu create)",
	  &opt_slice },
	{ "runtime", "PROGRAM", "runc, crun or a path: who will read it; without it all that are installed",
	  &opt_runtime },
	{ "flatten", NULL, "for Kubernetes: without rules that hold under conditions only", &opt_flatten },
	{ "output", "FILE", "write it there, not to standard output", &opt_output },
	{ NULL },
};

/* Whether the runtimes that may read the profile take the flag: one that does not would refuse it all. */
static int take_flag(bool *ret_flag)
{
	static const char *const names[] = { "runc", "crun" };
	char path[PATH_MAX];
	const char *found;
	bool any = false, all = true;

	if (opt_runtime) {
		found = strchr(opt_runtime, '/') ? opt_runtime : low_find_named(opt_runtime, path);
		if (!found)
			return complain("seccomp-profile: --runtime '%s': not installed here", opt_runtime);
		*ret_flag = low_knows_flag(found);
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		found = low_find_named(names[i], path);
		any |= found != NULL;
		all &= !found || low_knows_flag(found);
	}
	*ret_flag = any && all;
	return 0;
}

static int check_words(void)
{
	struct error err;
	uint32_t permille;

	if (opt_socket[0] != '/') {
		complain("seccomp-profile: --socket '%s' does not start at '/'", opt_socket);
		return EXIT_USAGE;
	}
	if (opt_memory && limit_check(opt_memory, &err) < 0) {
		complain("seccomp-profile: --memory '%s': %s", opt_memory, err.text);
		return EXIT_USAGE;
	}
	if (opt_compute && compute_cap_parse(opt_compute, &permille, &err) < 0) {
		complain("seccomp-profile: --compute: %s", err.text);
		return EXIT_USAGE;
	}
	if (opt_slice && (opt_memory || opt_compute || !slice_name_is_valid(opt_slice))) {
		complain("seccomp-profile: --slice is a name, without --memory and --compute, which are the "
			 "slice's");
		return EXIT_USAGE;
	}
	return 0;
}

static json_t *read_base(struct error *err)
{
	json_t *profile;

	if (strcmp(opt_base, "docker-default") == 0)
		return docker_default(err);
	if (strcmp(opt_base, "unconfined") != 0)
		return config_read(opt_base, err);
	profile = profile_new();
	if (!profile)
		error_set(err, -ENOMEM, "out of memory");
	return profile;
}

static int make(json_t *profile, bool wait_killable, struct error *err)
{
	struct profile_options how = { .socket = opt_socket, .wait_killable = wait_killable };
	struct wire_metadata metadata = { .is_given = true };
	char text[WIRE_METADATA];
	int r = 0;

	if (opt_memory)
		snprintf(metadata.terms.limit, sizeof(metadata.terms.limit), "%s", opt_memory);
	if (opt_compute)
		snprintf(metadata.terms.compute, sizeof(metadata.terms.compute), "%s", opt_compute);
	if (opt_slice)
		snprintf(metadata.terms.slice, sizeof(metadata.terms.slice), "%s", opt_slice);
	if (wire_metadata_pack(&metadata, text) < 0)
		return error_set(err, -EINVAL, "the limit is too long, or has blanks");
	how.metadata = text;
	if (opt_flatten)
		r = docker_flatten(profile, err);
	return r < 0 ? r : profile_harden(profile, &how, err);
}

static int seccomp_profile(int count, char **words)
{
	bool wait_killable = false;
	struct error err;
	json_t *profile;
	int r;

	r = check_words();
	if (r == 0)
		r = take_flag(&wait_killable);
	if (r)
		return r;
	profile = read_base(&err);
	if (!profile)
		return complain("seccomp-profile: %s", err.text);
	r = make(profile, wait_killable, &err);
	if (r == 0)
		r = output_json(profile, opt_output, &err);
	json_decref(profile);
	if (r < 0)
		return complain("seccomp-profile: '%s': %s", opt_base, err.text);
	if (!wait_killable)
		complain("note: %s takes no wait-killable flag, so signals can interrupt a call that waits "
			 "for its answer",
			 opt_runtime ? opt_runtime : "a runtime installed here");
	return 0;
}

const struct verb verb_seccomp_profile = {
	.name = "seccomp-profile",
	.synopsis = "[OPTIONS]",
	.summary = "Make a seccomp profile that asks fracgpud, of any other one",
	.options = options,
	.run = seccomp_profile,
};
