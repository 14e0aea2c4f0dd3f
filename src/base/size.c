/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and shares as people write them. No locale: a point is a point. */
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <strings.h>

enum { FRACTION_DIGITS = 12 };	/* digits after the point that can still change a byte of a TiB */

static const struct unit {
	const char *name;
	uint64_t bytes;
} units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", UINT64_C(1) << 10 },
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
	{ "T", UINT64_C(1) << 40 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TiB", UINT64_C(1) << 40 },
	{ "KB", UINT64_C(1000) },
	{ "MB", UINT64_C(1000000) },
	{ "GB", UINT64_C(1000000000) },
	{ "TB", UINT64_C(1000000000000) },
};

/* A decimal number: whole part, and the first FRACTION_DIGITS digits after the point in units of *ret_scale. */
struct number {
	uint64_t whole;
	uint64_t fraction;
	uint64_t scale;		/* power of ten that fraction is counted in */
	bool has_fraction;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Returns 0 with *text moved behind the number, -EINVAL or -ERANGE. */
static int number_parse(const char **text, struct number *n)
{
	const char *p = *text;

	*n = (struct number){ .scale = 1 };
	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		if (__builtin_mul_overflow(n->whole, 10u, &n->whole) ||
		    __builtin_add_overflow(n->whole, (uint64_t)(*p - '0'), &n->whole))
			return -ERANGE;
	}
	if (*p == '.') {
		if (!is_digit(p[1]))
			return -EINVAL;
		n->has_fraction = true;
		for (int digits = 0; is_digit(*++p); digits++) {
			if (digits >= FRACTION_DIGITS)
				continue;
			n->fraction = n->fraction * 10 + (uint64_t)(*p - '0');
			n->scale *= 10;
		}
	}
	*text = p;
	return 0;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	const struct unit *unit = NULL;
	struct number n;
	uint64_t bytes;
	uint64_t part;
	int r;

	if (!text)
		return -EINVAL;
	r = number_parse(&text, &n);
	if (r < 0)
		return r;
	if (text[0] == ' ' && text[1])	/* "8 GiB", as size_format() writes it */
		text++;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!strcasecmp(text, units[i].name))
			unit = &units[i];
	}
	if (!unit || (n.has_fraction && unit->bytes == 1))
		return -EINVAL;
	part = (uint64_t)((unsigned __int128)n.fraction * unit->bytes / n.scale);
	if (__builtin_mul_overflow(n.whole, unit->bytes, &bytes) || __builtin_add_overflow(bytes, part, &bytes))
		return -ERANGE;
	*ret_bytes = bytes;
	return 0;
}

int percent_parse(const char *text, uint32_t *ret_permille)
{
	struct number n;
	uint64_t tenths;
	int r;

	if (!text)
		return -EINVAL;
	r = number_parse(&text, &n);
	if (r < 0)
		return r;
	if (text[0] != '%' || text[1])
		return -EINVAL;
	if (n.fraction * 10 % n.scale)	/* finer than we keep */
		return -EINVAL;
	tenths = n.fraction * 10 / n.scale;
	if (n.whole > 100 || n.whole * 10 + tenths > 1000 || n.whole * 10 + tenths == 0)
		return -ERANGE;
	*ret_permille = (uint32_t)(n.whole * 10 + tenths);
	return 0;
}

char *size_format(char text[SIZE_TEXT], uint64_t bytes)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	const unsigned int last = sizeof(names) / sizeof(names[0]) - 1;
	unsigned int unit = 0;
	uint64_t tenths = 0;

	if (bytes < 1024) {
		snprintf(text, SIZE_TEXT, "%llu B", (unsigned long long)bytes);
		return text;
	}
	while (unit < last && bytes >> (10 * unit) >= 1024)
		unit++;
	for (;; unit++) {
		unsigned __int128 scaled = (unsigned __int128)bytes * 10;
		unsigned __int128 size = (unsigned __int128)1 << (10 * unit);

		tenths = (uint64_t)((scaled + size / 2) / size);
		if (tenths < 10240 || unit == last)	/* 1023.96 MiB is 1 GiB */
			break;
	}
	if (tenths % 10)
		snprintf(text, SIZE_TEXT, "%llu.%llu %s", (unsigned long long)(tenths / 10),
			 (unsigned long long)(tenths % 10), names[unit]);
	else
		snprintf(text, SIZE_TEXT, "%llu %s", (unsigned long long)(tenths / 10), names[unit]);
	return text;
}
