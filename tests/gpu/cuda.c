/* SPDX-License-Identifier: Apache-2.0 */
/* Finding CUDA's driver API. */
#include "gpu/cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int cuda_load(struct cuda *cu)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
	void *found;

	memset(cu, 0, sizeof(*cu));
	if (!library) {
		fprintf(stderr, "no CUDA here: %s\n", dlerror());
		return -1;
	}
#define CUDA_FIND(name, symbol, arguments)      \
	found = dlsym(library, symbol);         \
	memcpy(&cu->name, &found, sizeof(found));
	CUDA_FUNCTIONS(CUDA_FIND)
#undef CUDA_FIND
	return 0;
}

int cuda_start(struct cuda *cu)
{
	int r = cuda_load(cu);

	if (r)
		return r;
	r = cu->init(0);
	if (r == 0)
		r = cu->device_get(&cu->device, 0);
	if (r == 0)
		r = cu->context_retain(&cu->context, cu->device);
	if (r == 0)
		r = cu->context_set(cu->context);
	if (r)
		fprintf(stderr, "no CUDA context: error %d\n", r);
	return r;
}
