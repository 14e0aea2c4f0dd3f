/* SPDX-License-Identifier: Apache-2.0 */
/* A small client of the driver for tests and attacks. */
#include "lib/test_rm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

static int libc_ioctl(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument);
}

int (*test_rm_ioctl)(int fd, unsigned long request, void *argument) = libc_ioctl;
void *(*test_rm_mmap)(void *address, size_t length, int prot, int flags, int fd, off_t offset) = mmap;

int test_rm_call(int fd, uint32_t nr, void *args, uint32_t size)
{
	return test_rm_ioctl(fd, abi_request(nr, size), args) < 0 ? -errno : 0;
}

int test_rm_version(int ctl, char text[64])
{
	uint8_t args[72] = { '2' };
	int r = test_rm_call(ctl, NV_ESC_CHECK_VERSION_STR, args, sizeof(args));

	/* before 530 the command does not ask, but a wrong string is answered with the right one */
	if (r == 0 && !args[8]) {
		args[0] = 0;
		args[8] = '?';
		r = test_rm_call(ctl, NV_ESC_CHECK_VERSION_STR, args, sizeof(args));
		r = args[8] && args[8] != '?' ? 0 : r;
	}
	if (r == 0)
		memcpy(text, args + 8, 64);
	return r;
}

int test_rm_register_fd(int fd, int ctl)
{
	uint32_t args = (uint32_t)ctl;

	return test_rm_call(fd, NV_ESC_REGISTER_FD, &args, sizeof(args));
}

int test_rm_open_files(struct test_rm *rm, uint32_t gpu)
{
	char path[32];
	struct abi_version version;
	int r;

	memset(rm, 0, sizeof(*rm));
	rm->uvm = rm->gpu = -1;
	rm->ctl = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	if (rm->ctl < 0)
		return -errno;
	r = test_rm_version(rm->ctl, rm->version_text);
	if (r < 0)
		return r;
	r = abi_version_parse(rm->version_text, &version);
	if (r == 0)
		r = abi_layout_find(version, &rm->layout);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/dev/nvidia%u", gpu);
	rm->gpu = open(path, O_RDWR | O_CLOEXEC);
	if (rm->gpu < 0)
		return -errno;
	return test_rm_register_fd(rm->gpu, rm->ctl);
}

int test_rm_open(struct test_rm *rm, uint32_t gpu)
{
	uint8_t device[DEVICE_ALLOC_SIZE] = { 0 };
	uint8_t subdevice[SUBDEVICE_ALLOC_SIZE] = { 0 };
	int r = test_rm_open_files(rm, gpu);

	if (r == 0)
		r = test_rm_client(rm, &rm->client);
	put_u32(device, DEVICE_ALLOC_DEVICE_ID, gpu);
	if (r == 0)
		r = test_rm_alloc(rm, rm->client, rm->client, &rm->device, 0x80, device);
	if (r == 0)
		r = test_rm_alloc(rm, rm->client, rm->device, &rm->subdevice, 0x2080, subdevice);
	return r;
}

void test_rm_close(struct test_rm *rm)
{
	if (rm->uvm >= 0)
		close(rm->uvm);
	if (rm->gpu >= 0)
		close(rm->gpu);
	if (rm->ctl >= 0)
		close(rm->ctl);
	rm->uvm = rm->gpu = rm->ctl = -1;
}

/* ---- objects ---- */

static int alloc(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object, uint32_t class_id,
		 void *params, uint32_t size, uint32_t status)
{
	uint8_t args[ALLOC_LONG_MAX] = { 0 };
	int r;

	put_u32(args, ALLOC_ROOT, client);
	put_u32(args, ALLOC_PARENT, parent);
	put_u32(args, ALLOC_OBJECT, *object);
	put_u32(args, ALLOC_CLASS, class_id);
	put_u64(args, ALLOC_PARAMS, (uintptr_t)params);
	r = test_rm_call(rm->ctl, NV_ESC_RM_ALLOC, args, size);
	if (r < 0)
		return r;
	if (get_u32(args, status) == NV_OK)
		*object = get_u32(args, ALLOC_OBJECT);
	return (int)get_u32(args, status);
}

