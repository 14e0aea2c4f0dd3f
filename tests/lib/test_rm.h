/* SPDX-License-Identifier: Apache-2.0 */
/* A small client of the driver for tests and attacks: raw calls, no more than libc, linkable statically and
 * with musl.
 *
 * Calls return the driver's status word (0: NV_OK), or negative errno where the system call itself failed. */
#ifndef FG_TEST_RM_H
#define FG_TEST_RM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "abi/calls.h"

enum { TEST_RM_CLASS_CHANNEL = 0xc86f, TEST_RM_CLASS_COMPUTE = 0xcbc0 };

struct test_rm {
	int ctl; /* /dev/nvidiactl */
	int gpu; /* /dev/nvidiaN, registered to ctl */
	int uvm; /* /dev/nvidia-uvm, -1 before test_uvm_open() */
	char version_text[64];
	struct abi_layout layout;
	uint32_t client, device, subdevice;
};

/* How calls are made: libc's ioctl() and mmap(), unless a test puts another way in their place. -1 and errno.
 */
extern int (*test_rm_ioctl)(int fd, unsigned long request, void *argument);
extern void *(*test_rm_mmap)(void *address, size_t length, int prot, int flags, int fd, off_t offset);

/* Open the driver and make a client, a device and a subdevice on a GPU. 0, a status, or negative errno. */
int test_rm_open(struct test_rm *rm, uint32_t gpu);
/* The files and the layout only: no client yet. */
int test_rm_open_files(struct test_rm *rm, uint32_t gpu);
/* Close the files: the driver frees what hangs on them. */
void test_rm_close(struct test_rm *rm);

/* The driver's version by CHECK_VERSION_STR, on any control file. */
int test_rm_version(int ctl, char text[64]);

/* One raw ioctl: _IOWR('F', nr, size). 0 or negative errno. */
int test_rm_call(int fd, uint32_t nr, void *args, uint32_t size);

/* Handles of 0 are chosen by the driver and read back. */
int test_rm_client(struct test_rm *rm, uint32_t *client);
int test_rm_alloc(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object, uint32_t class_id,
		  void *params);
int test_rm_alloc_short(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object,
			uint32_t class_id, void *params); /* the 32-byte form */
int test_rm_free(struct test_rm *rm, uint32_t client, uint32_t object);
int test_rm_control(struct test_rm *rm, uint32_t client, uint32_t object, uint32_t command, void *params,
		    uint32_t size);
int test_rm_dup(struct test_rm *rm, uint32_t client, uint32_t parent, uint32_t *object, uint32_t client_from,
		uint32_t object_from);
int test_rm_share(struct test_rm *rm, uint32_t client, uint32_t object); /* with everybody, to dup */
int test_rm_register_fd(int fd, int ctl);

/* Video memory below the device. *bytes is what the driver made of it; NULL object: nobody needs to know. */
int test_rm_vidmem(struct test_rm *rm, uint64_t *bytes, uint32_t *object);
/* The same through VID_HEAP_CONTROL (function 2, 6, 14). */
int test_rm_heap_alloc(struct test_rm *rm, uint32_t function, uint64_t *bytes, uint32_t *object);
int test_rm_heap_free(struct test_rm *rm, uint32_t object);
int test_rm_heap_info(struct test_rm *rm, uint64_t *ret_total, uint64_t *ret_free);

/* FB_GET_INFO_V2 and FB_GET_INFO, one index (FB_INFO_INDEX_*), in bytes. */
int test_rm_fb_info(struct test_rm *rm, uint32_t index, uint64_t *ret_bytes);
int test_rm_fb_info_v1(struct test_rm *rm, uint32_t index, uint64_t *ret_bytes);

/* Processes with an object of a class; count in: room, out: how many. */
int test_rm_pids(struct test_rm *rm, uint32_t class_id, uint32_t *pids, uint32_t *count);
/* private, shared owned, shared duped bytes of a process. */
int test_rm_pid_info(struct test_rm *rm, uint32_t pid, uint64_t ret_bytes[3]);

/* A channel group with one channel; GPFIFO_SCHEDULE; FIFO_DISABLE_CHANNELS of one channel of any client. */
int test_rm_group(struct test_rm *rm, uint32_t *group);
int test_rm_channel(struct test_rm *rm, uint32_t group, uint32_t *channel, uint32_t userd_memory);
int test_rm_schedule(struct test_rm *rm, uint32_t group, bool enable);
int test_rm_disable(struct test_rm *rm, uint32_t client, uint32_t channel, bool disable);

/* Memory to a control file, and from it. */
int test_rm_export(struct test_rm *rm, uint32_t object, int fd);
int test_rm_import(struct test_rm *rm, int fd, uint32_t *object);

/* UVM: open and initialize with HMM off, register the GPU. */
int test_uvm_open(struct test_rm *rm);
int test_uvm_call(int fd, uint32_t request, void *params); /* raw; negative errno */
int test_uvm_range(struct test_rm *rm, uint64_t base, uint64_t length);
int test_uvm_map(struct test_rm *rm, uint64_t base, uint64_t length, uint32_t client, uint32_t object);
int test_uvm_unmap(struct test_rm *rm, uint64_t base, uint64_t length);
int test_uvm_free(struct test_rm *rm, uint64_t base, uint64_t length);
/* Managed memory: a shared mapping of the UVM file at the offset that is its address. NULL with errno set. */
void *test_managed(struct test_rm *rm, uint64_t length);

/* The simulator's state file as text, to be freed; NULL without simulator. */
char *test_sim_state(void);

#endif
