/* SPDX-License-Identifier: Apache-2.0 */
/* Which layout a driver version has: one base and a list of differences, each at the release that made it. */
#include "abi/version.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* 515.43.04, the first release with open sources. */
static const struct abi_layout base_layout = {
	.alloc_short_status = 24,
	.alloc_long_size = 40,
	.alloc_long_flags = 0,
	.alloc_long_status = 32,
	.memory_alloc_size = 120,
	.channel_alloc_size = 304,
	.channel_userd_memory = 32,
	.channel_userd_offset = 64,
	.channel_engine = 128,
	.vaspace_alloc_size = 48,
	.root_alloc_size = 108,
	.unmap_dma_size = 40,
	.map_dma_size = 56,
	.dmabuf_size = 2600,
	.fb_info_v2_size = 436,
	.gpfifo_schedule_size = 2,
	.util_samples_size = 47216,
	.util_sample_size = 472,
	.util_sample_pid = 132,
	.util_sample_count = 100,
	.uvm_map_external_size = 1200,
	.uvm_map_external_client = 1188,
	.uvm_map_external_memory = 1192,
	.uvm_map_external_status = 1196,
	.uvm_semaphore_pool_size = 1184,
	.uvm_free_size = 24,
	.uvm_free_status = 16,
};

struct difference {
	struct abi_version from;
	uint16_t offset;	/* of the field in struct abi_layout */
	uint16_t size;		/* of that field: 2 or 4 */
	uint32_t value;
};

#define FROM(major, minor, patch, field, value)                                             \
	{ { major, minor, patch }, offsetof(struct abi_layout, field),                      \
	  sizeof(((struct abi_layout *)0)->field), value }

/* Ascending; of two rows for one field the later one that a version has reached counts. A branch may lack what
 * an older branch got late (515.86.01 against 520) and the vGPU releases run ahead of their branch (535.43.08,
 * 550.40.53 against 535.54.03, 550.54.14): such fields have a row each time.
 * Source: the headers of every release tag, 515.43.04 to 595.45.04, measured by tools/extract-layouts. */
static const struct difference differences[] = {
	/* PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2: 72 samples instead of 100 */
	FROM(515, 86, 1, util_samples_size, 34000),
	FROM(515, 86, 1, util_sample_count, 72),
	FROM(520, 56, 6, util_samples_size, 47216),
	FROM(520, 56, 6, util_sample_count, 100),
	FROM(525, 47, 4, util_samples_size, 34000),
	FROM(525, 47, 4, util_sample_count, 72),
	/* NVOS64: flags in what was padding */
	FROM(525, 47, 4, alloc_long_flags, 32),
	FROM(525, 47, 4, alloc_long_status, 36),
	/* NVOS64 and NVOS21: paramsSize */
	FROM(535, 43, 2, alloc_long_size, 48),
	FROM(535, 43, 2, alloc_long_flags, 36),
	FROM(535, 43, 2, alloc_long_status, 40),
	FROM(535, 43, 2, alloc_short_status, 28),
	/* NV_CHANNEL_ALLOC_PARAMS: encryption keys, appended; first on the vGPU releases */
	FROM(535, 43, 8, channel_alloc_size, 360),
	FROM(535, 54, 3, channel_alloc_size, 304),
	FROM(535, 86, 5, channel_alloc_size, 360),
	/* NV_MEMORY_ALLOCATION_PARAMS: numaNode, appended */
	FROM(545, 23, 6, memory_alloc_size, 128),
	FROM(545, 23, 6, fb_info_v2_size, 444),
	FROM(550, 40, 7, unmap_dma_size, 48),
	FROM(550, 40, 7, util_samples_size, 50704),
	FROM(550, 40, 7, util_sample_size, 704),
	/* UVM: the list of GPUs has 256 entries instead of 32; first on the vGPU releases */
	FROM(550, 40, 53, uvm_map_external_size, 9264),
	FROM(550, 40, 53, uvm_map_external_client, 9252),
	FROM(550, 40, 53, uvm_map_external_memory, 9256),
	FROM(550, 40, 53, uvm_map_external_status, 9260),
	FROM(550, 40, 53, uvm_semaphore_pool_size, 9248),
	FROM(560, 28, 3, fb_info_v2_size, 460),
	FROM(570, 86, 15, channel_alloc_size, 368),
	FROM(570, 86, 15, root_alloc_size, 120),
	FROM(570, 86, 15, dmabuf_size, 2608),
	FROM(570, 86, 15, util_samples_size, 55888),
	FROM(570, 86, 15, util_sample_size, 776),
	FROM(570, 86, 15, util_sample_pid, 144),
	FROM(575, 51, 2, gpfifo_schedule_size, 3),
	FROM(580, 65, 6, vaspace_alloc_size, 56),
	FROM(580, 65, 6, map_dma_size, 64),
	FROM(580, 65, 6, fb_info_v2_size, 1028),
	/* UVM_FREE: length dropped */
	FROM(590, 44, 1, uvm_free_size, 16),
	FROM(590, 44, 1, uvm_free_status, 8),
	/* NV_CHANNEL_ALLOC_PARAMS: a handle after hVASpace. Not from the driver's sources, which end at 595, but
	 * from google/gvisor:pkg/abi/nvgpu/classes.go, which has it from 610.43.02 on */
	FROM(610, 0, 0, channel_alloc_size, 376),
	FROM(610, 0, 0, channel_userd_memory, 36),
	FROM(610, 0, 0, channel_userd_offset, 72),
	FROM(610, 0, 0, channel_engine, 136),
};

