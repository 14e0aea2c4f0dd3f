/* SPDX-License-Identifier: Apache-2.0 */
/* Values out of a fuzzer's bytes; zeros when they run out. */
#ifndef FG_TESTS_FUZZ_FUZZ_H
#define FG_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz {
	const uint8_t *data;
	size_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_bytes(struct fuzz *f, void *buffer, size_t size)
{
	size_t part = size < f->size ? size : f->size;

	memset(buffer, 0, size);
	memcpy(buffer, f->data, part);
	f->data += part;
	f->size -= part;
}

static inline uint8_t fuzz_u8(struct fuzz *f)
{
	uint8_t v;

	fuzz_bytes(f, &v, sizeof(v));
	return v;
}

static inline uint32_t fuzz_u32(struct fuzz *f)
{
	uint32_t v;

	fuzz_bytes(f, &v, sizeof(v));
	return v;
}

#endif