int test_rm_alloc(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object, uint32_t class_id,
		  void *params)
{
	return alloc(rm, client, parent, object, class_id, params, rm->layout.alloc_long_size,
		     rm->layout.alloc_long_status);
}

int test_rm_alloc_short(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object,
			uint32_t class_id, void *params)
{
	return alloc(rm, client, parent, object, class_id, params, ALLOC_SHORT_SIZE,
		     rm->layout.alloc_short_status);
}

int test_rm_client(struct test_rm *rm, uint32_t *client)
{
	return test_rm_alloc(rm, 0, 0, client, 0x41, NULL);
}

int test_rm_free(struct test_rm *rm, uint32_t client, uint32_t object)
{
	uint8_t args[FREE_SIZE] = { 0 };
	int r;

	put_u32(args, FREE_ROOT, client);
	put_u32(args, FREE_OBJECT, object);
	r = test_rm_call(rm->ctl, NV_ESC_RM_FREE, args, sizeof(args));
	return r < 0 ? r : (int)get_u32(args, FREE_STATUS);
}

int test_rm_control(struct test_rm *rm, uint32_t client, uint32_t object, uint32_t command, void *params,
		    uint32_t size)
{
	uint8_t args[CONTROL_SIZE] = { 0 };
	int r;

	put_u32(args, CONTROL_CLIENT, client);
	put_u32(args, CONTROL_OBJECT, object);
	put_u32(args, CONTROL_COMMAND, command);
	put_u64(args, CONTROL_PARAMS, (uintptr_t)params);
	put_u32(args, CONTROL_PARAMS_SIZE, size);
	r = test_rm_call(rm->ctl, NV_ESC_RM_CONTROL, args, sizeof(args));
	return r < 0 ? r : (int)get_u32(args, CONTROL_STATUS);
}

int test_rm_dup(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object, uint32_t client_from,
		uint32_t object_from)
{
	uint8_t args[DUP_SIZE] = { 0 };
	int r;

	put_u32(args, DUP_CLIENT, client);
	put_u32(args, DUP_PARENT, parent);
	put_u32(args, DUP_OBJECT, *object);
	put_u32(args, DUP_CLIENT_SRC, client_from);
	put_u32(args, DUP_OBJECT_SRC, object_from);
	r = test_rm_call(rm->ctl, NV_ESC_RM_DUP_OBJECT, args, sizeof(args));
	if (r < 0)
		return r;
	if (get_u32(args, DUP_STATUS) == NV_OK)
		*object = get_u32(args, DUP_OBJECT);
	return (int)get_u32(args, DUP_STATUS);
}

int test_rm_share(struct test_rm *rm, uint32_t client, uint32_t object)
{
	uint8_t args[24] = { 0 };
	int r;

	put_u32(args, 0, client);
	put_u32(args, 4, object);
	put_u32(args, 12, 1); /* the right to dup */
	args[16] = 1; /* RS_SHARE_TYPE_ALL */
	r = test_rm_call(rm->ctl, NV_ESC_RM_SHARE, args, sizeof(args));
	return r < 0 ? r : (int)get_u32(args, 20);
}

/* ---- memory ---- */

int test_rm_vidmem(struct test_rm *rm, uint64_t *bytes, uint32_t *object)
{
	uint8_t params[128] = { 0 };
	uint32_t handle = object ? *object : 0;
	int r;

	put_u32(params, MEMORY_OWNER, rm->client);
	put_u64(params, MEMORY_BYTES, *bytes);
	r = test_rm_alloc(rm, rm->client, rm->device, &handle, 0x40, params);
	if (r == NV_OK) {
		*bytes = get_u64(params, MEMORY_BYTES);
		if (object)
			*object = handle;
	}
	return r;
}