/* One number of a version: digits only, so that "+580" and " 580" are no versions. */
static const char *read_number(const char *text, uint16_t *ret_number)
{
	uint32_t value = 0;

	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++) {
		value = value * 10 + (uint32_t)(*text - '0');
		if (value > UINT16_MAX)
			return NULL;
	}
	*ret_number = (uint16_t)value;
	return text;
}

int abi_version_parse(const char *text, struct abi_version *ret_version)
{
	struct abi_version v = { 0 };

	text = read_number(text, &v.major);
	if (!text || *text != '.')
		return -EINVAL;
	text = read_number(text + 1, &v.minor);
	if (!text)
		return -EINVAL;
	if (*text == '.') {
		text = read_number(text + 1, &v.patch);
		if (!text)
			return -EINVAL;
	}
	if (*text && !strchr(" \t\r\n", *text))
		return -EINVAL;
	*ret_version = v;
	return 0;
}

static int compare_number(uint16_t a, uint16_t b)
{
	return (a > b) - (a < b);
}

int abi_version_compare(struct abi_version a, struct abi_version b)
{
	int order = compare_number(a.major, b.major);

	if (!order)
		order = compare_number(a.minor, b.minor);
	if (!order)
		order = compare_number(a.patch, b.patch);
	return order;
}

static bool is_supported(struct abi_version v)
{
	static const struct abi_version first = { 515, 43, 4 };

	if (v.major <= 595)
		return abi_version_compare(v, first) >= 0;
	return v.major >= 610 && v.major <= 620;
}

static void apply(struct abi_layout *layout, const struct difference *d)
{
	char *field = (char *)layout + d->offset;
	uint16_t narrow = (uint16_t)d->value;

	if (d->size == sizeof(narrow))
		memcpy(field, &narrow, sizeof(narrow));
	else
		memcpy(field, &d->value, sizeof(d->value));
}

int abi_layout_find(struct abi_version version, struct abi_layout *ret_layout)
{
	if (!is_supported(version))
		return -ENOTSUP;
	*ret_layout = base_layout;
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++) {
		if (abi_version_compare(version, differences[i].from) < 0)
			break;
		apply(ret_layout, &differences[i]);
	}
	return 0;
}

const char *abi_supported(void)
{
	return "515.43.04 to 595, 610 to 620";
}
