/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata of a hand-off, and limits by the names that people know. */
#include "wire/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char word[] = "fracgpu", given[] = " memory=", asked[] = " asks=";

int wire_metadata_pack(const struct wire_metadata *metadata, char *ret_text)
{
	if (strpbrk(metadata->limit, " \t\n") || strlen(metadata->limit) >= WIRE_LIMIT)
		return -EINVAL;
	if (!metadata->limit[0])
		snprintf(ret_text, WIRE_METADATA, "%s", word);
	else
		snprintf(ret_text, WIRE_METADATA, "%s%s%s", word, metadata->is_given ? given : asked, metadata->limit);
	return 0;
}

int wire_metadata_unpack(const char *text, struct wire_metadata *ret_metadata)
{
	struct wire_metadata m = { 0 };
	const char *limit = "";

	if (strncmp(text, word, sizeof(word) - 1) != 0)
		return -EINVAL;
	text += sizeof(word) - 1;
	if (strncmp(text, given, sizeof(given) - 1) == 0) {
		m.is_given = true;
		limit = text + sizeof(given) - 1;
	} else if (strncmp(text, asked, sizeof(asked) - 1) == 0) {
		limit = text + sizeof(asked) - 1;
	} else if (*text) {
		return -EINVAL;
	}
	if (strlen(limit) >= sizeof(m.limit) || strpbrk(limit, " \t\n") || (*text && !*limit))
		return -EINVAL;
	memcpy(m.limit, limit, strlen(limit));
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

enum { RANK_INDEXED = 3 };	/* CUDA_DEVICE_MEMORY_LIMIT_0 ...: each adds its GPU */

static int take_indexed(struct wire_ask *ask, const char *index, const char *limit)
{
	size_t used = ask->rank == RANK_INDEXED ? strlen(ask->limit) : 0;
	int more;

	if (!*index || strspn(index, "0123456789") != strlen(index))
		return -EINVAL;
	more = snprintf(ask->limit + used, sizeof(ask->limit) - used, "%s%s=%s", used ? "," : "", index, limit);
	if (more < 0 || (size_t)more >= sizeof(ask->limit) - used)
		return -EINVAL;
	ask->rank = RANK_INDEXED;
	return 0;
}

int wire_ask_variable(struct wire_ask *ask, const char *name, const char *value)
{
	static const char *const hami[] = { "", "K", "M", "G", "T" };
	static const char *const mebi[] = { "MiB" }, *const gibi[] = { "GiB" };
	static const char indexed[] = "CUDA_DEVICE_MEMORY_LIMIT_";
	char limit[WIRE_LIMIT];
	uint32_t rank;
	int r = 0;

	if (strcmp(name, "FRACGPU_MEMORY") == 0) {
		rank = 1;
		if (!*value || strlen(value) >= sizeof(limit) || strpbrk(value, " \t\n"))
			return -EINVAL;
		snprintf(limit, sizeof(limit), "%s", value);
	} else if (strcmp(name, "NVIDIA_GPU_MEMORY_LIMIT") == 0) {
		rank = 2;
		r = translate(value, "-", mebi, limit, sizeof(limit));
	} else if (strncmp(name, indexed, sizeof(indexed) - 1) == 0) {
		rank = RANK_INDEXED;
		r = translate(value, "-kmgt", hami, limit, sizeof(limit));
	} else if (strcmp(name, "CUDA_DEVICE_MEMORY_LIMIT") == 0) {
		rank = 4;
		r = translate(value, "-kmgt", hami, limit, sizeof(limit));
	} else if (strcmp(name, "GPU_MEM_LIMIT_GB") == 0) {
		rank = 5;
		r = translate(value, "-", gibi, limit, sizeof(limit));
	} else {
		return 0;
	}
	if (r < 0)
		return r;
	if (ask->rank && ask->rank < rank)
		return 0;
	if (rank == RANK_INDEXED)
		return take_indexed(ask, name + sizeof(indexed) - 1, limit);
	if (ask->rank == rank)
		return 0;	/* named twice: the first */
	ask->rank = rank;
	memcpy(ask->limit, limit, sizeof(limit));
	return 0;
}