int test_rm_heap_alloc(struct test_rm *rm, uint32_t function, uint64_t *bytes, uint32_t *object)
{
	uint8_t args[HEAP_SIZE] = { 0 };
	/* function 14 has its size elsewhere (NVOS32, data.AllocSizeRange.size) */
	uint32_t at = function == HEAP_FUNCTION_ALLOC_RANGE ? 80 : HEAP_BYTES;
	int r;

	put_u32(args, HEAP_ROOT, rm->client);
	put_u32(args, HEAP_PARENT, rm->device);
	put_u32(args, HEAP_FUNCTION, function);
	if (function == HEAP_FUNCTION_ALLOC_TILED) {
		put_u32(args, 56, (uint32_t)(*bytes >> 16)); /* height */
		put_u32(args, 60, 1u << 16); /* pitch */
	} else {
		put_u64(args, at, *bytes);
	}
	r = test_rm_call(rm->ctl, NV_ESC_RM_VID_HEAP_CONTROL, args, sizeof(args));
	if (r < 0)
		return r;
	if (get_u32(args, HEAP_STATUS) == NV_OK) {
		*bytes = get_u64(args, at);
		*object = get_u32(args, HEAP_MEMORY);
	}
	return (int)get_u32(args, HEAP_STATUS);
}

int test_rm_heap_free(struct test_rm *rm, uint32_t object)
{
	uint8_t args[HEAP_SIZE] = { 0 };
	int r;

	put_u32(args, HEAP_ROOT, rm->client);
	put_u32(args, HEAP_PARENT, rm->device);
	put_u32(args, HEAP_FUNCTION, HEAP_FUNCTION_FREE);
	put_u32(args, HEAP_MEMORY, object);
	r = test_rm_call(rm->ctl, NV_ESC_RM_VID_HEAP_CONTROL, args, sizeof(args));
	return r < 0 ? r : (int)get_u32(args, HEAP_STATUS);
}

int test_rm_heap_info(struct test_rm *rm, uint64_t *ret_total, uint64_t *ret_free)
{
	uint8_t args[HEAP_SIZE] = { 0 };
	int r;

	put_u32(args, HEAP_ROOT, rm->client);
	put_u32(args, HEAP_PARENT, rm->device);
	put_u32(args, HEAP_FUNCTION, HEAP_FUNCTION_INFO);
	r = test_rm_call(rm->ctl, NV_ESC_RM_VID_HEAP_CONTROL, args, sizeof(args));
	if (r < 0)
		return r;
	*ret_total = get_u64(args, HEAP_TOTAL);
	*ret_free = get_u64(args, HEAP_FREE);
	return (int)get_u32(args, HEAP_STATUS);
}

/* ---- controls ---- */

int test_rm_fb_info(struct test_rm *rm, uint32_t index, uint64_t *ret_bytes)
{
	uint8_t params[2048] = { 0 };
	int r;

	put_u32(params, FB_INFO_COUNT, 1);
	put_u32(params, FB_INFO_V2_LIST, index);
	r = test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FB_GET_INFO_V2, params,
			    rm->layout.fb_info_v2_size);
	*ret_bytes = (uint64_t)get_u32(params, FB_INFO_V2_LIST + 4) << 10;
	return r;
}

int test_rm_fb_info_v1(struct test_rm *rm, uint32_t index, uint64_t *ret_bytes)
{
	uint8_t params[FB_INFO_V1_SIZE] = { 0 };
	uint32_t list[2] = { index, 0 };
	int r;

	put_u32(params, FB_INFO_COUNT, 1);
	put_u64(params, FB_INFO_V1_POINTER, (uintptr_t)list);
	r = test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FB_GET_INFO, params,
			    sizeof(params));
	*ret_bytes = (uint64_t)list[1] << 10;
	return r;
}

