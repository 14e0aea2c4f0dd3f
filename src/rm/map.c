/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping what the driver has, and the doorbell among it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "rm/rm.h"

/* nv_ioctl_nvos33_parameters_with_fd (nv-unix-nvos-params-wrappers.h); mmap offset must be 0 (nv-mmap.c) */
enum {
	MAP_SIZE = 56, MAP_CLIENT = 0, MAP_DEVICE = 4, MAP_MEMORY = 8, MAP_LENGTH = 24, MAP_STATUS = 40, MAP_FLAGS = 44,
	MAP_FD = 48, MAP_READ_ONLY = 1,
};

/* clc361.h: the same place and size on all later GPUs */
enum { DOORBELL = 0x90, DOORBELL_BYTES = 65536, HANDLE_DOORBELL = 0x0f6c0000 };

int rm_map(struct rm *r, uint32_t device, uint32_t object, const char *path, uint64_t bytes, bool writable,
	   struct rm_map *ret_map)
{
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	char map[MAP_SIZE] = { 0 };
	void *at;

	if (fd < 0)
		return -errno;
	put_u32(map, MAP_CLIENT, r->client);
	put_u32(map, MAP_DEVICE, device);
	put_u32(map, MAP_MEMORY, object);
	put_u64(map, MAP_LENGTH, bytes);
	put_u32(map, MAP_FLAGS, writable ? 0 : MAP_READ_ONLY);
	put_u32(map, MAP_FD, (uint32_t)fd);
	if (ioctl(r->ctl, abi_request(NV_ESC_RM_MAP_MEMORY, MAP_SIZE), map) < 0)
		return -errno;
	if (get_u32(map, MAP_STATUS) != NV_OK)
		return (int)get_u32(map, MAP_STATUS);
	at = mmap(NULL, bytes, writable ? PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_map = (struct rm_map){ .at = at, .bytes = bytes, .fd = TAKE_FD(fd) };
	return 0;
}

void rm_unmap(struct rm_map *map)
{
	if (!map->at)
		return;
	munmap(map->at, map->bytes);
	close(map->fd);
	memset(map, 0, sizeof(*map));
}

int rm_doorbell_open(struct rm *r, uint32_t gpu)
{
	/* BLACKWELL_USERMODE_A down to VOLTA_USERMODE_A: a GPU knows one of them */
	static const uint32_t classes[] = { 0xc761, 0xc661, 0xc561, 0xc461, 0xc361 };
	uint32_t subdevice = r->gpus[gpu].subdevice_handle, handle = HANDLE_DOORBELL + gpu;
	char path[32];
	int result = -ENODEV;

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]) && result; i++)
		result = rm_alloc(r, subdevice, &handle, classes[i], NULL);
	if (result)
		return -ENODEV;
	snprintf(path, sizeof(path), "/dev/nvidia%u", r->gpus[gpu].gpu.minor);
	result = rm_map(r, subdevice, handle, path, DOORBELL_BYTES, true, &r->doorbells[gpu]);
	return result > 0 ? -EIO : result;
}

void rm_doorbell_ring(const struct rm *r, uint32_t gpu, uint32_t token)
{
	volatile uint8_t *at = r->doorbells[gpu].at;

	if (at)
		*(volatile uint32_t *)(volatile void *)(at + DOORBELL) = token;
}
