/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated resource manager: open files, clients, objects, memory.
 *
 * One lock guards all of it. sim_lock() first forgets the files whose last close has been seen, so that a call made
 * after a close() (or after a wait() for a dead process) always finds the memory given back, as on a GPU.
 * Nothing that can wait for another call into the file system is done under the lock, but reading /proc. */
#ifndef FG_SIM_RM_H
#define FG_SIM_RM_H

#include <pthread.h>

#include <uthash.h>

#include "sim/sim.h"

enum {
	NV_ERR_INSERT_DUPLICATE_NAME = 0x19,
	NV_ERR_INVALID_ADDRESS = 0x1e,
	NV_ERR_INVALID_CHANNEL = 0x21,
	NV_ERR_INVALID_DEVICE = 0x26,
	NV_ERR_ILLEGAL_ACTION = 0x16,
	SIM_CHANNEL_DEPENDS = 2,
	SIM_FD_EXPORTS = 512,	/* objects one file can hold for others */
};

/* Bytes of video memory that exist once and are named by objects, UVM mappings and exports. */
struct sim_memory {
	uint32_t refs;		/* the driver's DupCount: 1 is private */
	uint64_t bytes;
	struct sim_gpu *gpu;
};

struct sim_object {
	UT_hash_handle hh;		/* of the client, by handle */
	uint32_t handle;
	uint32_t class_id;
	struct sim_client *client;
	struct sim_object *parent;	/* NULL: the client itself */
	struct sim_gpu *gpu;		/* NULL: hangs on no GPU */
	struct sim_memory *memory;	/* video memory; NULL for anything else */
	bool owns_memory;		/* made it, and is not a dup of it */
	bool shared_with_all, shared_with_user;	/* RM_SHARE: with everybody, with the same user */
	uint32_t shared_with_client;	/* RM_SHARE; 0: none */
	/* channel groups */
	bool is_group;
	uint64_t context_bytes;		/* hidden: taken from the heap, charged to nobody */
	uint64_t timeslice_us;
	/* channels */
	bool is_channel;
	bool enabled;			/* FIFO_DISABLE_CHANNELS left it on */
	uint32_t disabled;		/* how often: it must be enabled as often (found on an H200) */
	bool scheduled;			/* GPFIFO_SCHEDULE put it on the runlist */
	uint64_t on_since_ns, on_ns;	/* how long it could run: for tests of caps */
	uint32_t depends[SIM_CHANNEL_DEPENDS];	/* handles it cannot live without: USERD memory, VA space */
};

struct sim_client {
	UT_hash_handle hh;		/* of the sim, by handle */
	uint32_t handle;
	pid_t pid;			/* thread group of who allocated it: ProcID */
	struct sim_file *file;		/* the open file it belongs to: pOSInfo */
	struct sim_object *objects;
	uint32_t next_object;		/* for objects whose handle the driver chooses */
	bool shared_with_all, shared_with_user;	/* RM_SHARE on the client */
};

struct sim_range {			/* an external range of a UVM file, or a mapping in one */
	struct sim_range *prev, *next;
	uint64_t base, length;
	struct sim_memory *memory;	/* mappings: what is held */
};

struct sim_export {
	struct sim_memory *memory;	/* NULL: not memory */
	uint32_t class_id;
	struct sim_gpu *gpu;
	bool used;
};

/* An open file description of one of our device files. */
struct sim_file {
	struct sim_file *prev, *next;	/* of the sim's files */
	struct sim_file *next_closed;	/* of those closed and not yet forgotten */
	enum abi_device device;
	uint32_t minor;
	uint32_t serial;
	uint32_t refs;			/* 1 while open, 1 for each file REGISTER_FDed to it */
	struct sim_file *ctl;		/* REGISTER_FD; NULL: none */
	struct sim_export *exports;	/* SIM_FD_EXPORTS of them, or NULL */
	uint32_t export_device;
	/* nvidia-uvm */
	bool initialized;		/* UVM_INITIALIZE was called */
	uint64_t uvm_flags;
	pid_t pid;			/* whose address space it is */
	uint64_t pid_start;		/* that process, and not a later one with its number */
	struct sim_gpu *gpu;		/* the first registered: its managed memory counts here */
	uint64_t managed_bytes;		/* when last looked */
	struct sim_range *ranges, *mappings, *pools;
};

struct sim {
	char version_text[32];
	struct abi_version version;
	struct abi_layout layout;
	uint32_t gpu_count;
	struct sim_gpu gpus[SIM_GPUS];
	uint64_t uvm_inode;		/* of nvidia-uvm, to know its mappings in /proc/PID/maps */

	pthread_mutex_t lock;
	struct sim_client *clients;
	uint32_t next_client;
	uint64_t next_map_offset;

	pthread_mutex_t files_lock;	/* of the two lists alone; held for a few instructions, never around a wait */
	struct sim_file *files, *closed;
	uint32_t next_serial;
};

