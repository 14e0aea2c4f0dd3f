/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata of a hand-off, and limits by the names that people know. */
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char word[] = "fracgpu";

/* The words of metadata after the first, and where their values are. */
static const struct {
	const char *key;
	size_t at, size;
} keys[] = {
	{ "memory=", offsetof(struct wire_terms, limit), WIRE_LIMIT },
	{ "compute=", offsetof(struct wire_terms, compute), WIRE_SHARE },
	{ "slice=", offsetof(struct wire_terms, slice), WIRE_NAME },
};

enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

static bool fits(const char *value, size_t size)
{
	return strlen(value) < size && !strpbrk(value, " \t\n");
}

bool wire_has_terms(const struct wire_terms *terms)
{
	return terms->limit[0] || terms->compute[0] || terms->slice[0];
}

int wire_metadata_pack(const struct wire_metadata *metadata, char *ret_text)
{
	bool says = wire_has_terms(&metadata->terms);
	char text[WIRE_METADATA];
	size_t used;

	used = (size_t)snprintf(text, sizeof(text), "%s%s", word, says && !metadata->is_given ? " asks" : "");
	for (int i = 0; i < KEYS; i++) {
		const char *value = (const char *)&metadata->terms + keys[i].at;

		if (!fits(value, keys[i].size))
			return -EINVAL;
		if (*value)
			used += (size_t)snprintf(text + used, sizeof(text) - used, " %s%s", keys[i].key, value);
	}
	memcpy(ret_text, text, used + 1);
	return 0;
}

/* One word. Returns 0 or -EINVAL. */
static int take_word(struct wire_metadata *m, const char *text, size_t length)
{
	for (int i = 0; i < KEYS; i++) {
		char *to = (char *)&m->terms + keys[i].at;
		size_t key = strlen(keys[i].key);

		if (length <= key || strncmp(text, keys[i].key, key) != 0)
			continue;
		if (*to || length - key >= keys[i].size)
			return -EINVAL;
		memcpy(to, text + key, length - key);
		return 0;
	}
	return -EINVAL;
}

int wire_metadata_unpack(const char *text, struct wire_metadata *ret_metadata)
{
	struct wire_metadata m = { .is_given = true };

	if (strncmp(text, word, sizeof(word) - 1) != 0 || strpbrk(text, "\t\n"))
		return -EINVAL;
	text += sizeof(word) - 1;
	while (*text) {
		size_t length;

		if (*text++ != ' ')
			return -EINVAL;
		length = strcspn(text, " ");
		if (length == 4 && strncmp(text, "asks", 4) == 0 && m.is_given && !wire_has_terms(&m.terms))
			m.is_given = false;
		else if (take_word(&m, text, length) < 0)
			return -EINVAL;
		text += length;
	}
	if (!wire_has_terms(&m.terms))
		m.is_given = false;
	*ret_metadata = m;
	return 0;
}

/* A number and one of the units; "" is in the list where none is needed. ret_text: as size_parse() reads it. */
static int translate(const char *value, const char *suffixes, const char *const units[], char *ret_text, size_t size)
{
	size_t digits = strspn(value, "0123456789.");
	const char *suffix;
	char letter = value[digits];

	if (!digits || digits > 24 || (letter && value[digits + 1]))
		return -EINVAL;
	if (letter >= 'A' && letter <= 'Z')
		letter = (char)(letter - 'A' + 'a');
	suffix = letter ? strchr(suffixes, letter) : strchr(suffixes, '-');
	if (!suffix)
		return -EINVAL;
	snprintf(ret_text, size, "%.*s%s", (int)digits, value, units[suffix - suffixes]);
	return 0;
}

/* Ranks of the names of a limit: the smallest that is there counts. */
enum rank {
	RANK_NONE,
	RANK_OURS,
	RANK_OURS_INDEXED,	/* of indexed ones each adds its GPU */
	RANK_NVIDIA,
	RANK_HAMI_INDEXED,
	RANK_HAMI,
	RANK_GB,
	RANK_REQUEST,
};

static const char *const hami_units[] = { "", "K", "M", "G", "T" };
static const char *const mebi[] = { "MiB" }, *const gibi[] = { "GiB" };

