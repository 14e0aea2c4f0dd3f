/* SPDX-License-Identifier: Apache-2.0 */
/* Seccomp profiles that ask fracgpud. */
#include "runtime/profile.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Arguments of rules: (value of argument index & mask) == wanted. */
struct match {
	uint32_t index, mask, wanted;
};

enum { IOCTL_REQUEST = 1, MMAP_FLAGS = 3 };

/* What a call's family needs: bits of which one must be set to ask, rules of their own, and rules for the rest. */
struct family {
	const char *names[3];
	const struct match *ask, *allow;
	size_t ask_count, allow_count;
};

/* A request with a size: one of its 14 bits is set. Without: below 0x1000 (nvidia-uvm's numbers). */
static const struct match ioctl_ask[] = {
	{ IOCTL_REQUEST, 1u << 16, 1u << 16 }, { IOCTL_REQUEST, 1u << 17, 1u << 17 },
	{ IOCTL_REQUEST, 1u << 18, 1u << 18 }, { IOCTL_REQUEST, 1u << 19, 1u << 19 },
	{ IOCTL_REQUEST, 1u << 20, 1u << 20 }, { IOCTL_REQUEST, 1u << 21, 1u << 21 },
	{ IOCTL_REQUEST, 1u << 22, 1u << 22 }, { IOCTL_REQUEST, 1u << 23, 1u << 23 },
	{ IOCTL_REQUEST, 1u << 24, 1u << 24 }, { IOCTL_REQUEST, 1u << 25, 1u << 25 },
	{ IOCTL_REQUEST, 1u << 26, 1u << 26 }, { IOCTL_REQUEST, 1u << 27, 1u << 27 },
	{ IOCTL_REQUEST, 1u << 28, 1u << 28 }, { IOCTL_REQUEST, 1u << 29, 1u << 29 },
	{ IOCTL_REQUEST, 0x3ffff000, 0 },
};

/* No size, and one of the bits 12 to 15: terminals, sockets, files. */
static const struct match ioctl_allow[] = {
	{ IOCTL_REQUEST, 0x3fff1000, 0x1000 }, { IOCTL_REQUEST, 0x3fff2000, 0x2000 },
	{ IOCTL_REQUEST, 0x3fff4000, 0x4000 }, { IOCTL_REQUEST, 0x3fff8000, 0x8000 },
};

/* MAP_SHARED is 1, MAP_ANONYMOUS 0x20. */
static const struct match mmap_ask[] = { { MMAP_FLAGS, 0x21, 0x01 } };
static const struct match mmap_allow[] = { { MMAP_FLAGS, 0x01, 0x00 }, { MMAP_FLAGS, 0x21, 0x21 } };

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct family families[] = {
	{ { "ioctl" }, ioctl_ask, ioctl_allow, COUNT(ioctl_ask), COUNT(ioctl_allow) },
	{ { "mmap", "mmap2" }, mmap_ask, mmap_allow, COUNT(mmap_ask), COUNT(mmap_allow) },
};

static bool is_action(const json_t *action, const char *name)
{
	return json_is_string(action) && strcmp(json_string_value(action), name) == 0;
}

/* Actions that let a call be made. */
static bool allows(const json_t *action)
{
	return is_action(action, "SCMP_ACT_ALLOW") || is_action(action, "SCMP_ACT_LOG") ||
	       is_action(action, "SCMP_ACT_TRACE");
}

/* Take a name out of a rule. Returns whether it was there. */
static bool take_name(json_t *rule, const char *name)
{
	json_t *names = json_object_get(rule, "names");
	bool found = false;

	for (size_t i = json_array_size(names); i > 0; i--) {
		if (!is_action(json_array_get(names, i - 1), name))
			continue;
		json_array_remove(names, i - 1);
		found = true;
	}
	if (is_action(json_object_get(rule, "name"), name)) {	/* the form before Docker 1.13 */
		json_object_del(rule, "name");
		json_object_set_new(rule, "names", json_array());
		found = true;
	}
	return found;
}

/* Where rules of Docker's and Podman's profiles hold: for some processors, capabilities or kernels only, which the engine
 * looks at when a container starts. */
static const char *const conditions[] = { "includes", "excludes" };

static bool same_conditions(const json_t *a, const json_t *b)
{
	for (size_t i = 0; i < COUNT(conditions); i++) {
		const json_t *one = json_object_get(a, conditions[i]), *other = json_object_get(b, conditions[i]);
		bool none = json_object_size(one) == 0 && json_object_size(other) == 0;

		if (!none && !json_equal(one, other))
			return false;
	}
	return true;
}

/* Remember where a rule that was taken out held: each place once, and only "everywhere" when there is that. */
static int note_place(json_t *places, const json_t *rule)
{
	json_t *place = json_object();
	bool has_condition = false;

	for (size_t i = 0; i < COUNT(conditions); i++) {
		json_t *condition = json_object_get(rule, conditions[i]);

		if (json_object_size(condition) == 0)
			continue;
		has_condition = true;
		json_object_set_new(place, conditions[i], json_deep_copy(condition));
	}
	if (!has_condition)
		json_array_clear(places);
	for (size_t i = 0; i < json_array_size(places); i++) {
		const json_t *known = json_array_get(places, i);

		if (json_object_size(known) == 0 || same_conditions(known, place)) {
			json_decref(place);
			return 0;
		}
	}
	return json_array_append_new(places, place) < 0 ? -ENOMEM : 0;
}

