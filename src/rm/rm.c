/* SPDX-License-Identifier: Apache-2.0 */
/* Our own client of the resource manager: raw calls, and the list of GPUs. */
#include "rm/rm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "rm/version.h"

/* nv_ioctl_card_info_t (kernel-open/common/inc/nv-ioctl.h; the same at every version); the driver fills 32 at
 * the most */
enum {
	CARD_SIZE = 72,
	CARD_MAX = 32,
	CARD_VALID = 0,
	CARD_DOMAIN = 4,
	CARD_BUS = 8,
	CARD_SLOT = 9,
	CARD_GPU_ID = 16,
	CARD_MINOR = 56,
};

/* ctrl0000gpu.h: ATTACH_IDS has gpuIds[32], failedId; GET_ID_INFO has gpuId, gpuFlags, deviceInstance, ... */
enum {
	NV0000_CTRL_CMD_GPU_ATTACH_IDS = 0x215,
	ATTACH_SIZE = 132,
	ATTACH_MAX = 32,
	ID_INFO_SIZE = 40,
	ID_INFO_GPU_ID = 0,
	ID_INFO_DEVICE = 8,
};

/* ctrl2080gpu.h: GET_NAME_STRING has flags (0: ASCII), 128 bytes of name; GET_GID_INFO has index, flags (0:
 * ASCII, SHA-1), length, data[256] */
enum {
	NV2080_CTRL_CMD_GPU_GET_NAME_STRING = 0x20800110,
	NAME_SIZE = 132,
	NAME_TEXT = 4,
	NV2080_CTRL_CMD_GPU_GET_GID_INFO = 0x2080014a,
	GID_SIZE = 268,
	GID_DATA = 12,
};

/* An element of GET_PID_INFO: pid, index (0: video memory), result; private, shared owned, shared duped */
enum { PID_INFO_RESULT = 8, PID_INFO_PRIVATE = 16, PID_INFO_OWNED = 24, PID_INFO_DUPED = 32 };

enum {
	CLASS_CLIENT = 0x41,
	CLASS_DEVICE = 0x80,
	CLASS_SUBDEVICE = 0x2080,
	HANDLE_BASE = 0x0f6a0000, /* ours; any number the driver did not give will do */
};

