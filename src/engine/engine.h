/* SPDX-License-Identifier: Apache-2.0 */
/* One entry from a raw call to its verdict: decode (abi), decide (policy), book (ledger), run, settle, answer.
 * Knows no front door: a door is a struct port. No allocation; reentrant; a
 * call uses up to 12 KiB of stack, 64 KiB where port->original is NULL. */
#ifndef FG_ENGINE_ENGINE_H
#define FG_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/calls.h"
#include "ledger/ledger.h"

struct engine {
	struct abi_layout layout;
	struct ledger_handle *ledger;	/* owned by the door */
	bool show_host;			/* --view host: answers are not rewritten */
};

/* A call as a door saw it. */
struct call {
	enum abi_device device;
	uint32_t minor;		/* of /dev/nvidiaN */
	uint32_t request;	/* low 32 bits: all that the driver looks at */
	uint64_t argument;	/* address in the caller */
	uint16_t owner;		/* ledger slot of the calling process */
	uint32_t file;		/* on nvidia-uvm: two calls of an owner with one number are on one open file; 0: not known */
};

/* What a door gives the engine. All return 0 or a positive value, or negative errno. */
struct port {
	/* Copy from or to the caller's memory. -EFAULT when it cannot be reached. */
	int (*read)(struct port *port, uint64_t address, void *buffer, size_t size);
	int (*write)(struct port *port, uint64_t address, const void *buffer, size_t size);

	/* Make a system call on the caller's open file, with an argument in OUR memory: ioctl(file, request, argument).
	 * Returns what the driver returned. */
	int (*real)(struct port *port, uint32_t request, void *argument);

	/* Make the caller's own call, unchanged, in the caller. NULL where that is not possible from here: the engine then
	 * answers ENGINE_CONTINUE. */
	int (*original)(struct port *port);

	/* A descriptor of the caller as a descriptor of ours, for arguments that name one; and its end. NULL: such calls
	 * go on in the caller. */
	int (*borrow)(struct port *port, int fd);
	void (*give_back)(struct port *port, int fd);

	/* As real(), on a descriptor from borrow(). NULL where real() is made by the caller itself, in its own process. */
	int (*real_on)(struct port *port, int fd, uint32_t request, void *argument);

	/* Whether a pid, as the driver's answers to this call name it, is a process of the slice. May be NULL: nobody. */
	bool (*is_ours)(struct port *port, uint32_t pid);

	/* A limit was met: look for memory that is gone already (dead processes, unmapped managed memory) and drop it.
	 * Called without the ledger's lock. Returns true when something was dropped. May be NULL. */
	bool (*reclaim)(struct port *port);
};

enum engine_verdict {
	ENGINE_ANSWER,		/* *ret_value is what the system call returns: >= 0, or negative errno */
	ENGINE_CONTINUE,	/* let the caller's own call run, unchanged */
};

/* Judge one ioctl. */
enum engine_verdict engine_ioctl(struct engine *e, struct port *port, const struct call *call, int *ret_value);

/* Whether a request goes on in the caller on whatever file and whatever its arguments are: it has no other verdict, and on a
 * file that it is not for the driver itself refuses it. A control that goes on on whatever file, by its argument. Doors that
 * ask need not look at the rest. */
bool engine_passes(const struct engine *e, uint32_t request);
bool engine_passes_control(const uint8_t argument[CONTROL_SIZE]);

/* Judge an mmap before it happens. Managed memory is an mmap of the UVM file that is MAP_SHARED with offset == address
 * (kernel-open/nvidia-uvm/uvm.c, uvm_mmap); everything else passes.
 *
 * fixed  the caller asked for MAP_FIXED or MAP_FIXED_NOREPLACE, or address is where it must be (offset == address)
 *
 * Returns 0 to go on (managed memory is booked then, at address), -ENOMEM when the limit does not allow it. When the
 * mmap then fails, call engine_unmapped(). */
int engine_mmap(struct engine *e, struct port *port, const struct call *call, uint64_t address, uint64_t length,
		int flags, uint64_t offset);

/* A range of the owner's addresses was unmapped (or mapped over): give back managed memory in it. */
void engine_unmapped(struct engine *e, uint16_t owner, uint64_t address, uint64_t length);

/* Whether the owner has managed memory at all: doors ask before they watch munmap. Cheap, may lag. */
bool engine_has_managed(struct engine *e, uint16_t owner);

/* Set up: choose the layout by the driver's version string. Returns 0 or -ENOTSUP / -EINVAL. */
int engine_init(struct engine *e, const char *driver_version, struct ledger_handle *ledger);

#endif
