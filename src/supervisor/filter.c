/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter of a supervised program, and the reading of what it reports. */
#include "supervisor/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2) /* Linux 4.17 */
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

/* Numbers of the calls in each way to make them. */
#if defined(__x86_64__)
#define ARCH_NATIVE AUDIT_ARCH_X86_64
#define ARCH_COMPAT AUDIT_ARCH_I386
enum {
	NATIVE_IOCTL = 16,
	NATIVE_IOCTL_X32 = 514, /* works without the x32 bit too before Linux 5.7 */
	NATIVE_MMAP = 9,
	NATIVE_BITS = 0x40000000, /* __X32_SYSCALL_BIT: the same calls behind it */
	COMPAT_IOCTL = 54,
	COMPAT_MMAP = 192, /* mmap2, offset in pages */
	COMPAT_OLD_MMAP = 90, /* its arguments are in memory: cannot be judged, nobody needs it */
};
#elif defined(__aarch64__)
#define ARCH_NATIVE AUDIT_ARCH_AARCH64
#define ARCH_COMPAT AUDIT_ARCH_ARM
enum {
	NATIVE_IOCTL = 29,
	NATIVE_IOCTL_X32 = 29,
	NATIVE_MMAP = 222,
	NATIVE_BITS = 0,
	COMPAT_IOCTL = 54,
	COMPAT_MMAP = 192,
	COMPAT_OLD_MMAP = 90,
};
#else
#error "no system call numbers for this machine"
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_WORD 0
#else
#define LOW_WORD 4
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]) + LOW_WORD)
#define AND(k) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (k))
#define RETURN(k) BPF_STMT(BPF_RET | BPF_K, (k))
#define WORD(k) BPF_STMT(BPF_LD | BPF_IMM, (k))
/* Jumps are counted from the next instruction: to a place by its index in the program below. */
#define IF(op, k, here, yes) BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (yes) - (here) - 1, 0)
#define GO(here, there) BPF_STMT(BPF_JMP | BPF_JA, (there) - (here) - 1)

/* Where the parts of the program start. */
enum { AT_COMPAT = 4, AT_NATIVE = 9, AT_IOCTL = 15, AT_WORD0 = 25, AT_WORD1 = 27, AT_WORD2 = 29, AT_SHIFT, AT_SIZED = 33,
       AT_MMAP = 43, AT_ALLOW = 46, AT_ASK, AT_NONE, AT_ROWS };

/* The words have a bit for each UVM request below UVM_END: set, it passes. At the end follow the RM requests that pass. */
enum { WORD_BITS = 32, UVM_END = 3 * WORD_BITS, RM_BITS = 0x3fff00ff };

static const struct sock_filter program[] = {
	/*  0 */ LOAD(arch),
	/*  1 */ IF(BPF_JEQ, ARCH_NATIVE, 1, AT_NATIVE),
	/*  2 */ IF(BPF_JEQ, ARCH_COMPAT, 2, AT_COMPAT),
	/*  3 */ RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	/*  4 */ LOAD(nr),
	/*  5 */ IF(BPF_JEQ, COMPAT_IOCTL, 5, AT_IOCTL),
	/*  6 */ IF(BPF_JEQ, COMPAT_MMAP, 6, AT_MMAP),
	/*  7 */ IF(BPF_JEQ, COMPAT_OLD_MMAP, 7, AT_NONE),
	/*  8 */ RETURN(SECCOMP_RET_ALLOW),
	/*  9 */ LOAD(nr),
	/* 10 */ AND(~(uint32_t)NATIVE_BITS),
	/* 11 */ IF(BPF_JEQ, NATIVE_IOCTL, 11, AT_IOCTL),
	/* 12 */ IF(BPF_JEQ, NATIVE_IOCTL_X32, 12, AT_IOCTL),
	/* 13 */ IF(BPF_JEQ, NATIVE_MMAP, 13, AT_MMAP),
	/* 14 */ RETURN(SECCOMP_RET_ALLOW),
	/* 15: ioctl without a size */
	/* 15 */ LOAD_ARG(1),
	/* 16 */ IF(BPF_JSET, 0x3fff0000, 16, AT_SIZED),
	/* 17 */ IF(BPF_JGE, 0x1000, 17, AT_ALLOW),
	/* 18 */ IF(BPF_JGE, UVM_END, 18, AT_ASK),
	/* 19 */ AND(WORD_BITS - 1),
	/* 20 */ BPF_STMT(BPF_MISC | BPF_TAX, 0),
	/* 21 */ LOAD_ARG(1),
	/* 22 */ AND(~(uint32_t)(WORD_BITS - 1)),
	/* 23 */ IF(BPF_JEQ, 2 * WORD_BITS, 23, AT_WORD2),
	/* 24 */ IF(BPF_JEQ, WORD_BITS, 24, AT_WORD1),
	/* 25 */ WORD(0),
	/* 26 */ GO(26, AT_SHIFT),
	/* 27 */ WORD(0),
	/* 28 */ GO(28, AT_SHIFT),
	/* 29 */ WORD(0),
	/* 30 */ BPF_STMT(BPF_ALU | BPF_RSH | BPF_X, 0),
	/* 31 */ IF(BPF_JSET, 1, 31, AT_ALLOW),
	/* 32 */ RETURN(SECCOMP_RET_USER_NOTIF),
	/* 33: with one */
	/* 33 */ AND(0xfffffff0),
	/* 34 */ IF(BPF_JEQ, 0x30000000, 34, AT_ASK),
	/* 35 */ LOAD_ARG(1),
	/* 36 */ AND(RM_BITS),
	/* 37 */ IF(BPF_JEQ, 0x00100000, 37, AT_ASK),
	/* 38 */ AND(0xff),
	/* 39 */ IF(BPF_JGE, 0xc0, 39, AT_ROWS),
	/* 40 */ IF(BPF_JGE, 0x60, 40, AT_ALLOW),
	/* 41 */ IF(BPF_JGE, 0x20, 41, AT_ROWS),
	/* 42 */ RETURN(SECCOMP_RET_ALLOW),
	/* 43: mmap */
	/* 43 */ LOAD_ARG(3),
	/* 44 */ AND(MAP_SHARED | MAP_ANONYMOUS),
	/* 45 */ IF(BPF_JEQ, MAP_SHARED, 45, AT_ASK),
	/* 46 */ RETURN(SECCOMP_RET_ALLOW),
	/* 47 */ RETURN(SECCOMP_RET_USER_NOTIF),
	/* 48 */ RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	/* 49: a number of the resource manager's */
	/* 49 */ LOAD_ARG(1),
	/* 50 */ AND(RM_BITS),
};

