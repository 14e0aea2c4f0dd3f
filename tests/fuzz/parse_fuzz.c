/* SPDX-License-Identifier: Apache-2.0 */
/* Every parser of words that people or drivers write: sizes, shares, limits, versions. */
#include <stdlib.h>
#include <string.h>

#include "abi/version.h"
#include "base/size.h"
#include "fuzz.h"
#include "policy/limit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct limit_gpu gpus[2] = { { 0, "GPU-11111111-2222", UINT64_C(8) << 30 },
					   { 1, "GPU-aaaaaaaa-bbbb", UINT64_C(16) << 30 } };
	char text[256], formatted[SIZE_TEXT];
	uint64_t bytes = 0, limits[2];
	struct abi_version version;
	struct abi_layout layout;
	uint32_t permille = 0;
	struct error err;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (size_parse(text, &bytes) == 0)
		size_format(formatted, bytes);
	if (percent_parse(text, &permille) == 0 && (!permille || permille > 1000))
		abort();
	if (limit_parse(text, gpus, 2, limits, &err) == 0 && (limits[0] > gpus[0].total_bytes || !(limits[0] | limits[1])))
		abort();
	if (abi_version_parse(text, &version) == 0)
		abi_layout_find(version, &layout);
	return 0;
}
