/* SPDX-License-Identifier: Apache-2.0 */
/* For LD_PRELOAD: the simulator's files are device nodes, also to a program that asks the kernel itself by syscall(), as
 * `fracgpu cdi generate` does. The files stay what they are; a test puts real nodes in their place. */
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static long call(long number, const long arguments[6])
{
	register long r10 __asm__("r10") = arguments[3];
	register long r8 __asm__("r8") = arguments[4];
	register long r9 __asm__("r9") = arguments[5];
	long result = number;

	__asm__ volatile("syscall"
			 : "+a"(result)
			 : "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

__attribute__((visibility("default"))) long syscall(long number, long a, long b, long c, long d, long e, long f);

/* Only what the caller of the one call looks at: no errno. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result = call(number, (const long[6]){ a, b, c, d, e, f });

	if (number == SYS_newfstatat && result == 0 && strncmp((const char *)b, "/dev/nvidia", 11) == 0)
		((struct stat *)c)->st_mode = S_IFCHR | 0666;
	return result;
}
