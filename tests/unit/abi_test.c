/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of abi against the driver's own sources (data/rm-abi.csv, from tools/extract-layouts) and against
 * calls of real programs (data/real-calls.txt). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "abi/calls.h"
#include "abi/version.h"
#include "base/bytes.h"
#include "base/cleanup.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct abi_version version(const char *text)
{
	struct abi_version v;

	if (abi_version_parse(text, &v) < 0)
		fail_msg("%s is no version", text);
	return v;
}

static struct abi_layout layout_of(const char *text)
{
	struct abi_layout layout;

	if (abi_layout_find(version(text), &layout) < 0)
		fail_msg("%s is not supported", text);
	return layout;
}

static FILE *open_data(const char *name)
{
	const char *folder = getenv("FRACGPU_TEST_DATA");
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/data", name);
	file = fopen(path, "re");
	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	return file;
}

static void test_version_parse(void **state)
{
	static const struct {
		const char *text;
		int result;
		struct abi_version version;
	} cases[] = {
		{ "580.159.04", 0, { 580, 159, 4 } },
		{ "580.159.04\n", 0, { 580, 159, 4 } },
		{ "565.77", 0, { 565, 77, 0 } },
		{ "515.105.01 (beta)", 0, { 515, 105, 1 } },
		{ "65535.65535.65535", 0, { 65535, 65535, 65535 } },
		{ "", -EINVAL, { 0 } },
		{ "580", -EINVAL, { 0 } },
		{ "580.", -EINVAL, { 0 } },
		{ "580.159.", -EINVAL, { 0 } },
		{ "580.159.04.1", -EINVAL, { 0 } },
		{ "580.159.04x", -EINVAL, { 0 } },
		{ " 580.159.04", -EINVAL, { 0 } },
		{ "+580.159.04", -EINVAL, { 0 } },
		{ "580.-1", -EINVAL, { 0 } },
		{ "65536.1", -EINVAL, { 0 } },
		{ "580.99999999999999999999", -EINVAL, { 0 } },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct abi_version v = { 1, 2, 3 };
		int r = abi_version_parse(cases[i].text, &v);

		if (r != cases[i].result)
			fail_msg("\"%s\": %d, expected %d", cases[i].text, r, cases[i].result);
		if (r == 0)
			assert_memory_equal(&v, &cases[i].version, sizeof(v));
		else
			assert_true(v.major == 1 && v.minor == 2 && v.patch == 3);
	}
}

static void test_version_compare(void **state)
{
	static const char *const ascending[] = { "515.43.04", "515.43.05", "515.105.01", "535.43.08", "535.54.03",
						 "535.86.05", "535.104", "535.104.05", "580.65.06", "610.43.02" };

	for (size_t i = 0; i < COUNT(ascending); i++) {
		for (size_t j = 0; j < COUNT(ascending); j++) {
			int order = abi_version_compare(version(ascending[i]), version(ascending[j]));

			if (order != (i > j) - (i < j))
				fail_msg("%s against %s: %d", ascending[i], ascending[j], order);
		}
	}
}