enum { FIXED = sizeof(program) / sizeof(program[0]) };

_Static_assert(FIXED == AT_ROWS + 2, "the places are those of the program");

/* The UVM requests from first on that pass. */
static uint32_t passing_word(const struct engine *e, uint32_t first)
{
	uint32_t word = 0;

	for (uint32_t bit = 0; bit < WORD_BITS; bit++)
		word |= (uint32_t)engine_passes(e, first + bit) << bit;
	return word;
}

/* Append what compares with the RM requests that pass. */
static void add_rows(struct filter *f, const struct engine *e)
{
	uint32_t values[FILTER_ROWS];
	size_t count, used = 0;
	const struct abi_call *calls = abi_calls(&count);

	for (size_t i = 0; e && i < count && used < FILTER_ROWS; i++) {
		if (calls[i].size && engine_passes(e, abi_request(calls[i].nr, calls[i].size)))
			values[used++] = (uint32_t)calls[i].size << 16 | calls[i].nr;
	}
	for (size_t i = 0; i < used; i++)
		f->code[f->length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, values[i], (uint8_t)(used - i), 0);
	f->code[f->length++] = (struct sock_filter)RETURN(SECCOMP_RET_USER_NOTIF);
	f->code[f->length++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
}

void filter_make(struct filter *f, const struct engine *e)
{
	memcpy(f->code, program, sizeof(program));
	f->length = FIXED;
	if (e) {
		f->code[AT_WORD0].k = passing_word(e, 0);
		f->code[AT_WORD1].k = passing_word(e, WORD_BITS);
		f->code[AT_WORD2].k = passing_word(e, 2 * WORD_BITS);
	}
	add_rows(f, e);
}

/* Kernels before 5.16 switch speculation off in a program with a filter, which slows all of it: that is for those who run
 * strangers' code inside of themselves, and none of ours (Documentation/userspace-api/spec_ctrl.rst). */
static int load(unsigned long flags, const struct sock_fprog *prog)
{
	int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW | flags, prog);

	return fd < 0 ? -errno : fd;
}

bool filter_waits_killable(void)
{
	/* flags are looked at before the program, which is nowhere */
	return load(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, NULL) == -EFAULT;
}

int filter_load(const struct filter *f)
{
	struct sock_fprog prog = { .len = f->length, .filter = (struct sock_filter *)f->code };
	unsigned long flags = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int fd;

	/* Allowed with CAP_SYS_ADMIN alone; else no_new_privs is the price. */
	fd = load(flags, &prog);
	if (fd == -EINVAL) {
		flags = 0;
		fd = load(flags, &prog);
	}
	if (fd != -EACCES)
		return fd;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	fd = load(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
	return fd == -EINVAL ? load(0, &prog) : fd;
}

void filter_decode(const struct seccomp_data *data, struct filter_args *ret_args)
{
	bool compat = data->arch == ARCH_COMPAT;
	uint32_t nr = compat ? (uint32_t)data->nr : (uint32_t)data->nr & ~(uint32_t)NATIVE_BITS;
	uint64_t mask = compat ? UINT32_MAX : UINT64_MAX;

	*ret_args = (struct filter_args){ .call = FILTER_OTHER };
	if (compat ? nr == COMPAT_IOCTL : nr == NATIVE_IOCTL || nr == NATIVE_IOCTL_X32) {
		ret_args->call = FILTER_IOCTL;
		ret_args->fd = (int)data->args[0];
		ret_args->request = (uint32_t)data->args[1];
		ret_args->argument = data->args[2] & mask;
	} else if (compat ? nr == COMPAT_MMAP : nr == NATIVE_MMAP) {
		ret_args->call = FILTER_MMAP;
		ret_args->address = data->args[0] & mask;
		ret_args->length = data->args[1] & mask;
		ret_args->flags = (int)data->args[3];
		ret_args->fd = (int)data->args[4];
		ret_args->offset = compat ? (data->args[5] & mask) * 4096 : data->args[5];
	}
}
