/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated driver's parts: what a control sees, and the table it is found by.
 *
 * sim/main.c serves /dev/nvidiactl, /dev/nvidiaN and /dev/nvidia-uvm through FUSE; sim/rm.c keeps clients, objects and
 * memory; the controls are rows of tables, one file a theme. */
#ifndef FG_SIM_SIM_H
#define FG_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "abi/calls.h"

enum { SIM_GPUS = 16 };

/* What is different between GPU models: one file a model under sim/models/, INI, read at start. */
struct sim_model {
	char id[32];			/* h200 */
	char name[64];			/* NVIDIA H200 */
	uint64_t total_bytes;		/* of the card */
	uint64_t reserved_bytes;	/* what the driver keeps for itself: total minus heap */
	uint64_t context_bytes;		/* taken from the heap by each channel group, charged to nobody */
	uint32_t pci_device_id;		/* device << 16 | vendor, as in the PCI configuration space */
	uint32_t pci_subsystem_id;
	uint32_t architecture;		/* NV2080_CTRL_MC_ARCH_INFO_ARCHITECTURE_* */
	uint32_t implementation;
	uint32_t compute_class;		/* 0xcbc0 on Hopper */
	uint32_t channel_class;		/* 0xc86f */
	uint32_t copy_class;		/* 0xc8b5 */
	uint32_t sm_count;
	uint32_t cuda_major, cuda_minor;	/* compute capability */
	uint32_t power_limit_mw;
};

struct sim_gpu {
	struct sim_model model;
	uint32_t index;			/* = minor = device instance */
	uint32_t gpu_id;
	uint32_t pci_domain, pci_bus, pci_slot;
	char uuid[48];			/* "GPU-..." */
	uint64_t used_bytes;		/* of the heap: memory, contexts */
	uint64_t peak_bytes;		/* the most there ever was, managed memory as at the looks at the state */
};

struct sim;		/* the whole driver; sim/rm.h */
struct sim_client;

/* A control being answered. */
struct sim_control_call {
	struct sim *sim;
	struct sim_client *client;
	struct sim_gpu *gpu;		/* NULL when the object hangs on no GPU */
	uint32_t object;		/* handle the control was called on */
	uint32_t object_class;
	uint32_t command;
	pid_t pid;			/* of the caller, as the simulator sees it */
	/* Copy from or to the caller's memory, for parameters that hold pointers. 0 or -EFAULT. */
	int (*read)(struct sim_control_call *call, uint64_t address, void *buffer, size_t size);
	int (*write)(struct sim_control_call *call, uint64_t address, const void *buffer, size_t size);
};

/* Answer in params (size bytes, a copy; written back when NV_OK is returned). Returns a status word. */
typedef uint32_t sim_control_fn(struct sim_control_call *call, void *params, uint32_t size);

struct sim_control {
	uint32_t command;
	uint32_t size;			/* NV_ERR_INVALID_PARAM_STRUCT unless the caller's is this; 0: any */
	sim_control_fn *answer;
	const char *name;
};

/* Per cent of the time that the GPU of a call was busy lately. */
uint32_t sim_busy_percent(struct sim_control_call *call);

/* Tables, each ending with command 0. */
extern const struct sim_control sim_memory_controls[];	/* FB info, processes: sim/control_memory.c */
extern const struct sim_control sim_system_controls[];	/* clients, GPU ids, versions: sim/control_system.c */
extern const struct sim_control sim_nvml_controls[];	/* what NVML and nvidia-smi ask besides: sim/control_nvml.c */
extern const struct sim_control sim_sched_controls[];	/* channels, timeslices, gates: sim/control_sched.c */

#endif