static void test_supported(void **state)
{
	static const struct {
		const char *text;
		bool is_supported;
	} cases[] = {
		{ "390.157", false },	 { "510.108.03", false }, { "515.43.03", false }, { "515.43.04", true },
		{ "580.159.04", true },	 { "595.45.04", true },	  { "595.999.99", true }, { "596.1", false },
		{ "600.10.01", false },	 { "609.99", false },	  { "610.43.02", true },  { "620.6.0", true },
		{ "620.999.1", true },	 { "621.1", false },	  { "999.1.1", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct abi_layout layout, untouched;
		int r;

		memset(&layout, 0xa5, sizeof(layout));
		untouched = layout;
		r = abi_layout_find(version(cases[i].text), &layout);
		if (r != (cases[i].is_supported ? 0 : -ENOTSUP))
			fail_msg("%s: %d", cases[i].text, r);
		if (r < 0)
			assert_memory_equal(&layout, &untouched, sizeof(layout));
	}
	assert_non_null(strstr(abi_supported(), "515.43.04"));
	assert_non_null(strstr(abi_supported(), "620"));
}

/* Where our copy of a fact is: a constant, or a field of the layout. No field: the size of the structure. */
struct fact {
	const char *item;
	const char *field;
	uint32_t constant;
	uint16_t offset;	/* in struct abi_layout */
	uint16_t bytes;		/* of that field; 0: the constant counts */
};

#define FIXED(item, field, value) { item, field, value, 0, 0 }
#define MOVES(item, field, name) \
	{ item, field, 0, offsetof(struct abi_layout, name), sizeof(((struct abi_layout *)0)->name) }

static const struct fact facts[] = {
	FIXED("NV_ESC_RM_FREE", "", FREE_SIZE),
	FIXED("NV_ESC_RM_FREE", "hRoot", FREE_ROOT),
	FIXED("NV_ESC_RM_FREE", "hObjectParent", FREE_PARENT),
	FIXED("NV_ESC_RM_FREE", "hObjectOld", FREE_OBJECT),
	FIXED("NV_ESC_RM_FREE", "status", FREE_STATUS),
	FIXED("NV_ESC_RM_ALLOC short", "", ALLOC_SHORT_SIZE),
	FIXED("NV_ESC_RM_ALLOC short", "hRoot", ALLOC_ROOT),
	FIXED("NV_ESC_RM_ALLOC short", "hObjectParent", ALLOC_PARENT),
	FIXED("NV_ESC_RM_ALLOC short", "hObjectNew", ALLOC_OBJECT),
	FIXED("NV_ESC_RM_ALLOC short", "hClass", ALLOC_CLASS),
	FIXED("NV_ESC_RM_ALLOC short", "pAllocParms", ALLOC_PARAMS),
	MOVES("NV_ESC_RM_ALLOC short", "status", alloc_short_status),
	MOVES("NV_ESC_RM_ALLOC long", "", alloc_long_size),
	FIXED("NV_ESC_RM_ALLOC long", "hRoot", ALLOC_ROOT),
	FIXED("NV_ESC_RM_ALLOC long", "hObjectParent", ALLOC_PARENT),
	FIXED("NV_ESC_RM_ALLOC long", "hObjectNew", ALLOC_OBJECT),
	FIXED("NV_ESC_RM_ALLOC long", "hClass", ALLOC_CLASS),
	FIXED("NV_ESC_RM_ALLOC long", "pAllocParms", ALLOC_PARAMS),
	MOVES("NV_ESC_RM_ALLOC long", "flags", alloc_long_flags),
	MOVES("NV_ESC_RM_ALLOC long", "status", alloc_long_status),
	FIXED("NV_ESC_RM_CONTROL", "", CONTROL_SIZE),
	FIXED("NV_ESC_RM_CONTROL", "hClient", CONTROL_CLIENT),
	FIXED("NV_ESC_RM_CONTROL", "hObject", CONTROL_OBJECT),
	FIXED("NV_ESC_RM_CONTROL", "cmd", CONTROL_COMMAND),
	FIXED("NV_ESC_RM_CONTROL", "flags", CONTROL_FLAGS),
	FIXED("NV_ESC_RM_CONTROL", "params", CONTROL_PARAMS),
	FIXED("NV_ESC_RM_CONTROL", "paramsSize", CONTROL_PARAMS_SIZE),
	FIXED("NV_ESC_RM_CONTROL", "status", CONTROL_STATUS),
	FIXED("NV_ESC_RM_DUP_OBJECT", "", DUP_SIZE),
	FIXED("NV_ESC_RM_DUP_OBJECT", "hClient", DUP_CLIENT),
	FIXED("NV_ESC_RM_DUP_OBJECT", "hParent", DUP_PARENT),
	FIXED("NV_ESC_RM_DUP_OBJECT", "hObject", DUP_OBJECT),
	FIXED("NV_ESC_RM_DUP_OBJECT", "hClientSrc", DUP_CLIENT_SRC),
	FIXED("NV_ESC_RM_DUP_OBJECT", "hObjectSrc", DUP_OBJECT_SRC),
	FIXED("NV_ESC_RM_DUP_OBJECT", "flags", DUP_FLAGS),
	FIXED("NV_ESC_RM_DUP_OBJECT", "status", DUP_STATUS),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "", HEAP_SIZE),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "hRoot", HEAP_ROOT),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "hObjectParent", HEAP_PARENT),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "function", HEAP_FUNCTION),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "status", HEAP_STATUS),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "total", HEAP_TOTAL),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "free", HEAP_FREE),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "data.AllocSize.hMemory", HEAP_MEMORY),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "data.AllocSize.flags", HEAP_FLAGS),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "data.AllocSize.attr", HEAP_ATTR),
	FIXED("NV_ESC_RM_VID_HEAP_CONTROL", "data.AllocSize.size", HEAP_BYTES),
	MOVES("NV_ESC_RM_MAP_MEMORY_DMA", "", map_dma_size),
	MOVES("NV_ESC_RM_UNMAP_MEMORY_DMA", "", unmap_dma_size),
	MOVES("NV_ESC_EXPORT_TO_DMABUF_FD", "", dmabuf_size),
	MOVES("class NV01_ROOT_CLIENT", "", root_alloc_size),
	FIXED("class NV01_DEVICE_0", "", DEVICE_ALLOC_SIZE),
	FIXED("class NV01_DEVICE_0", "deviceId", DEVICE_ALLOC_DEVICE_ID),
	FIXED("class NV20_SUBDEVICE_0", "", SUBDEVICE_ALLOC_SIZE),
	FIXED("class NV20_SUBDEVICE_0", "subDeviceId", 0),
	MOVES("class NV01_MEMORY_LOCAL_USER", "", memory_alloc_size),
	FIXED("class NV01_MEMORY_LOCAL_USER", "owner", MEMORY_OWNER),
	FIXED("class NV01_MEMORY_LOCAL_USER", "type", MEMORY_TYPE),
	FIXED("class NV01_MEMORY_LOCAL_USER", "flags", MEMORY_FLAGS),
	FIXED("class NV01_MEMORY_LOCAL_USER", "attr", MEMORY_ATTR),
	FIXED("class NV01_MEMORY_LOCAL_USER", "attr2", MEMORY_ATTR2),
	FIXED("class NV01_MEMORY_LOCAL_USER", "size", MEMORY_BYTES),
	MOVES("class FERMI_VASPACE_A", "", vaspace_alloc_size),
	FIXED("class KEPLER_CHANNEL_GROUP_A", "", GROUP_ALLOC_SIZE),
	FIXED("class KEPLER_CHANNEL_GROUP_A", "engineType", GROUP_ALLOC_ENGINE),
	MOVES("class CHANNEL", "", channel_alloc_size),
	MOVES("class CHANNEL", "hUserdMemory", channel_userd_memory),
	MOVES("class CHANNEL", "userdOffset", channel_userd_offset),
	MOVES("class CHANNEL", "engineType", channel_engine),
	FIXED("FB_GET_INFO", "", FB_INFO_V1_SIZE),
	FIXED("FB_GET_INFO", "fbInfoListSize", FB_INFO_COUNT),
	FIXED("FB_GET_INFO", "fbInfoList", FB_INFO_V1_POINTER),
	MOVES("FB_GET_INFO_V2", "", fb_info_v2_size),
	FIXED("FB_GET_INFO_V2", "fbInfoListSize", FB_INFO_COUNT),
	FIXED("FB_GET_INFO_V2", "fbInfoList", FB_INFO_V2_LIST),
	FIXED("FIFO_DISABLE_CHANNELS", "", DISABLE_SIZE),
	FIXED("FIFO_DISABLE_CHANNELS", "bDisable", DISABLE_DISABLE),
	FIXED("FIFO_DISABLE_CHANNELS", "numChannels", DISABLE_COUNT),
	FIXED("FIFO_DISABLE_CHANNELS", "bOnlyDisableScheduling", DISABLE_ONLY),
	FIXED("FIFO_DISABLE_CHANNELS", "bRewindGpPut", DISABLE_REWIND),
	FIXED("FIFO_DISABLE_CHANNELS", "pRunlistPreemptEvent", DISABLE_EVENT),
	FIXED("FIFO_DISABLE_CHANNELS", "hClientList", DISABLE_CLIENTS),
	FIXED("FIFO_DISABLE_CHANNELS", "hChannelList", DISABLE_CHANNELS),
	FIXED("GPU_GET_PIDS", "", PIDS_SIZE),
	FIXED("GPU_GET_PIDS", "pidTblCount", PIDS_COUNT),
	FIXED("GPU_GET_PIDS", "pidTbl", PIDS_TABLE),
	FIXED("GPU_GET_PID_INFO", "", PID_INFO_SIZE),
	FIXED("GPU_GET_PID_INFO", "pidInfoListCount", PID_INFO_COUNT),
	FIXED("GPU_GET_PID_INFO", "pidInfoList", PID_INFO_LIST),
	FIXED("GPU_PID_INFO", "", PID_INFO_ENTRY),
	FIXED("GPU_PID_INFO", "pid", PID_INFO_PID),
	MOVES("UTIL_SAMPLES_V2", "", util_samples_size),
	MOVES("UTIL_SAMPLE", "", util_sample_size),
	MOVES("UTIL_SAMPLE", "gr.procId", util_sample_pid),
	MOVES("GPFIFO_SCHEDULE", "", gpfifo_schedule_size),
	FIXED("SET_TIMESLICE", "", 8),
	FIXED("SET_TIMESLICE", "timesliceUs", 0),
	FIXED("UVM_INITIALIZE", "", UVM_INITIALIZE_SIZE),
	FIXED("UVM_INITIALIZE", "flags", UVM_INITIALIZE_FLAGS),
	FIXED("UVM_INITIALIZE", "rmStatus", UVM_INITIALIZE_STATUS),
	MOVES("UVM_MAP_EXTERNAL_ALLOCATION", "", uvm_map_external_size),
	FIXED("UVM_MAP_EXTERNAL_ALLOCATION", "base", UVM_RANGE_BASE),
	FIXED("UVM_MAP_EXTERNAL_ALLOCATION", "length", UVM_RANGE_LENGTH),
	MOVES("UVM_MAP_EXTERNAL_ALLOCATION", "hClient", uvm_map_external_client),
	MOVES("UVM_MAP_EXTERNAL_ALLOCATION", "hMemory", uvm_map_external_memory),
	MOVES("UVM_MAP_EXTERNAL_ALLOCATION", "rmStatus", uvm_map_external_status),
	FIXED("UVM_UNMAP_EXTERNAL", "", UVM_UNMAP_EXTERNAL_SIZE),
	FIXED("UVM_UNMAP_EXTERNAL", "base", UVM_RANGE_BASE),
	FIXED("UVM_UNMAP_EXTERNAL", "length", UVM_RANGE_LENGTH),
	MOVES("UVM_FREE", "", uvm_free_size),
	FIXED("UVM_FREE", "base", UVM_RANGE_BASE),
	MOVES("UVM_FREE", "rmStatus", uvm_free_status),
	MOVES("UVM_ALLOC_SEMAPHORE_POOL", "", uvm_semaphore_pool_size),
};

