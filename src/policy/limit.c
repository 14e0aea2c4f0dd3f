/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits as people write them: "8GiB", "50%", "0=8GiB,GPU-1234abcd=50%". */
#include "policy/limit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/size.h"

enum {
	LIMIT_GPUS = 64,	/* more than one machine has; the "named already" flags are bits */
	LIMIT_PART = 96,	/* longest part: a UUID, '=', a size */
	LIMIT_UUID_PREFIX = 8,	/* "GPU-" and four digits */
};

/* "GPU 0 (GPU-1234..., 141 GiB), GPU 1 (...)", for the sentences. */
static const char *list_gpus(char *text, size_t size, const struct limit_gpu *gpus, uint32_t count)
{
	size_t used = 0;

	snprintf(text, size, "no GPU at all");
	for (uint32_t i = 0; i < count && used < size; i++) {
		char total[SIZE_TEXT];
		int n = snprintf(text + used, size - used, "%sGPU %u (%s, %s)", i ? ", " : "", gpus[i].index,
				 gpus[i].uuid, size_format(total, gpus[i].total_bytes));

		if (n < 0)
			break;
		used += (size_t)n;
	}
	return text;
}

static int no_such_gpu(const char *key, const struct limit_gpu *gpus, uint32_t count, struct error *err)
{
	char have[384];

	return error_set(err, -ENODEV, "no GPU %s: this machine has %s", key,
			 list_gpus(have, sizeof(have), gpus, count));
}

/* The entry that an index or the start of a UUID names. */
static int find_gpu(const char *key, const struct limit_gpu *gpus, uint32_t count, uint32_t *ret_entry,
		    struct error *err)
{
	bool is_index = *key && strspn(key, "0123456789") == strlen(key);
	size_t length = strlen(key);
	uint32_t found = count;

	for (uint32_t i = 0; i < count; i++) {
		char index[12];

		snprintf(index, sizeof(index), "%u", gpus[i].index);
		if (is_index ? strcmp(key, index) != 0 :
		    length < LIMIT_UUID_PREFIX || strncasecmp(key, gpus[i].uuid, length) != 0)
			continue;
		if (found != count)
			return error_set(err, -EINVAL, "'%s' fits both GPU %u (%s) and GPU %u (%s): write more of the UUID",
					 key, gpus[found].index, gpus[found].uuid, gpus[i].index, gpus[i].uuid);
		found = i;
	}
	if (found == count) {
		if (!is_index && length < LIMIT_UUID_PREFIX)
			return error_set(err, -EINVAL,
					 "'%s' names no GPU: write its index or at least %d characters of its UUID",
					 key, LIMIT_UUID_PREFIX);
		return no_such_gpu(key, gpus, count, err);
	}
	*ret_entry = found;
	return 0;
}

/* "8GiB" or "50%" of one GPU. */
static int parse_value(const char *value, const struct limit_gpu *gpu, uint64_t *ret_bytes, struct error *err)
{
	char total[SIZE_TEXT];
	uint32_t permille;
	uint64_t bytes;
	int r;

	if (strchr(value, '%')) {
		r = percent_parse(value, &permille);
		if (r == -ERANGE)
			return error_set(err, r, "'%s' is not a share: more than 0 and at most 100 per cent", value);
		if (r < 0)
			return error_set(err, r, "'%s' is not a share: write it like 50%% or 12.5%%", value);
		bytes = gpu->total_bytes / 1000 * permille + gpu->total_bytes % 1000 * permille / 1000;
	} else {
		r = size_parse(value, &bytes);
		if (r == -EINVAL)
			return error_set(err, r, "'%s' is not a size: write it like 8GiB, 512MiB or 50%%", value);
		if (r == -ERANGE || bytes > gpu->total_bytes)
			return error_set(err, -ERANGE, "%s is more than GPU %u has (%s)", value, gpu->index,
					 size_format(total, gpu->total_bytes));
	}
	if (!bytes)
		return error_set(err, -EINVAL, "'%s' leaves no memory on GPU %u: a slice needs some", value, gpu->index);
	*ret_bytes = bytes;
	return 0;
}

/* One "GPU=value" of a list. */
static int parse_part(char *part, const struct limit_gpu *gpus, uint32_t count, uint64_t *limits,
		      struct error *err)
{
	char *value = strchr(part, '=');
	uint32_t entry = 0;
	int r;

	if (!value)
		return error_set(err, -EINVAL, "'%s' names no GPU: in a list each part is GPU=SIZE, like 0=8GiB", part);
	*value++ = '\0';
	r = find_gpu(part, gpus, count, &entry, err);
	if (r < 0)
		return r;
	if (limits[entry])
		return error_set(err, -EINVAL, "GPU %u is named twice", gpus[entry].index);
	return parse_value(value, &gpus[entry], &limits[entry], err);
}

int limit_parse(const char *text, const struct limit_gpu *gpus, uint32_t count, uint64_t *ret_limits,
		struct error *err)
{
	uint64_t limits[LIMIT_GPUS] = { 0 };
	int r;

	if (!text || !*text)
		return error_set(err, -EINVAL, "the memory limit is empty: write it like 8GiB, 50%% or 0=8GiB,1=4GiB");
	if (!count || count > LIMIT_GPUS)
		return error_set(err, -ENODEV, "no limit for %u GPUs (1 to %d)", count, LIMIT_GPUS);
	if (!strpbrk(text, ",=")) {
		for (uint32_t i = 0; i < count; i++) {
			r = parse_value(text, &gpus[i], &limits[i], err);
			if (r < 0)
				return r;
		}
	} else {
		for (const char *p = text; p; ) {
			size_t length = strcspn(p, ",");
			char part[LIMIT_PART];

			if (!length || length >= sizeof(part))
				return error_set(err, -EINVAL, "'%s' has an empty or overlong part", text);
			memcpy(part, p, length);
			part[length] = '\0';
			r = parse_part(part, gpus, count, limits, err);
			if (r < 0)
				return r;
			p = p[length] ? p + length + 1 : NULL;
		}
	}
	memcpy(ret_limits, limits, count * sizeof(limits[0]));
	return 0;
}

int limit_check(const char *text, struct error *err)
{
	struct limit_gpu any[LIMIT_GPUS] = { 0 };
	uint64_t limits[LIMIT_GPUS];
	int r;

	for (uint32_t i = 0; i < LIMIT_GPUS; i++) {
		any[i].index = i;
		any[i].total_bytes = UINT64_C(1) << 50;
	}
	r = limit_parse(text, any, LIMIT_GPUS, limits, err);
	/* a UUID may be of a GPU elsewhere */
	return r == -ENODEV ? 0 : r < 0 ? -EINVAL : 0;
}
