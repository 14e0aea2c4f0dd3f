/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter of a supervised program: which system calls its supervisor is asked about.
 *
 * A filter sees numbers and register values, never what a descriptor is. So it asks about every call that could be
 * one to the driver, whatever file it is made on, and the supervisor lets the others go on. What the driver looks
 * at decides, nothing else:
 *  - RM calls: the NR and size bits of the request (kernel-open/nvidia/nv.c, nvidia_ioctl; type and direction bits
 *    are never checked). Asked for: any size but 0, NR 0x20-0x5f and 0xc0-0xff: all numbers of nv_escape.h and
 *    nv-ioctl-numbers.h and the unused ones between them. The driver answers EINVAL to every other number, and to
 *    size 0, which is where the terminal's and framebuffer's old numbers are (TCGETS 0x5401, FBIOGET_* 0x46xx).
 *  - UVM: the whole request (kernel-open/nvidia-uvm/uvm.c). Asked for: anything below 0x1000, 0x3000000x.
 *  - modesetting: NR 0, size 16 (kernel-open/nvidia-modeset/nvidia-modeset-linux.c, nvkms_ioctl).
 *  - mmap with MAP_SHARED and without MAP_ANONYMOUS: may be managed memory.
 * Of these it lets pass what would pass whatever its file and arguments are: those are in the driver's tables.
 * In every way a program has to make them: native, x32 numbers with and without their bit, int 0x80.
 *
 * Made by hand, not with libseccomp: "size is not 0" and "NR in a range" cannot be said in its rules, x32 callers of
 * native numbers are not covered, and 2.5 cannot load with the wait-killable flag. */
#ifndef FG_SUPERVISOR_FILTER_H
#define FG_SUPERVISOR_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

enum { FILTER_ROWS = 40, FILTER_MAX = 51 + FILTER_ROWS + 2 };

struct filter {
	unsigned short length;
	struct sock_filter code[FILTER_MAX];
};

/* Make the program that lets go on what the engine would (engine_passes()); e NULL: nothing of that. */
void filter_make(struct filter *f, const struct engine *e);

/* Load a filter into the calling thread (alone in its process) and return the listener, close-on-exec. Sets
 * no_new_privs unless the caller has CAP_SYS_ADMIN. Only system calls: may run between fork and exec.
 *
 * Returns the descriptor; -EBUSY when a filter with a listener is there already; -EACCES, -ENOSYS, -EINVAL when this
 * kernel or the container around us does not allow it. */
int filter_load(const struct filter *f);

/* Whether this kernel takes the flag with which only SIGKILL ends the wait for an answer (Linux 5.19). */
bool filter_waits_killable(void);

/* A system call as the filter reports it, in words that do not depend on the way it was made. */
enum filter_call { FILTER_OTHER, FILTER_IOCTL, FILTER_MMAP };

struct filter_args {
	enum filter_call call;
	int fd;
	uint32_t request;	/* ioctl */
	uint64_t argument;
	uint64_t address, length, offset;	/* mmap; offset in bytes */
	int flags;
};

struct seccomp_data;

/* Read a notification's registers. */
void filter_decode(const struct seccomp_data *data, struct filter_args *ret_args);

#endif