static int raw(int fd, uint32_t nr, uint32_t size, void *argument)
{
	int r;

	do
		r = ioctl(fd, abi_request(nr, size), argument);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int rm_alloc(struct rm *r, uint32_t parent, uint32_t *handle, uint32_t class_id, void *params)
{
	char call[ALLOC_LONG_MAX] = { 0 };
	int ret;

	put_u32(call, ALLOC_ROOT, r->client);
	put_u32(call, ALLOC_PARENT, parent);
	put_u32(call, ALLOC_OBJECT, *handle);
	put_u32(call, ALLOC_CLASS, class_id);
	put_u64(call, ALLOC_PARAMS, (uint64_t)(uintptr_t)params);
	ret = raw(r->ctl, NV_ESC_RM_ALLOC, r->layout.alloc_long_size, call);
	if (ret < 0)
		return ret;
	*handle = get_u32(call, ALLOC_OBJECT);
	return (int)get_u32(call, r->layout.alloc_long_status);
}

int rm_free(struct rm *r, uint32_t handle)
{
	char call[FREE_SIZE] = { 0 };
	int ret;

	put_u32(call, FREE_ROOT, r->client);
	put_u32(call, FREE_OBJECT, handle);
	ret = raw(r->ctl, NV_ESC_RM_FREE, FREE_SIZE, call);
	return ret < 0 ? ret : (int)get_u32(call, FREE_STATUS);
}

int rm_control(struct rm *r, uint32_t object, uint32_t command, void *params, uint32_t size)
{
	char call[CONTROL_SIZE] = { 0 };
	int ret;

	put_u32(call, CONTROL_CLIENT, r->client);
	put_u32(call, CONTROL_OBJECT, object);
	put_u32(call, CONTROL_COMMAND, command);
	put_u64(call, CONTROL_PARAMS, (uint64_t)(uintptr_t)params);
	put_u32(call, CONTROL_PARAMS_SIZE, size);
	ret = raw(r->ctl, NV_ESC_RM_CONTROL, CONTROL_SIZE, call);
	return ret < 0 ? ret : (int)get_u32(call, CONTROL_STATUS);
}

/* Turn the result of a raw call into an error for a person. */
static int explain(struct error *err, int result, const char *what, uint32_t minor)
{
	if (result < 0)
		return error_set(err, result, "%s of /dev/nvidia%u failed: %s", what, minor,
				 strerror(-result));
	return error_set(err, -EIO, "%s of /dev/nvidia%u failed: the driver says status 0x%x", what, minor,
			 (unsigned int)result);
}

int rm_fb_info(struct rm *r, uint32_t gpu, uint32_t count, const uint32_t *indices, uint64_t *ret_bytes)
{
	char params[2048] = { 0 };
	int ret;

	if (gpu >= r->gpu_count || r->layout.fb_info_v2_size > sizeof(params) ||
	    FB_INFO_V2_LIST + count * FB_INFO_ENTRY > r->layout.fb_info_v2_size)
		return -EINVAL;
	put_u32(params, FB_INFO_COUNT, count);
	for (uint32_t i = 0; i < count; i++)
		put_u32(params, FB_INFO_V2_LIST + i * FB_INFO_ENTRY, indices[i]);
	ret = rm_control(r, r->gpus[gpu].subdevice_handle, NV2080_CTRL_CMD_FB_GET_INFO_V2, params,
			 r->layout.fb_info_v2_size);
	if (ret != NV_OK)
		return ret;
	for (uint32_t i = 0; i < count; i++)
		ret_bytes[i] = (uint64_t)get_u32(params, FB_INFO_V2_LIST + i * FB_INFO_ENTRY + 4) * 1024;
	return 0;
}

int rm_process_bytes(struct rm *r, uint32_t gpu, int32_t pid, uint64_t *ret_private, uint64_t *ret_owned,
		     uint64_t *ret_duped)
{
	char params[PID_INFO_SIZE] = { 0 };
	char *entry = params + PID_INFO_LIST;
	int ret;

	if (gpu >= r->gpu_count)
		return -EINVAL;
	put_u32(params, PID_INFO_COUNT, 1);
	put_u32(entry, PID_INFO_PID, (uint32_t)pid);
	ret = rm_control(r, r->gpus[gpu].subdevice_handle, NV2080_CTRL_CMD_GPU_GET_PID_INFO, params,
			 PID_INFO_SIZE);
	if (ret < 0)
		return ret;
	if (ret != NV_OK || get_u32(entry, PID_INFO_RESULT) != NV_OK)
		return -EIO;
	*ret_private = get_u64(entry, PID_INFO_PRIVATE);
	*ret_owned = get_u64(entry, PID_INFO_OWNED);
	*ret_duped = get_u64(entry, PID_INFO_DUPED);
	return 0;
}

static void copy_text(char *to, size_t size, const char *from, size_t length)
{
	size_t n = strnlen(from, length);

	if (n >= size)
		n = size - 1;
	memcpy(to, from, n);
	to[n] = '\0';
}

/* Name, UUID and memory of a GPU whose subdevice we have. */
static int describe(struct rm *r, uint32_t index, struct error *err)
{
	static const uint32_t figures[] = { FB_INFO_INDEX_TOTAL_RAM_SIZE, FB_INFO_INDEX_HEAP_FREE };
	struct rm_gpu *gpu = &r->gpus[index];
	char name[NAME_SIZE] = { 0 }, gid[GID_SIZE] = { 0 };
	uint64_t bytes[2];
	int ret;

	ret = rm_control(r, gpu->subdevice_handle, NV2080_CTRL_CMD_GPU_GET_NAME_STRING, name, NAME_SIZE);
	if (ret == NV_OK) /* for people only: no reason to fail */
		copy_text(gpu->gpu.name, sizeof(gpu->gpu.name), name + NAME_TEXT, NAME_SIZE - NAME_TEXT);
	ret = rm_control(r, gpu->subdevice_handle, NV2080_CTRL_CMD_GPU_GET_GID_INFO, gid, GID_SIZE);
	if (ret != NV_OK)
		return explain(err, ret, "asking the UUID", gpu->gpu.minor);
	copy_text(gpu->gpu.uuid, sizeof(gpu->gpu.uuid), gid + GID_DATA, GID_SIZE - GID_DATA);
	ret = rm_fb_info(r, index, 2, figures, bytes);
	if (ret != NV_OK)
		return explain(err, ret, "asking the memory", gpu->gpu.minor);
	gpu->gpu.total_bytes = bytes[0];
	gpu->free_bytes = bytes[1];
	return 0;
}

/* Attach the GPU in r->gpus[index] (gpu_id and minor are filled) through its open file. -EPERM: it is not for
 * us, as in a slice that it does not belong to. */
static int attach(struct rm *r, uint32_t index, struct error *err)
{
	struct rm_gpu *gpu = &r->gpus[index];
	char ids[ATTACH_SIZE], info[ID_INFO_SIZE] = { 0 }, device[DEVICE_ALLOC_SIZE] = { 0 };
	char subdevice[SUBDEVICE_ALLOC_SIZE] = { 0 };
	int ctl = r->ctl;
	int ret;

	ret = raw(r->gpu_fd[index], NV_ESC_REGISTER_FD, sizeof(ctl), &ctl);
	if (ret < 0)
		return explain(err, ret, "registering", gpu->gpu.minor);
	memset(ids, 0xff, sizeof(ids));
	put_u32(ids, 0, gpu->gpu.gpu_id);
	put_u32(ids, ATTACH_MAX * 4, 0);
	ret = rm_control(r, r->client, NV0000_CTRL_CMD_GPU_ATTACH_IDS, ids, ATTACH_SIZE);
	if (ret != NV_OK)
		return explain(err, ret, "attaching", gpu->gpu.minor);
	put_u32(info, ID_INFO_GPU_ID, gpu->gpu.gpu_id);
	ret = rm_control(r, r->client, NV0000_CTRL_CMD_GPU_GET_ID_INFO, info, ID_INFO_SIZE);
	if (ret != NV_OK)
		return explain(err, ret, "asking the instance", gpu->gpu.minor);
	gpu->gpu.device = get_u32(info, ID_INFO_DEVICE);
	gpu->device_handle = HANDLE_BASE + 2 * index;
	put_u32(device, DEVICE_ALLOC_DEVICE_ID, gpu->gpu.device);
	ret = rm_alloc(r, r->client, &gpu->device_handle, CLASS_DEVICE, device);
	if (ret == NV_ERR_INSUFFICIENT_PERMISSIONS)
		return error_set(err, -EPERM, "/dev/nvidia%u is not for us", gpu->gpu.minor);
	if (ret != NV_OK)
		return explain(err, ret, "making a device", gpu->gpu.minor);
	gpu->subdevice_handle = HANDLE_BASE + 2 * index + 1;
	ret = rm_alloc(r, gpu->device_handle, &gpu->subdevice_handle, CLASS_SUBDEVICE, subdevice);
	if (ret != NV_OK)
		return explain(err, ret, "making a subdevice", gpu->gpu.minor);
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct rm_gpu *x = a, *y = b;

	if (x->pci_domain != y->pci_domain)
		return x->pci_domain < y->pci_domain ? -1 : 1;
	if (x->pci_bus != y->pci_bus)
		return x->pci_bus < y->pci_bus ? -1 : 1;
	return x->pci_slot < y->pci_slot ? -1 : x->pci_slot > y->pci_slot;
}

/* The driver's cards, by PCI address. */
static int list_cards(const struct rm *r, struct rm_gpu cards[CARD_MAX], struct error *err)
{
	char list[CARD_MAX * CARD_SIZE] = { 0 };
	int count = 0;
	int ret;

	ret = raw(r->ctl, NV_ESC_CARD_INFO, sizeof(list), list);
	if (ret < 0)
		return error_set(err, ret, "cannot list the GPUs: %s", strerror(-ret));
	for (uint32_t i = 0; i < CARD_MAX; i++) {
		const char *card = list + (size_t)i * CARD_SIZE;

		if (!card[CARD_VALID])
			continue;
		memset(&cards[count], 0, sizeof(cards[count]));
		cards[count].pci_domain = get_u32(card, CARD_DOMAIN);
		cards[count].pci_bus = (uint8_t)card[CARD_BUS];
		cards[count].pci_slot = (uint8_t)card[CARD_SLOT];
		cards[count].gpu.gpu_id = get_u32(card, CARD_GPU_ID);
		cards[count].gpu.minor = get_u32(card, CARD_MINOR);
		count++;
	}
	qsort(cards, (size_t)count, sizeof(cards[0]), by_address);
	return count;
}

/* Attach the GPUs that are for us: whose files can be opened, and that our slice, if we are in one, has. The
 * others are not there for us, as they are not for nvidia-smi: a container has the files of its own GPUs
 * only. */
static int attach_all(struct rm *r, struct error *err)
{
	struct rm_gpu cards[CARD_MAX] = { 0 };
	int failure = 0;
	int count, ret;

	count = list_cards(r, cards, err);
	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		char path[32];

		if (r->gpu_count == ACCOUNT_GPUS)
			return error_set(err, -E2BIG, "there are more than %d GPUs here", ACCOUNT_GPUS);
		snprintf(path, sizeof(path), "/dev/nvidia%u", cards[i].gpu.minor);
		r->gpu_fd[r->gpu_count] = open(path, O_RDWR | O_CLOEXEC);
		if (r->gpu_fd[r->gpu_count] < 0) {
			failure = error_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
			continue;
		}
		r->gpus[r->gpu_count] = cards[i];
		r->gpus[r->gpu_count].gpu.index = r->gpu_count;
		ret = attach(r, r->gpu_count, err);
		if (ret == -EPERM) {
			failure = ret;
			close(TAKE_FD(r->gpu_fd[r->gpu_count]));
			continue;
		}
		r->gpu_count++;
		if (ret == 0)
			ret = describe(r, r->gpu_count - 1, err);
		if (ret < 0)
			return ret;
	}
	if (r->gpu_count)
		return 0;
	return failure ? failure : error_set(err, -ENODEV, "the driver is loaded but has no GPU");
}