static uint32_t ours(const struct fact *fact, const struct abi_layout *layout)
{
	if (!fact->bytes)
		return fact->constant;
	return fact->bytes == sizeof(uint16_t) ? get_u16(layout, fact->offset) : get_u32(layout, fact->offset);
}

/* One release: all that the driver's sources said up to here against the layout. */
static void check_release(const char *tag, const uint32_t theirs[COUNT(facts)], const bool known[COUNT(facts)])
{
	struct abi_layout layout = layout_of(tag);

	for (size_t i = 0; i < COUNT(facts); i++) {
		if (known[i] && ours(&facts[i], &layout) != theirs[i])
			fail_msg("%s: %s %s is %u, we have %u", tag, facts[i].item,
				 *facts[i].field ? facts[i].field : "size", theirs[i], ours(&facts[i], &layout));
	}
	assert_int_equal(layout.util_samples_size, 16 + layout.util_sample_size * layout.util_sample_count);
}

/* driver_tag,item,number_hex,struct_size,field,offset,field_size into the seven columns. */
static bool split(char *line, char *columns[7])
{
	size_t i = 0;

	line[strcspn(line, "\n")] = '\0';
	while (i < 7 && line)
		columns[i++] = strsep(&line, ",");
	return i == 7 && !line;
}

static void test_layouts(void **state)
{
	cleanup_file FILE *file = open_data("rm-abi.csv");
	uint32_t theirs[COUNT(facts)] = { 0 };
	bool known[COUNT(facts)] = { false };
	char line[512], tag[32] = "";
	char *column[7];
	size_t releases = 0;

	assert_non_null(fgets(line, sizeof(line), file));
	while (fgets(line, sizeof(line), file)) {
		if (!split(line, column))
			fail_msg("row after %s is broken", tag);
		if (strcmp(tag, column[0]) != 0) {
			if (*tag)
				check_release(tag, theirs, known);
			snprintf(tag, sizeof(tag), "%s", column[0]);
			releases++;
		}
		for (size_t i = 0; i < COUNT(facts); i++) {
			if (strcmp(column[1], facts[i].item) != 0 || strcmp(column[4], facts[i].field) != 0)
				continue;
			theirs[i] = (uint32_t)strtoul(column[*column[4] ? 5 : 3], NULL, 10);
			known[i] = true;
		}
	}
	check_release(tag, theirs, known);
	for (size_t i = 0; i < COUNT(facts); i++) {
		if (!known[i])
			fail_msg("no row for %s %s", facts[i].item, facts[i].field);
	}
	assert_true(releases >= 193);
}

