/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping what the driver has. */
#include <errno.h>
#include <fcntl.h>
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