int rm_open(struct rm *r, struct error *err)
{
	uint32_t client = 0;
	int ret;

	memset(r, 0, sizeof(*r));
	memset(r->gpu_fd, 0xff, sizeof(r->gpu_fd));
	r->ctl = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	if (r->ctl < 0 && errno != ENOENT)
		return error_set(err, -errno, "cannot open '/dev/nvidiactl': %s", strerror(errno));
	ret = rm_version_find(r->ctl, r->version_text, err);
	if (ret < 0)
		goto fail;
	ret = rm_layout_choose(r->version_text, RM_DRIVER_CONF, &r->version, r->layout_text, &r->layout, err);
	if (ret < 0)
		goto fail;
	if (r->ctl < 0) {
		ret = error_set(err, -ENODEV,
				"driver %s is loaded but '/dev/nvidiactl' does not exist "
				"(run nvidia-modprobe, or give the container its devices)",
				r->version_text);
		goto fail;
	}
	ret = rm_alloc(r, 0, &client, CLASS_CLIENT, NULL);
	if (ret != NV_OK) {
		ret = ret < 0 ? error_set(err, ret, "cannot make a client of the driver: %s", strerror(-ret))
			      : error_set(err, -EIO, "cannot make a client of the driver: status 0x%x",
					  (unsigned int)ret);
		goto fail;
	}
	r->client = client;
	ret = attach_all(r, err);
	if (ret == 0)
		return 0;
fail:
	rm_close(r);
	return ret;
}

void rm_close(struct rm *r)
{
	/* The driver frees all of a client's objects when its file is closed for the last time. A GPU's file
	 * keeps the control file it was registered with, so those go first. */
	for (uint32_t i = 0; i < ACCOUNT_GPUS; i++) {
		if (r->gpu_fd[i] >= 0)
			close(r->gpu_fd[i]);
		r->gpu_fd[i] = -1;
	}
	if (r->ctl >= 0)
		close(r->ctl);
	r->ctl = -1;
	r->gpu_count = 0;
}