/* A name: with the value's form, or as a limit is written. */
static const struct name {
	const char *name;
	enum rank rank;
	bool is_indexed;	/* a number follows */
	const char *suffixes;	/* NULL: as it is */
	const char *const *units;
} names[] = {
	{ "FRACGPU_MEMORY", RANK_OURS, false, NULL, NULL },
	{ "FRACGPU_MEMORY_", RANK_OURS_INDEXED, true, NULL, NULL },
	{ "NVIDIA_GPU_MEMORY_LIMIT", RANK_NVIDIA, false, "-", mebi },
	{ "CUDA_DEVICE_MEMORY_LIMIT_", RANK_HAMI_INDEXED, true, "-kmgt", hami_units },
	{ "CUDA_DEVICE_MEMORY_LIMIT", RANK_HAMI, false, "-kmgt", hami_units },
	{ "GPU_MEM_LIMIT_GB", RANK_GB, false, "-", gibi },
	{ "NVIDIA_GPU_MEMORY_REQUEST", RANK_REQUEST, false, "-", mebi },
};

static const struct name *find_name(const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t length = strlen(names[i].name);

		if (names[i].is_indexed ? strncmp(name, names[i].name, length) == 0 : strcmp(name, names[i].name) == 0)
			return &names[i];
	}
	return NULL;
}

static int take_indexed(struct wire_ask *ask, const struct name *name, const char *index, const char *limit)
{
	char *to = ask->terms.limit;
	size_t used = ask->memory_rank == name->rank ? strlen(to) : 0, size = sizeof(ask->terms.limit);
	int more;

	if (!*index || strspn(index, "0123456789") != strlen(index) || strpbrk(limit, ",="))
		return -EINVAL;
	more = snprintf(to + used, size - used, "%s%s=%s", used ? "," : "", index, limit);
	if (more < 0 || (size_t)more >= size - used)
		return -EINVAL;
	ask->memory_rank = name->rank;
	return 0;
}

static int ask_memory(struct wire_ask *ask, const struct name *name, const char *index, const char *value)
{
	char limit[WIRE_LIMIT];
	int r = 0;

	if (name->suffixes)
		r = translate(value, name->suffixes, name->units, limit, sizeof(limit));
	else if (*value && fits(value, sizeof(limit)))
		snprintf(limit, sizeof(limit), "%s", value);
	else
		r = -EINVAL;
	if (r < 0)
		return r;
	if (ask->memory_rank && ask->memory_rank < name->rank)
		return 0;
	if (name->is_indexed)
		return take_indexed(ask, name, index, limit);
	if (ask->memory_rank == name->rank)
		return 0;	/* named twice: the first */
	ask->memory_rank = name->rank;
	memcpy(ask->terms.limit, limit, sizeof(limit));
	return 0;
}

/* "25%", "25", "none"; of HAMi's, which is a bare number, 0 means none. */
static int ask_compute(struct wire_ask *ask, uint32_t rank, const char *value, bool zero_is_none)
{
	size_t digits = strspn(value, "0123456789.");
	const char *end = value + digits;
	char share[WIRE_SHARE];

	if (strcmp(value, "none") == 0 || (zero_is_none && strcmp(value, "0") == 0))
		snprintf(share, sizeof(share), "none");
	else if (digits && digits < 8 && (!*end || strcmp(end, "%") == 0))
		snprintf(share, sizeof(share), "%.*s%%", (int)digits, value);
	else
		return -EINVAL;
	if (ask->compute_rank && ask->compute_rank <= rank)
		return 0;
	ask->compute_rank = rank;
	memcpy(ask->terms.compute, share, sizeof(share));
	return 0;
}

int wire_ask_variable(struct wire_ask *ask, const char *name, const char *value)
{
	const struct name *memory = find_name(name);

	if (memory)
		return ask_memory(ask, memory, name + strlen(memory->name), value);
	if (strcmp(name, "FRACGPU_COMPUTE") == 0)
		return ask_compute(ask, 1, value, false);
	if (strcmp(name, "CUDA_DEVICE_SM_LIMIT") == 0)
		return ask_compute(ask, 2, value, true);
	if (strcmp(name, "FRACGPU_SLICE") == 0) {
		if (!*value || !fits(value, sizeof(ask->terms.slice)))
			return -EINVAL;
		if (!ask->terms.slice[0])
			snprintf(ask->terms.slice, sizeof(ask->terms.slice), "%s", value);
	}
	return 0;
}