/* Take one call out of all rules that allow it; places: where they held. */
static int take_call(json_t *rules, const char *name, json_t *places, struct error *err)
{
	size_t i = 0;

	while (i < json_array_size(rules)) {
		json_t *rule = json_array_get(rules, i);

		if (!allows(json_object_get(rule, "action")) || !take_name(rule, name)) {
			i++;
			continue;
		}
		if (json_array_size(json_object_get(rule, "args")) != 0)
			return error_set(err, -ENOTSUP, "the profile allows %s for some arguments only, which cannot be joined "
					 "with fracgpu's rules for it", name);
		if (note_place(places, rule) < 0)
			return error_set(err, -ENOMEM, "out of memory");
		if (json_array_size(json_object_get(rule, "names")) == 0)
			json_array_remove(rules, i);
		else
			i++;
	}
	return 0;
}

static int add_rules(json_t *rules, const struct family *family, json_t *place, const char *action,
		     const struct match *matches, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_t *names = json_array(), *rule;
		json_t *args = json_pack("[{s:i,s:I,s:I,s:s}]", "index", (int)matches[i].index, "value",
					 (json_int_t)matches[i].mask, "valueTwo", (json_int_t)matches[i].wanted, "op",
					 "SCMP_CMP_MASKED_EQ");

		for (size_t n = 0; family->names[n]; n++)
			json_array_append_new(names, json_string(family->names[n]));
		rule = json_pack("{s:o,s:s,s:o}", "names", names, "action", action, "args", args);
		if (place && json_object_update(rule, place) < 0) {
			json_decref(rule);
			return -ENOMEM;
		}
		if (json_array_append_new(rules, rule) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Where everything is allowed, what asks must ask everywhere; the rest stays allowed without a rule. */
static int guard_open(json_t *rules, const struct family *family)
{
	return add_rules(rules, family, NULL, "SCMP_ACT_NOTIFY", family->ask, family->ask_count);
}

static int guard_closed(json_t *rules, const struct family *family, json_t *places)
{
	int r = 0;

	for (size_t i = 0; i < json_array_size(places) && r == 0; i++) {
		json_t *place = json_array_get(places, i);

		r = add_rules(rules, family, place, "SCMP_ACT_NOTIFY", family->ask, family->ask_count);
		if (r == 0)
			r = add_rules(rules, family, place, "SCMP_ACT_ALLOW", family->allow, family->allow_count);
	}
	return r;
}

static int guard_family(json_t *section, json_t *rules, const struct family *family, struct error *err)
{
	bool is_open = allows(json_object_get(section, "defaultAction"));
	json_t *places = json_array();
	int r = 0;

	for (size_t n = 0; family->names[n] && r == 0; n++)
		r = take_call(rules, family->names[n], places, err);
	if (r == 0) {
		r = is_open ? guard_open(rules, family) : guard_closed(rules, family, places);
		if (r < 0)
			error_set(err, r, "out of memory");
	}
	json_decref(places);
	return r;
}

static bool has_name(const json_t *list, const char *name)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (is_action(json_array_get(list, i), name))
			return true;
	}
	return false;
}

static int set_listener(json_t *section, const struct profile_options *options, struct error *err)
{
	static const char flag[] = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
	const json_t *path = json_object_get(section, "listenerPath");
	json_t *flags = json_object_get(section, "flags");

	if (path && is_action(path, options->socket))
		return error_set(err, -EALREADY, "the profile asks fracgpud already: start from the one that it was made of");
	if (path && json_is_string(path) && json_string_length(path))
		return error_set(err, -EBUSY, "the profile has another listener already: %s",
				 json_string_value(path));
	json_object_set_new(section, "listenerPath", json_string(options->socket));
	json_object_set_new(section, "listenerMetadata", json_string(options->metadata));
	if (options->wait_killable) {
		if (!json_is_array(flags)) {
			flags = json_array();
			json_object_set_new(section, "flags", flags);
		}
		if (!has_name(flags, flag))
			json_array_append_new(flags, json_string(flag));
	}
	return 0;
}

json_t *profile_new(void)
{
	return json_pack("{s:s,s:[s,s,s]}", "defaultAction", "SCMP_ACT_ALLOW", "architectures", "SCMP_ARCH_X86_64",
			 "SCMP_ARCH_X86", "SCMP_ARCH_X32");
}

int profile_harden(json_t *section, const struct profile_options *options, struct error *err)
{
	json_t *rules = json_object_get(section, "syscalls");
	int r;

	if (!json_is_string(json_object_get(section, "defaultAction")))
		return error_set(err, -EINVAL, "this is no seccomp profile: it has no defaultAction");
	if (rules && !json_is_null(rules) && !json_is_array(rules))
		return error_set(err, -EINVAL, "this is no seccomp profile: its syscalls are no list");
	if (!json_is_array(rules)) {
		rules = json_array();
		json_object_set_new(section, "syscalls", rules);
	}
	r = set_listener(section, options, err);
	for (size_t i = 0; i < COUNT(families) && r == 0; i++)
		r = guard_family(section, rules, &families[i], err);
	return r;
}