/* Releases that are in no public repository, and the last before and first after a change. */
static void test_boundaries(void **state)
{
	static const struct {
		const char *version;
		uint16_t channel, alloc_long, memory, gpfifo, uvm_free;
		uint32_t map_external;
	} cases[] = {
		{ "515.43.04", 304, 40, 120, 2, 24, 1200 },  { "535.43.02", 304, 48, 120, 2, 24, 1200 },
		{ "535.43.08", 360, 48, 120, 2, 24, 1200 },  { "535.54.03", 304, 48, 120, 2, 24, 1200 },
		{ "535.86.04", 304, 48, 120, 2, 24, 1200 },  { "535.86.05", 360, 48, 120, 2, 24, 1200 },
		{ "545.23.06", 360, 48, 128, 2, 24, 1200 },  { "550.40.52", 360, 48, 128, 2, 24, 1200 },
		{ "550.40.53", 360, 48, 128, 2, 24, 9264 },  { "565.77", 360, 48, 128, 2, 24, 9264 },
		{ "570.86.15", 368, 48, 128, 2, 24, 9264 },  { "575.51.02", 368, 48, 128, 3, 24, 9264 },
		{ "580.159.04", 368, 48, 128, 3, 24, 9264 }, { "590.44.01", 368, 48, 128, 3, 16, 9264 },
		{ "595.99.99", 368, 48, 128, 3, 16, 9264 },  { "610.43.02", 376, 48, 128, 3, 16, 9264 },
	};
	struct abi_layout old = layout_of("595.45.04"), new = layout_of("610.43.02");

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct abi_layout l = layout_of(cases[i].version);

		if (l.channel_alloc_size != cases[i].channel || l.alloc_long_size != cases[i].alloc_long ||
		    l.memory_alloc_size != cases[i].memory || l.gpfifo_schedule_size != cases[i].gpfifo ||
		    l.uvm_free_size != cases[i].uvm_free || l.uvm_map_external_size != cases[i].map_external)
			fail_msg("%s: channel %u, alloc %u, memory %u, gpfifo %u, free %u, map %u", cases[i].version,
				 l.channel_alloc_size, l.alloc_long_size, l.memory_alloc_size, l.gpfifo_schedule_size,
				 l.uvm_free_size, l.uvm_map_external_size);
	}
	/* A handle more: the array of handles moves by 4, what is aligned to 8 after it by 8. */
	assert_int_equal(new.channel_userd_memory, old.channel_userd_memory + 4);
	assert_int_equal(new.channel_userd_offset, old.channel_userd_offset + 8);
	assert_int_equal(new.channel_engine, old.channel_engine + 8);
}

