/* SPDX-License-Identifier: Apache-2.0 */
/* Times what CUDA programs feel: gpu-bench [ROUNDS]. Start-up, cuMemAlloc and cuMemFree of 2 MiB, cuMemGetInfo, launches of an
 * empty kernel. Prints one JSON object, medians in microseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gpu/cuda.h"

enum { BLOCK = 2 << 20, LAUNCHES = 1000, WARM_UP = 20, MOST = 100000 };

/* The oldest targets that a driver may still take come last. */
static const char *const kernels[] = {
	".version 6.5\n.target sm_75\n.address_size 64\n.visible .entry nothing()\n{\nret;\n}\n",
	".version 6.0\n.target sm_52\n.address_size 64\n.visible .entry nothing()\n{\nret;\n}\n",
};

static double times[MOST];
static int rounds = 400;

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(int count)
{
	qsort(times, (size_t)count, sizeof(*times), compare);
	return times[count / 2];
}

static int time_alloc(struct cuda *cu, double *ret_us)
{
	int r = 0;

	for (int i = -WARM_UP; i < rounds && r == 0; i++) {
		double before = now_us();
		uint64_t address;

		r = cu->mem_alloc(&address, BLOCK);
		r = r ? r : cu->mem_free(address);
		if (i >= 0)
			times[i] = now_us() - before;
	}
	*ret_us = median(rounds);
	return r;
}

static int time_info(struct cuda *cu, double *ret_us)
{
	int r = 0;

	for (int i = -WARM_UP; i < rounds && r == 0; i++) {
		double before = now_us();
		size_t left, total;

		r = cu->mem_info(&left, &total);
		if (i >= 0)
			times[i] = now_us() - before;
	}
	*ret_us = median(rounds);
	return r;
}

/* One launch of many in a row, and one that is waited for. */
static int time_launch(struct cuda *cu, double *ret_us, double *ret_sync_us)
{
	void *module = NULL, *kernel = NULL;
	int r = 1;

	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]) && r; i++)
		r = cu->module_load(&module, kernels[i]);
	r = r ? r : cu->module_function(&kernel, module, "nothing");
	for (int i = -1; i < 15 && r == 0; i++) {
		double before = now_us();

		for (int n = 0; n < LAUNCHES && r == 0; n++)
			r = cu->launch(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
		r = r ? r : cu->synchronize();
		times[i < 0 ? 0 : i] = (now_us() - before) / LAUNCHES;
	}
	*ret_us = median(15);
	for (int i = -WARM_UP; i < rounds && r == 0; i++) {
		double before = now_us();

		r = cu->launch(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
		r = r ? r : cu->synchronize();
		times[i < 0 ? 0 : i] = now_us() - before;
	}
	*ret_sync_us = median(rounds);
	return r;
}

int main(int argc, char **argv)
{
	double before, startup, alloc, info, launch, launch_sync;
	struct cuda cu;
	int r;

	if (argc > 1)
		rounds = atoi(argv[1]);
	if (argc > 2 || rounds < 1 || rounds > MOST) {
		fputs("usage: gpu-bench [ROUNDS]\n", stderr);
		return 2;
	}
	before = now_us();
	r = cuda_start(&cu);
	startup = now_us() - before;
	r = r ? r : time_alloc(&cu, &alloc);
	r = r ? r : time_info(&cu, &info);
	r = r ? r : time_launch(&cu, &launch, &launch_sync);
	if (r) {
		fprintf(stderr, "gpu-bench: CUDA error %d\n", r);
		return 1;
	}
	printf("{\"startup_us\":%.1f,\"alloc_free_us\":%.3f,\"mem_info_us\":%.3f,\"launch_us\":%.4f,"
	       "\"launch_sync_us\":%.3f}\n",
	       startup, alloc, info, launch, launch_sync);
	return 0;
}
