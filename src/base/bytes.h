/* SPDX-License-Identifier: Apache-2.0 */
/* Readers and writers of fixed-width fields in byte buffers: no pointer casts, no alignment demands.
 * Fields are in the host's byte order, as the driver's are. */
#ifndef FG_BASE_BYTES_H
#define FG_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t get_u16(const void *bytes, size_t offset)
{
	uint16_t v;

	memcpy(&v, (const char *)bytes + offset, sizeof(v));
	return v;
}

static inline uint32_t get_u32(const void *bytes, size_t offset)
{
	uint32_t v;

	memcpy(&v, (const char *)bytes + offset, sizeof(v));
	return v;
}

static inline uint64_t get_u64(const void *bytes, size_t offset)
{
	uint64_t v;

	memcpy(&v, (const char *)bytes + offset, sizeof(v));
	return v;
}

static inline void put_u32(void *bytes, size_t offset, uint32_t v)
{
	memcpy((char *)bytes + offset, &v, sizeof(v));
}

static inline void put_u64(void *bytes, size_t offset, uint64_t v)
{
	memcpy((char *)bytes + offset, &v, sizeof(v));
}

#endif
