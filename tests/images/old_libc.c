/* SPDX-License-Identifier: Apache-2.0 */
/* Lets a program that is linked here run with the C library of older systems (glibc 2.31): the start of programs got another
 * version in 2.34, fstat() one in 2.33. Linked with -nostartfiles. */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv);

__attribute__((noreturn, used)) static void begin(long *stack)
{
	exit(main((int)stack[0], (char **)(stack + 1)));
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: xor %ebp, %ebp\nmov %rsp, %rdi\nand $-16, %rsp\ncall begin\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start: mov x29, #0\nmov x0, sp\nb begin\n");
#endif

int fstat(int fd, struct stat *ret_stat)
{
	return (int)syscall(SYS_fstat, fd, ret_stat);
}