static void check_table(const char *name, const struct abi_row *rows, size_t count)
{
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++) {
		if (i && rows[i - 1].number >= rows[i].number)
			fail_msg("%s: %#x after %#x", name, rows[i].number, rows[i - 1].number);
		if (!rows[i].name || !*rows[i].name || !rows[i].source || !*rows[i].source)
			fail_msg("%s: %#x has no name or no source", name, rows[i].number);
	}
}

static void test_tables(void **state)
{
	const struct abi_row *rows;
	size_t count;

	rows = abi_classes(&count);
	check_table("classes", rows, count);
	for (size_t i = 0; i < count; i++)
		assert_ptr_equal(abi_class_find(rows[i].number), &rows[i]);
	rows = abi_controls(&count);
	check_table("controls", rows, count);
	for (size_t i = 0; i < count; i++)
		assert_ptr_equal(abi_control_find(rows[i].number), &rows[i]);
	rows = abi_uvm_calls(&count);
	check_table("uvm", rows, count);
	for (size_t i = 0; i < count; i++)
		assert_ptr_equal(abi_uvm_find(rows[i].number), &rows[i]);
	assert_null(abi_class_find(0xffff));
	assert_null(abi_control_find(0xffffffff));
	assert_null(abi_uvm_find(0));
	assert_null(abi_uvm_find(0xc020462a));
}