int test_rm_pids(struct test_rm *rm, uint32_t class_id, uint32_t *pids, uint32_t *count)
{
	uint8_t params[PIDS_SIZE] = { 0 };
	int r;

	put_u32(params, 4, class_id);
	r = test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_GPU_GET_PIDS, params,
			    sizeof(params));
	if (r != NV_OK)
		return r;
	if (get_u32(params, PIDS_COUNT) < *count)
		*count = get_u32(params, PIDS_COUNT);
	memcpy(pids, params + PIDS_TABLE, *count * sizeof(*pids));
	return r;
}

int test_rm_pid_info(struct test_rm *rm, uint32_t pid, uint64_t ret_bytes[3])
{
	uint8_t *params = calloc(1, PID_INFO_SIZE);
	int r;

	if (!params)
		return -ENOMEM;
	put_u32(params, PID_INFO_COUNT, 1);
	put_u32(params, PID_INFO_LIST + PID_INFO_PID, pid);
	r = test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_GPU_GET_PID_INFO, params,
			    PID_INFO_SIZE);
	for (size_t i = 0; i < 3; i++)
		ret_bytes[i] = get_u64(params, PID_INFO_LIST + 16 + 8 * i);
	free(params);
	return r;
}

/* ---- channels ---- */

int test_rm_group(struct test_rm *rm, uint32_t *group)
{
	uint8_t params[GROUP_ALLOC_SIZE] = { 0 };

	put_u32(params, GROUP_ALLOC_ENGINE, 1);
	return test_rm_alloc(rm, rm->client, rm->device, group, 0xa06c, params);
}

int test_rm_channel(struct test_rm *rm, uint32_t group, uint32_t *channel, uint32_t userd_memory)
{
	uint8_t params[512] = { 0 };

	put_u32(params, rm->layout.channel_userd_memory, userd_memory);
	put_u32(params, rm->layout.channel_engine, 1);
	return test_rm_alloc(rm, rm->client, group, channel, TEST_RM_CLASS_CHANNEL, params);
}

int test_rm_schedule(struct test_rm *rm, uint32_t group, bool enable)
{
	uint8_t params[4] = { enable };

	return test_rm_control(rm, rm->client, group, NVA06C_CTRL_CMD_GPFIFO_SCHEDULE, params,
			       rm->layout.gpfifo_schedule_size);
}

int test_rm_disable(struct test_rm *rm, uint32_t client, uint32_t channel, bool disable)
{
	uint8_t params[DISABLE_SIZE] = { disable };

	put_u32(params, DISABLE_COUNT, 1);
	put_u32(params, DISABLE_CLIENTS, client);
	put_u32(params, DISABLE_CHANNELS, channel);
	return test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params,
			       sizeof(params));
}

/* ---- sharing ---- */

int test_rm_export(struct test_rm *rm, uint32_t object, int fd)
{
	uint32_t params[6] = { 1, rm->device, rm->device, object, (uint32_t)fd, 0 };

	return test_rm_control(rm, rm->client, rm->client, 0x3d05, params, sizeof(params));
}

int test_rm_import(struct test_rm *rm, int fd, uint32_t *object)
{
	uint32_t params[5] = { (uint32_t)fd, 1, rm->device, rm->device, *object };
	int r = test_rm_control(rm, rm->client, rm->client, 0x3d06, params, sizeof(params));

	if (r == NV_OK)
		*object = params[4];
	return r;
}

/* ---- UVM ---- */

int test_uvm_call(int fd, uint32_t request, void *params)
{
	return test_rm_ioctl(fd, request, params) < 0 ? -errno : 0;
}

