/* SPDX-License-Identifier: Apache-2.0 */
/* Our own client of the driver: what GPUs there are, what processes hold, and raw access for the meter and
 * the gates. Programs only (uses stdio and malloc). */
#ifndef FG_RM_RM_H
#define FG_RM_RM_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/version.h"
#include "base/error.h"
#include "ledger/ledger.h"

struct rm_gpu {
	struct ledger_gpu gpu;
	uint32_t device_handle; /* ours */
	uint32_t subdevice_handle;
	uint64_t free_bytes; /* when rm_open() looked */
	uint32_t pci_domain, pci_bus, pci_slot;
};

/* Memory of the driver's, or registers, mapped by us. */
struct rm_map {
	void *at; /* NULL: not mapped */
	uint64_t bytes;
	int fd;
};

struct rm {
	int ctl; /* /dev/nvidiactl */
	int gpu_fd[ACCOUNT_GPUS]; /* /dev/nvidiaN; -1 */
	uint32_t client;
	struct abi_version version; /* the layouts are of this version */
	char version_text[32]; /* the driver's own */
	char layout_text[32]; /* of version: differs from the driver's where the configuration says so */
	struct abi_layout layout;
	uint32_t gpu_count; /* in nvidia-smi's order: by PCI address */
	struct rm_gpu gpus[ACCOUNT_GPUS];
};

/* The driver's version: NV_ESC_CHECK_VERSION_STR, /sys/module/nvidia/version, /proc/driver/nvidia/version.
 * For a version outside the tables the root-owned /etc/fracgpu/driver.conf may say `assume_layout = VERSION`.
 *
 * ret_text     the driver's own version
 * ret_version  the one whose layouts fit: the same, or the assumed one
 *
 * Returns 0, -ENODEV (no driver), -ENOTSUP (outside the tables: the sentence names version and range), -EPERM
 * or -EINVAL (that file is not root's alone, or unreadable). */
int rm_driver_version(char ret_text[32], struct abi_version *ret_version, struct error *err);

/* Open the driver, attach every GPU whose /dev/nvidiaN can be opened (in a container only its own can), and
 * fill r. Returns 0 or negative errno with a sentence in err; r is then closed. */
int rm_open(struct rm *r, struct error *err);
void rm_close(struct rm *r);

/* One raw call each: status word of the driver (0 is NV_OK), or negative errno of the system call. */
int rm_alloc(struct rm *r, uint32_t parent, uint32_t *handle, uint32_t class_id, void *params);
int rm_free(struct rm *r, uint32_t handle);
int rm_control(struct rm *r, uint32_t object, uint32_t command, void *params, uint32_t size);

/* Map an object below device (ours, or a subdevice) through a new descriptor of path. Returns 0, -errno, or a status word. */
int rm_map(struct rm *r, uint32_t device, uint32_t object, const char *path, uint64_t bytes, bool writable,
	   struct rm_map *ret_map);
void rm_unmap(struct rm_map *map);

/* Figures of NV2080_CTRL_FB_INFO, in bytes: count indices, count results. Status word or negative errno, as
 * above. */
int rm_fb_info(struct rm *r, uint32_t gpu, uint32_t count, const uint32_t *indices, uint64_t *ret_bytes);

/* Bytes of video memory the driver books to a process on a GPU (GPU_GET_PID_INFO: private, shared owned,
 * shared duped). Returns 0 or negative errno. */
int rm_process_bytes(struct rm *r, uint32_t gpu, int32_t pid, uint64_t *ret_private, uint64_t *ret_owned,
		     uint64_t *ret_duped);

#endif