/* One ioctl. */
struct sim_caller {
	struct sim *sim;
	struct sim_file *file;
	pid_t tid;			/* the thread that called */
	struct sim_file *named;		/* file that a descriptor inside the arguments names, or NULL */
};

void sim_init(struct sim *sim);
void sim_lock(struct sim *sim);
void sim_unlock(struct sim *sim);

/* A file was opened or closed for the last time. These two never wait. */
struct sim_file *sim_file_new(struct sim *sim, enum abi_device device, uint32_t minor);
void sim_file_closed(struct sim *sim, struct sim_file *file);
void sim_file_unref(struct sim *sim, struct sim_file *file);

/* serve.c: the open file behind a descriptor of the caller's. Called without the lock; 0 when it is none of ours. */
uint32_t sim_file_serial(struct sim *sim, pid_t tid, int fd);

/* The file's effective control file: whose clients may be used through it. */
static inline struct sim_file *sim_file_ctl(struct sim_file *file)
{
	return file->ctl ? file->ctl : file;
}

/* Lookups. NULL when there is none. */
struct sim_client *sim_client_any(struct sim *sim, uint32_t handle);
struct sim_client *sim_client_find(struct sim_caller *caller, uint32_t handle);	/* of the caller's file only */
struct sim_object *sim_object_find(struct sim_client *client, uint32_t handle);
struct sim_gpu *sim_gpu_by_id(struct sim *sim, uint32_t gpu_id);

/* Memory of a GPU. sim_gpu_free() looks for managed memory first. */
uint64_t sim_gpu_heap(const struct sim_gpu *gpu);
uint64_t sim_gpu_free(struct sim *sim, struct sim_gpu *gpu);
struct sim_memory *sim_memory_new(struct sim_gpu *gpu, uint64_t bytes);	/* NULL: the card is full */
void sim_memory_unref(struct sim_memory *memory);
uint64_t sim_memory_round(uint64_t bytes);

/* The driver's operations; each returns a status word. params is the caller's copy, size_t its length. */
uint32_t sim_rm_alloc(struct sim_caller *caller, uint32_t client, uint32_t parent, uint32_t *object, uint32_t class_id,
		      uint8_t *params, size_t size);
uint32_t sim_rm_free(struct sim_caller *caller, uint32_t client, uint32_t object);
uint32_t sim_rm_dup(struct sim_caller *caller, uint32_t client, uint32_t parent, uint32_t *object, uint32_t client_from,
		    uint32_t object_from);
uint32_t sim_rm_share(struct sim_caller *caller, const uint8_t *args);

/* Whether UVM may take an object for a caller: it does so with a client of the kernel's, which has the rights of the
 * process that calls. */
bool sim_may_take(const struct sim_object *object, const struct sim_caller *caller);
void sim_client_free(struct sim *sim, struct sim_client *client);
/* A new object below parent (NULL: the client). *handle 0: chosen. NULL with *ret_status set. */
struct sim_object *sim_object_new(struct sim_client *client, struct sim_object *parent, uint32_t *handle,
				  uint32_t class_id, uint32_t *ret_status);
uint32_t sim_vid_heap(struct sim_caller *caller, uint8_t *args);
void sim_channel_set(struct sim_object *channel, bool enabled, bool scheduled);
uint64_t sim_now_ns(void);

/* Exports: share.c. */
uint32_t sim_export_control(struct sim_caller *caller, struct sim_client *client, uint32_t command, uint8_t *params);
int sim_export_fd(uint32_t command, const uint8_t *params);	/* the descriptor named, or -1 */
void sim_exports_drop(struct sim_file *file);

/* A whole ioctl, with the caller's own argument address: escape.c and uvm.c. What ioctl() returns. */
int sim_ioctl(struct sim_caller *caller, uint32_t request, uint64_t argument);
int sim_uvm_ioctl(struct sim_caller *caller, uint32_t request, uint64_t argument);
void sim_uvm_drop(struct sim_file *file);
/* Bytes of managed memory, all processes, on a GPU; refreshes the files' managed_bytes. */
uint64_t sim_managed(struct sim *sim, struct sim_gpu *gpu);

/* The caller: proc.c. */
pid_t sim_tgid(pid_t tid);
uid_t sim_uid_of(pid_t pid);	/* effective; -1: gone */
uint64_t sim_start_time(pid_t pid);
bool sim_is_admin(pid_t tid);
int sim_read(pid_t tid, uint64_t address, void *buffer, size_t size);
int sim_write(pid_t tid, uint64_t address, const void *buffer, size_t size);
uint64_t sim_mapped_bytes(pid_t pid, uint64_t inode);	/* shared mappings at offset == address */

/* The state as JSON, to be freed by the caller. NULL without memory. */
char *sim_state(struct sim *sim);

/* Models: model.c. */
int sim_model_find(const char *id, struct sim_model *ret_model);	/* 0, -ENOENT, -EINVAL: a broken file */
void sim_uuid_bytes(const char *text, uint8_t bytes[16]);		/* of "GPU-..." */
const char *sim_model_id(unsigned int index);				/* NULL past the last */

#endif
