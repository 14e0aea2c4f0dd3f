/* SPDX-License-Identifier: Apache-2.0 */
/* The host's policy file. */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/daemon.h"

static int set_text(char *to, size_t size, const char *value)
{
	if (strlen(value) >= size || strpbrk(value, " \t"))
		return 0;
	snprintf(to, size, "%s", value);
	return 1;
}

static int set_share(char *to, const char *value)
{
	uint32_t permille;

	if (strcmp(value, "none") != 0 && percent_parse(value, &permille) < 0)
		return 0;
	return set_text(to, WIRE_SHARE, value);
}

/* Returns 1 for success, 0 for a mistake, -1 when it is no name of these. */
static int set_metrics(struct metrics_config *m, const char *name, const char *value)
{
	struct sockaddr_storage address;
	socklen_t size;
	char *end;

	if (strcmp(name, "metrics") == 0) {
		if (!set_text(m->address, sizeof(m->address), value))
			return 0;
		return metrics_address_parse(value, &address, &size, NULL) == 0;
	}
	if (strcmp(name, "metrics_names") == 0) {
		m->names = strcmp(value, "hami") == 0 ? PROMETHEUS_HAMI :
			   strcmp(value, "hami-legacy") == 0 ? PROMETHEUS_HAMI_LEGACY : PROMETHEUS_OURS;
		return m->names != PROMETHEUS_OURS || strcmp(value, "fracgpu") == 0;
	}
	if (strcmp(name, "metrics_step") == 0) {
		m->step_s = (uint32_t)strtoul(value, &end, 10);
		return value[strspn(value, "0123456789")] == '\0' && strlen(value) < 5 && m->step_s >= 1 && m->step_s <= 3600;
	}
	return -1;
}

static int set_default(struct daemon_config *c, const char *name, const char *value)
{
	if (strcmp(name, "memory") == 0)
		return set_text(c->memory, sizeof(c->memory), value);
	if (strcmp(name, "max") == 0)
		return set_text(c->max, sizeof(c->max), value);
	if (strcmp(name, "compute") == 0)
		return set_share(c->compute, value);
	if (strcmp(name, "max-compute") == 0)
		return set_share(c->max_compute, value);
	if (strcmp(name, "overcommit") == 0) {
		c->overcommit = strcmp(value, "yes") == 0;
		return c->overcommit || strcmp(value, "no") == 0;
	}
	if (strcmp(name, "on-breach") == 0) {
		c->kill_on_breach = strcmp(value, "kill") == 0;
		return c->kill_on_breach || strcmp(value, "report") == 0;
	}
	return set_metrics(&c->metrics, name, value) == 1;
}

/* The rule that a section names: the last one when it is the same, else a new one. NULL when it names none. */
static struct daemon_rule *find_rule(struct daemon_config *c, const char *section)
{
	struct daemon_rule fresh = { 0 }, *last = c->rule_count ? &c->rules[c->rule_count - 1] : NULL;
	char *end;

	if (strncmp(section, "container ", 10) == 0) {
		if (!set_text(fresh.glob, sizeof(fresh.glob), section + 10))
			return NULL;
	} else if (strncmp(section, "pod ", 4) == 0) {
		fresh.kind = RULE_POD;
		if (!set_text(fresh.glob, sizeof(fresh.glob), section + 4) || !strchr(fresh.glob, '/'))
			return NULL;
		c->has_pods = true;
	} else if (strncmp(section, "user ", 5) == 0) {
		fresh.kind = RULE_USER;
		fresh.uid = (uid_t)strtoul(section + 5, &end, 10);
		if (end == section + 5 || *end)
			return NULL;
		c->has_users = true;
	} else {
		return NULL;
	}
	if (last && last->kind == fresh.kind && last->uid == fresh.uid && strcmp(last->glob, fresh.glob) == 0)
		return last;
	if (c->rule_count == CONFIG_RULES)
		return NULL;
	c->rules[c->rule_count] = fresh;
	return &c->rules[c->rule_count++];
}

/* What is read, and the section that it is in: inih keeps 49 letters of its name, and a container's id has 64. */
struct reading {
	FILE *file;
	struct daemon_config *config;
	char section[sizeof(((struct daemon_rule *)NULL)->glob)];
};

static char *read_line(char *line, int size, void *arg)
{
	struct reading *reading = arg;
	const char *start, *end;

	if (!fgets(line, size, reading->file))
		return NULL;
	start = line + strspn(line, " \t\xef\xbb\xbf");
	end = *start == '[' ? strchr(start, ']') : NULL;
	if (end)
		snprintf(reading->section, sizeof(reading->section), "%.*s", (int)(end - start - 1), start + 1);
	return line;
}

/* Whether inih sees the section that we see, as far as it keeps its name. */
static bool is_section(const char *section, const char *kept)
{
	size_t length = strlen(kept);

	return strncmp(section, kept, length) == 0 && (section[length] == '\0' || length > 40);
}

/* inih's way: 1 is success. */
static int set(void *arg, const char *kept_section, const char *name, const char *value)
{
	struct reading *reading = arg;
	struct daemon_config *c = reading->config;
	const char *section = reading->section;
	struct daemon_rule *rule;

	if (!is_section(section, kept_section))
		return 0;
	if (strcmp(section, "default") == 0)
		return set_default(c, name, value);
	rule = find_rule(c, section);
	if (!rule)
		return 0;
	if (strcmp(name, "memory") == 0)
		return set_text(rule->terms.limit, sizeof(rule->terms.limit), value);
	if (strcmp(name, "compute") == 0)
		return set_share(rule->terms.compute, value);
	if (strcmp(name, "slice") == 0)
		return slice_name_is_valid(value) && set_text(rule->terms.slice, sizeof(rule->terms.slice), value);
	return 0;
}

int config_load(const char *path, struct daemon_config *ret_config, struct error *err)
{
	cleanup_free struct daemon_config *c = calloc(1, sizeof(*c));
	cleanup_file FILE *file = fopen(path, "re");
	struct reading reading = { .file = file, .config = c };
	struct stat st;
	int line;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	if (!file && errno != ENOENT)
		return error_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
	if (file) {
		if (fstat(fileno(file), &st) < 0 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
			return error_set(err, -EPERM, "'%s' must belong to root, and nobody else may write to it", path);
		line = ini_parse_stream(read_line, &reading, set, &reading);
		if (line != 0)
			return error_set(err, -EINVAL, "'%s', line %d: cannot be understood", path, line);
	}
	*ret_config = *c;
	return 0;
}