int test_uvm_open(struct test_rm *rm)
{
	uint8_t init[UVM_INITIALIZE_SIZE] = { UVM_INIT_FLAGS_DISABLE_HMM };
	uint8_t gid[268] = { 0 };
	uint8_t gpu[40] = { 0 };
	int r;

	rm->uvm = open("/dev/nvidia-uvm", O_RDWR | O_CLOEXEC);
	if (rm->uvm < 0)
		return -errno;
	r = test_uvm_call(rm->uvm, UVM_INITIALIZE, init);
	if (r < 0 || get_u32(init, UVM_INITIALIZE_STATUS))
		return r < 0 ? r : (int)get_u32(init, UVM_INITIALIZE_STATUS);
	put_u32(gid, 4, 2); /* the UUID's bytes */
	r = test_rm_control(rm, rm->client, rm->subdevice, 0x2080014a, gid, sizeof(gid));
	if (r != NV_OK)
		return r;
	memcpy(gpu, gid + 12, 16);
	r = test_uvm_call(rm->uvm, UVM_REGISTER_GPU, gpu);
	return r < 0 ? r : (int)get_u32(gpu, 36);
}

int test_uvm_range(struct test_rm *rm, uint64_t base, uint64_t length)
{
	uint64_t params[3] = { base, length, 0 };
	int r = test_uvm_call(rm->uvm, UVM_CREATE_EXTERNAL_RANGE, params);

	return r < 0 ? r : (int)get_u32(params, 16);
}

int test_uvm_map(struct test_rm *rm, uint64_t base, uint64_t length, uint32_t client, uint32_t object)
{
	uint8_t *params = calloc(1, rm->layout.uvm_map_external_size);
	int r;

	if (!params)
		return -ENOMEM;
	put_u64(params, UVM_RANGE_BASE, base);
	put_u64(params, UVM_RANGE_LENGTH, length);
	put_u64(params, rm->layout.uvm_map_external_client - 12, 1); /* gpuAttributesCount */
	put_u32(params, rm->layout.uvm_map_external_client - 4, (uint32_t)rm->ctl);
	put_u32(params, rm->layout.uvm_map_external_client, client);
	put_u32(params, rm->layout.uvm_map_external_memory, object);
	r = test_uvm_call(rm->uvm, UVM_MAP_EXTERNAL_ALLOCATION, params);
	if (r == 0)
		r = (int)get_u32(params, rm->layout.uvm_map_external_status);
	free(params);
	return r;
}

int test_uvm_unmap(struct test_rm *rm, uint64_t base, uint64_t length)
{
	uint8_t params[UVM_UNMAP_EXTERNAL_SIZE] = { 0 };
	int r;

	put_u64(params, UVM_RANGE_BASE, base);
	put_u64(params, UVM_RANGE_LENGTH, length);
	r = test_uvm_call(rm->uvm, UVM_UNMAP_EXTERNAL, params);
	return r < 0 ? r : (int)get_u32(params, 32);
}

int test_uvm_free(struct test_rm *rm, uint64_t base, uint64_t length)
{
	uint8_t params[24] = { 0 };
	int r;

	put_u64(params, UVM_RANGE_BASE, base);
	if (rm->layout.uvm_free_size == sizeof(params))
		put_u64(params, UVM_RANGE_LENGTH, length);
	r = test_uvm_call(rm->uvm, UVM_FREE, params);
	return r < 0 ? r : (int)get_u32(params, rm->layout.uvm_free_status);
}

/* As libcuda does it: a place is found first, then taken. */
void *test_managed(struct test_rm *rm, uint64_t length)
{
	void *place = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *managed;
	int saved;

	if (place == MAP_FAILED)
		return NULL;
	managed = test_rm_mmap(place, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, rm->uvm,
			       (off_t)(uintptr_t)place);
	if (managed != MAP_FAILED)
		return managed;
	saved = errno;
	munmap(place, length);
	errno = saved;
	return NULL;
}

char *test_sim_state(void)
{
	FILE *f = fopen("/dev/fracgpu-sim-state", "re");
	size_t size = 0, room = 0;
	char *text = NULL;

	while (f && !feof(f) && !ferror(f)) {
		if (room - size < 4096) {
			char *larger = realloc(text, room + 65536);

			if (!larger)
				break;
			text = larger;
			room += 65536;
		}
		size += fread(text + size, 1, room - size - 1, f);
		text[size] = '\0';
	}
	if (f)
		fclose(f);
	return text;
}
