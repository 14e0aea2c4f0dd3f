/* SPDX-License-Identifier: Apache-2.0 */
/* What a container gets: the host's policy, what was given, what is asked for. */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "daemon/daemon.h"
#include "daemon/pod.h"
#include "runtime/config.h"

static bool is_for(const struct daemon_rule *rule, const struct handoff *h, const char *pod)
{
	switch (rule->kind) {
	case RULE_USER:
		return h->uid != 0 && rule->uid == h->uid;
	case RULE_POD:
		return *pod && fnmatch(rule->glob, pod, FNM_PATHNAME) == 0;
	case RULE_CONTAINER:
		break;
	}
	return h->uid == 0 && fnmatch(rule->glob, h->id, 0) == 0;
}

/* The pod as NAMESPACE/NAME; "": in none, or of somebody whose words do not count. */
static int read_pod(const struct handoff *h, char *ret_pod, size_t size, struct error *err)
{
	struct pod pod;

	*ret_pod = '\0';
	if (h->uid != 0)
		return 0;
	if (pod_find(h->annotations, &pod) < 0)
		return error_set(err, -EPERM, "its annotations have names of two pods, and policy depends on them");
	if (*pod.name && (size_t)snprintf(ret_pod, size, "%s/%s", pod.space, pod.name) >= size)
		return error_set(err, -EPERM, "the name of its pod is too long");
	return 0;
}

/* What the host's policy has for it; *ret_rule is NULL when that is nothing. */
static int find_rule(const struct daemon_config *c, const struct handoff *h, const struct daemon_rule **ret_rule,
		     struct error *err)
{
	char pod[512] = "";
	int r = c->has_pods ? read_pod(h, pod, sizeof(pod), err) : 0;

	*ret_rule = NULL;
	for (unsigned int i = 0; i < c->rule_count && r == 0 && !*ret_rule; i++) {
		if (is_for(&c->rules[i], h, pod))
			*ret_rule = &c->rules[i];
	}
	return r;
}

static int ask(char *to, size_t size, const json_t *annotations, const char *name, struct error *err)
{
	const char *value = json_string_value(json_object_get(annotations, name));

	if (to[0] || !value)
		return 0;
	if (strlen(value) >= size || strpbrk(value, " \t\n"))
		return error_set(err, -EINVAL, "its annotation %s is too long, or has blanks", name);
	memcpy(to, value, strlen(value) + 1);
	return 0;
}

/* KAI's and Run:ai's: MiB, and a part of one. */
static void ask_kai(const json_t *annotations, char limit[WIRE_LIMIT])
{
	const char *memory = json_string_value(json_object_get(annotations, "gpu-memory"));
	const char *fraction = json_string_value(json_object_get(annotations, "gpu-fraction"));

	if (limit[0])
		return;
	if (memory && *memory && strlen(memory) < 20 && strspn(memory, "0123456789") == strlen(memory))
		snprintf(limit, WIRE_LIMIT, "%sMiB", memory);
	else if (fraction && strspn(fraction, "0123456789.") == strlen(fraction) &&
		 strtod(fraction, NULL) > 0)
		snprintf(limit, WIRE_LIMIT, "%.1f%%", strtod(fraction, NULL) * 100);
}

/* Annotations that a container's author writes: they ask, as its environment does, which comes first. */
static int ask_annotations(const json_t *annotations, struct wire_terms *terms, struct error *err)
{
	int r = ask(terms->limit, sizeof(terms->limit), annotations, "fracgpu.io/memory", err);

	if (r == 0)
		r = ask(terms->compute, sizeof(terms->compute), annotations, "fracgpu.io/compute", err);
	if (r == 0)
		r = ask(terms->slice, sizeof(terms->slice), annotations, "fracgpu.io/slice", err);
	if (r == 0)
		ask_kai(annotations, terms->limit);
	return r;
}

/* A profile that says nothing came without fracgpu-runtime: look where that would have looked. What cannot be
 * read (an agent in a container of its own sees no bundles) says nothing. */
static int read_bundle(const struct handoff *h, struct wire_metadata *m, struct error *err)
{
	char path[PATH_MAX + 16];
	struct error ignored;
	json_t *config;
	int r;

	if (h->bundle[0] != '/')
		return 0;
	snprintf(path, sizeof(path), "%s/config.json", h->bundle);
	config = config_read(path, &ignored);
	if (!config)
		return 0;
	r = config_terms(config, m, err);
	json_decref(config);
	return r;
}

/* A cap on GPU time as a number; none, or nothing that can be read: 1000. */
static uint32_t permille_of(const char *share)
{
	uint32_t permille;

	return percent_parse(share, &permille) == 0 ? permille : 1000;
}

static void fill_defaults(const struct daemon_config *config, struct decision *d)
{
	if (!d->terms.limit[0])
		snprintf(d->terms.limit, sizeof(d->terms.limit), "%s",
			 config->memory[0] ? config->memory : "100%");
	if (!d->terms.compute[0])
		memcpy(d->terms.compute, config->compute, sizeof(d->terms.compute));
	if (!d->is_given && permille_of(d->terms.compute) > permille_of(config->max_compute))
		memcpy(d->terms.compute, config->max_compute, sizeof(d->terms.compute));
}

int decide(const struct daemon_config *config, const struct handoff *h, struct decision *ret_decision,
	   struct error *err)
{
	const struct daemon_rule *rule;
	struct wire_metadata m = { .is_given = true };
	struct decision d = { 0 };
	int r = find_rule(config, h, &rule, err);

	if (r < 0)
		return r;
	if (rule) {
		m.terms = rule->terms;
	} else if (h->uid != 0) {
		return error_set(err, -EPERM, "user %u has no limit in fracgpud's configuration ([user %u])",
				 h->uid, h->uid);
	} else {
		if (wire_metadata_unpack(h->metadata, &m) < 0)
			return error_set(err, -EINVAL, "its listenerMetadata is not of fracgpu");
		if (!wire_has_terms(&m.terms))
			r = read_bundle(h, &m, err);
		if (r == 0 && !m.is_given)
			r = ask_annotations(h->annotations, &m.terms, err);
		if (r < 0)
			return r;
	}
	d.terms = m.terms;
	d.is_given = m.is_given;
	if (!m.is_given)
		memcpy(d.cap, config->max, sizeof(d.cap));
	fill_defaults(config, &d);
	*ret_decision = d;
	return 0;
}