/* What each effect says about a row: a size where the engine reads parameters of a fixed size. */
static void test_sizes(void **state)
{
	const struct abi_row *rows;
	size_t count;

	rows = abi_classes(&count);
	for (size_t i = 0; i < count; i++) {
		switch ((int)rows[i].effect) {
		case ABI_CLASS_DEVICE:
		case ABI_CLASS_SUBDEVICE:
		case ABI_CLASS_GROUP:
		case ABI_CLASS_REFERENCE:
			assert_true(rows[i].size > 0);
			break;
		case ABI_CLASS_CHANNEL:
			assert_int_equal(rows[i].number & 0xff, 0x6f);
			assert_int_equal(rows[i].size, 0);
			break;
		case ABI_PASS:
			assert_int_not_equal(rows[i].number & 0xff, 0x6f);
			break;
		default:
			break;
		}
	}
}

static void test_calls(void **state)
{
	static const char *const versions[] = { "515.43.04", "530.41.03", "535.54.03", "550.163.01", "580.159.04",
						"610.43.02" };
	size_t count;
	const struct abi_call *calls = abi_calls(&count);

	for (size_t v = 0; v < COUNT(versions); v++) {
		struct abi_layout layout = layout_of(versions[v]);

		for (size_t i = 0; i < count; i++) {
			uint32_t size = calls[i].size_in_layout ? get_u16(&layout, calls[i].size_in_layout) :
								  calls[i].size;
			uint32_t request = abi_request(calls[i].nr, size);
			bool any = !calls[i].size && !calls[i].size_in_layout;

			assert_true(calls[i].on_ctl || calls[i].on_gpu);
			assert_ptr_equal(abi_call_find(&layout, ABI_DEV_CTL, request),
					 calls[i].on_ctl ? &calls[i] : NULL);
			assert_ptr_equal(abi_call_find(&layout, ABI_DEV_GPU, request),
					 calls[i].on_gpu ? &calls[i] : NULL);
			assert_null(abi_call_find(&layout, ABI_DEV_MODESET, request));
			assert_null(abi_call_find(&layout, ABI_DEV_UVM, request));
			assert_null(abi_call_find(&layout, ABI_DEV_NONE, request));
			/* The driver looks at neither type nor direction. */
			assert_ptr_equal(abi_call_find(&layout, ABI_DEV_CTL, request & 0x3fff00ff),
					 calls[i].on_ctl ? &calls[i] : NULL);
			if (!any)
				assert_null(abi_call_find(&layout, ABI_DEV_CTL,
							  abi_request(calls[i].nr, size + 1)));
		}
	}
}

/* Sizes of another version's structure are not taken. */
static void test_call_versions(void **state)
{
	struct abi_layout old = layout_of("530.41.03"), new = layout_of("535.54.03");
	uint32_t old_request = abi_request(NV_ESC_RM_ALLOC, 40), new_request = abi_request(NV_ESC_RM_ALLOC, 48);

	assert_non_null(abi_call_find(&old, ABI_DEV_CTL, old_request));
	assert_null(abi_call_find(&old, ABI_DEV_CTL, new_request));
	assert_null(abi_call_find(&new, ABI_DEV_CTL, old_request));
	assert_non_null(abi_call_find(&new, ABI_DEV_CTL, new_request));
}

