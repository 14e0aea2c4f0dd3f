/* SPDX-License-Identifier: Apache-2.0 */
/* The host's policy file, and what it makes of a hand-off. */
#include <errno.h>
#include <fnmatch.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "daemon/daemon.h"

static int set_text(char *to, size_t size, const char *value)
{
	if (strlen(value) >= size || strpbrk(value, " \t"))
		return 0;
	snprintf(to, size, "%s", value);
	return 1;
}

static int set_default(struct daemon_config *c, const char *name, const char *value)
{
	if (strcmp(name, "memory") == 0)
		return set_text(c->memory, sizeof(c->memory), value);
	if (strcmp(name, "max") == 0)
		return set_text(c->max, sizeof(c->max), value);
	if (strcmp(name, "overcommit") == 0) {
		c->overcommit = strcmp(value, "yes") == 0;
		return c->overcommit || strcmp(value, "no") == 0;
	}
	if (strcmp(name, "on-breach") == 0) {
		c->kill_on_breach = strcmp(value, "kill") == 0;
		return c->kill_on_breach || strcmp(value, "report") == 0;
	}
	return 0;
}

/* inih's way: 1 is success. */
static int set(void *arg, const char *section, const char *name, const char *value)
{
	struct daemon_config *c = arg;
	struct daemon_rule *rule = &c->rules[c->rule_count];
	char *end;

	if (strcmp(section, "default") == 0)
		return set_default(c, name, value);
	if (c->rule_count == CONFIG_RULES || strcmp(name, "memory") != 0 ||
	    !set_text(rule->memory, sizeof(rule->memory), value))
		return 0;
	if (strncmp(section, "container ", 10) == 0) {
		if (!set_text(rule->glob, sizeof(rule->glob), section + 10))
			return 0;
	} else if (strncmp(section, "user ", 5) == 0) {
		rule->is_user = true;
		rule->uid = (uid_t)strtoul(section + 5, &end, 10);
		if (end == section + 5 || *end)
			return 0;
		c->has_users = true;
	} else {
		return 0;
	}
	c->rule_count++;
	return 1;
}

int config_load(const char *path, struct daemon_config *ret_config, struct error *err)
{
	cleanup_free struct daemon_config *c = calloc(1, sizeof(*c));
	cleanup_file FILE *file = fopen(path, "re");
	struct stat st;
	int line;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	if (!file && errno != ENOENT)
		return error_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
	if (file) {
		if (fstat(fileno(file), &st) < 0 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
			return error_set(err, -EPERM, "'%s' must belong to root, and nobody else may write to it", path);
		line = ini_parse_file(file, set, c);
		if (line != 0)
			return error_set(err, -EINVAL, "'%s', line %d: cannot be understood", path, line);
	}
	*ret_config = *c;
	return 0;
}

static const struct daemon_rule *find_rule(const struct daemon_config *c, const struct handoff *h)
{
	for (unsigned int i = 0; i < c->rule_count; i++) {
		const struct daemon_rule *rule = &c->rules[i];

		if (rule->is_user ? h->uid != 0 && rule->uid == h->uid :
				    h->uid == 0 && fnmatch(rule->glob, h->id, 0) == 0)
			return rule;
	}
	return NULL;
}

/* Annotations that a container's author writes: they ask, as its environment does. KAI's are MiB and a fraction. */
static void ask_annotations(const json_t *annotations, char limit[WIRE_LIMIT])
{
	const char *ours = json_string_value(json_object_get(annotations, "fracgpu.io/memory"));
	const char *memory = json_string_value(json_object_get(annotations, "gpu-memory"));
	const char *fraction = json_string_value(json_object_get(annotations, "gpu-fraction"));

	if (ours)
		snprintf(limit, WIRE_LIMIT, "%s", ours);
	else if (memory && *memory && strspn(memory, "0123456789") == strlen(memory))
		snprintf(limit, WIRE_LIMIT, "%sMiB", memory);
	else if (fraction && strspn(fraction, "0123456789.") == strlen(fraction) && strtod(fraction, NULL) > 0)
		snprintf(limit, WIRE_LIMIT, "%.1f%%", strtod(fraction, NULL) * 100);
}

int decide_limit(const struct daemon_config *config, const struct handoff *h, char ret_limit[WIRE_LIMIT],
		 char ret_cap[WIRE_LIMIT], struct error *err)
{
	const struct daemon_rule *rule = find_rule(config, h);
	struct wire_metadata m = { 0 };
	const char *limit;

	ret_cap[0] = '\0';
	if (rule) {
		memcpy(ret_limit, rule->memory, WIRE_LIMIT);
		return 0;
	}
	if (h->uid != 0)
		return error_set(err, -EPERM, "user %u has no limit in fracgpud's configuration ([user %u])", h->uid, h->uid);
	if (wire_metadata_unpack(h->metadata, &m) < 0)
		return error_set(err, -EINVAL, "its listenerMetadata is not of fracgpu");
	if (!m.is_given)
		memcpy(ret_cap, config->max, WIRE_LIMIT);
	if (!m.limit[0])
		ask_annotations(h->annotations, m.limit);
	limit = m.limit[0] ? m.limit : config->memory[0] ? config->memory : "100%";
	memcpy(ret_limit, limit, strlen(limit) + 1);
	return 0;
}