static void test_refusals(void **state)
{
	static const uint32_t classes[] = { 0x3f, 0x42, 0x81, 0x82, 0x83, 0xb1, 0xc2, 0x208f, 0x5080 };
	static const uint32_t unknown_classes[] = { 0x50, 0x76, 0x2082, 0xc369, 0xc574, 0xc076, 0xc570 };
	static const uint32_t controls[] = { 0xb01,	 0xe00101,   0xf80103,	 0xda0001,   0x2080110a, 0x20801115,
					     0x2080111a, 0x801711,   0x801712,	 0x20800194, 0xa06c0107, 0xa06c0110,
					     0xa06f0111, 0xa06f0112, 0x2080a083, 0x2080c160, 0x2080c001, 0xffffc000,
					     0xf80106,	 0x2080111c, 0xc56f010b, 0xfd0102 };
	static const uint32_t schedule[] = { 0xa06c0101, 0xa06f0103, 0xa16f0103, 0xa26f0103,
					     0xb06f0103, 0xc06f0103, 0xc36f0103 };
	static const uint32_t allowed[] = { 0x101, 0x20801303, 0xa06c0101, 0x2080110b, 0x801714, 0x20808159,
					    0x20809064, 0x20808160, 0x12345678 };

	for (size_t i = 0; i < COUNT(classes); i++) {
		const struct abi_row *row = abi_class_find(classes[i]);

		if (!row || row->effect != ABI_REFUSE)
			fail_msg("class %#x is not refused", classes[i]);
	}
	for (size_t i = 0; i < COUNT(unknown_classes); i++)
		assert_null(abi_class_find(unknown_classes[i]));
	for (size_t i = 0; i < COUNT(controls); i++) {
		if (abi_control_is_allowed(controls[i]))
			fail_msg("control %#x is allowed", controls[i]);
	}
	for (size_t i = 0; i < COUNT(allowed); i++) {
		if (!abi_control_is_allowed(allowed[i]))
			fail_msg("control %#x is refused", allowed[i]);
	}
	/* One command a family of channels, to 550: each of them enables channels. */
	for (size_t i = 0; i < COUNT(schedule); i++)
		assert_int_equal(abi_control_find(schedule[i])->effect, ABI_SCHED_ENABLE);
	assert_int_equal(abi_uvm_find(UVM_ALLOC_DEVICE_P2P)->effect, ABI_REFUSE);
	/* The module's own tests start at 200 (uvm_test_ioctl.h). */
	for (uint32_t request = 200; request < 400; request++)
		assert_null(abi_uvm_find(request));
}

static enum abi_device device_of(const char *word)
{
	if (!strcmp(word, "ctl"))
		return ABI_DEV_CTL;
	if (!strcmp(word, "gpu"))
		return ABI_DEV_GPU;
	if (!strcmp(word, "uvm"))
		return ABI_DEV_UVM;
	fail_msg("device %s", word);
	return ABI_DEV_NONE;
}

static bool is_call_allowed(const struct abi_layout *layout, enum abi_device device, uint32_t request,
			    uint32_t what)
{
	const struct abi_call *call;
	const struct abi_row *row;

	if (device == ABI_DEV_UVM) {
		row = abi_uvm_find(request);
		return row && row->effect != ABI_REFUSE;
	}
	call = abi_call_find(layout, device, request);
	if (!call || call->effect == ABI_REFUSE)
		return false;
	if (call->effect == ABI_RM_CONTROL)
		return abi_control_is_allowed(what);
	if (call->effect != ABI_RM_ALLOC)
		return true;
	row = abi_class_find(what);
	return row && row->effect != ABI_REFUSE;
}

static void test_real_calls(void **state)
{
	cleanup_file FILE *file = open_data("real-calls.txt");
	struct abi_layout layout = layout_of("580.159.04");
	char line[256], device[16], request[16], what[16];
	size_t count = 0;

	while (fgets(line, sizeof(line), file)) {
		uint32_t number;

		if (*line == '#')
			continue;
		if (sscanf(line, "%15s %15s %15s", device, request, what) != 3)
			fail_msg("broken line: %s", line);
		number = (uint32_t)strtoul(what, NULL, 16);
		if (!is_call_allowed(&layout, device_of(device), (uint32_t)strtoul(request, NULL, 16), number))
			fail_msg("%s %s %s is refused", device, request, what);
		count++;
	}
	assert_true(count >= 141);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_parse), cmocka_unit_test(test_version_compare),
		cmocka_unit_test(test_supported),     cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_boundaries),    cmocka_unit_test(test_tables),
		cmocka_unit_test(test_sizes),	      cmocka_unit_test(test_calls),
		cmocka_unit_test(test_call_versions), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_real_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
