/* SPDX-License-Identifier: Apache-2.0 */
/* Take video memory, block by block, until there is enough or the driver refuses; then hold it while a command runs.
 * Needs a driver, real or simulated, and neither CUDA nor any library. For the demo and the tests of NVIDIA's tools. */
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/size.h"
#include "lib/test_rm.h"
#include "sim/runlist.h"

enum {
	BLOCK_BYTES = 256 << 20,
	CLASSLIST_V2 = 0x800292,	/* a count, then classes; as many as fit in one of these sizes */
};

static const char help[] =
	"usage: fill [--gpu N] [--busy] SIZE|all [COMMAND [ARGUMENTS]]\n"
	"\n"
	"Takes SIZE of video memory in blocks of 256 MiB (all: until the driver refuses), says how much it got,\n"
	"and holds it while COMMAND runs. Exits like COMMAND; with 1 when it got less than SIZE.\n"
	"--busy keeps a simulated GPU at work.\n";

/* The class of a compute context on this GPU: with an object of it a process is in NVML's list. 0: none found. */
static uint32_t compute_class(struct test_rm *rm)
{
	static const uint32_t sizes[] = { 644, 804 };	/* at driver 535, at 580 */

	for (int s = 0; s < 2; s++) {
		uint8_t list[804] = { 0 };

		if (test_rm_control(rm, rm->client, rm->device, CLASSLIST_V2, list, sizes[s]) != NV_OK)
			continue;
		for (uint32_t i = 0; i < get_u32(list, 0) && 8 + 4 * i <= sizes[s]; i++) {
			if ((get_u32(list, 4 + 4 * (size_t)i) & 0xf0ff) == 0xc0c0)
				return get_u32(list, 4 + 4 * (size_t)i);
		}
	}
	return 0;
}

/* As a CUDA context would: channels with a compute object. A real driver asks more of channels than we give; then
 * there is memory without a context. */
static void make_context(struct test_rm *rm, bool busy)
{
	uint32_t group = 0, channel = 0, compute = 0;
	uint32_t class_id = compute_class(rm);
	uint8_t work[SUBMIT_SIZE] = { 0 };

	if (!class_id || test_rm_group(rm, &group) != NV_OK || test_rm_channel(rm, group, &channel, 0) != NV_OK ||
	    test_rm_alloc(rm, rm->client, channel, &compute, class_id, NULL) != NV_OK || !busy)
		return;
	put_u32(work, SUBMIT_CLIENT, rm->client);
	put_u32(work, SUBMIT_CHANNEL, channel);
	put_u64(work, SUBMIT_NS, SIM_ENDLESS);
	if (test_rm_schedule(rm, group, true) != NV_OK ||
	    test_rm_control(rm, rm->client, rm->subdevice, SIM_CTRL_SUBMIT, work, SUBMIT_SIZE) != NV_OK)
		fputs("fill: no work for this GPU\n", stderr);
}

/* Returns the status of the first refusal, or NV_OK. */
static int take(struct test_rm *rm, uint64_t want_bytes, uint64_t *ret_bytes)
{
	*ret_bytes = 0;
	while (*ret_bytes < want_bytes) {
		uint64_t bytes = want_bytes - *ret_bytes < BLOCK_BYTES ? want_bytes - *ret_bytes : BLOCK_BYTES;
		int status = test_rm_vidmem(rm, &bytes, NULL);

		if (status != NV_OK)
			return status;
		*ret_bytes += bytes;
	}
	return NV_OK;
}

static int run(char **argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "fill: cannot run '%s': %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "gpu", required_argument, NULL, 'g' },
						 { "busy", no_argument, NULL, 'b' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	uint64_t want_bytes = UINT64_MAX, bytes;
	char text[SIZE_TEXT];
	uint32_t gpu = 0;
	struct test_rm rm;
	bool busy = false;
	int option, status;

	while ((option = getopt_long(argc, argv, "+g:h", options, NULL)) >= 0) {
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (option != 'g' && option != 'b')
			return 2;
		if (option == 'b')
			busy = true;
		else
			gpu = (uint32_t)strtoul(optarg, NULL, 10);
	}
	if (optind == argc || (strcmp(argv[optind], "all") != 0 && size_parse(argv[optind], &want_bytes) < 0)) {
		fputs(help, stderr);
		return 2;
	}
	status = test_rm_open(&rm, gpu);
	if (status != 0) {
		fprintf(stderr, "fill: cannot open GPU %u: %s\n", gpu, status < 0 ? strerror(-status) : "refused");
		return 1;
	}
	make_context(&rm, busy);
	status = take(&rm, want_bytes, &bytes);
	size_format(text, bytes);
	if (status == NV_OK)
		printf("fill: holding %s\n", text);
	else
		printf("fill: holding %s; the next block was refused: %s (0x%02x)\n", text,
		       status == NV_ERR_NO_MEMORY ? "out of memory" : "status", status);
	fflush(stdout);
	status = status != NV_OK && want_bytes != UINT64_MAX;
	if (optind + 1 < argc)
		status = run(argv + optind + 1);
	test_rm_close(&rm);
	return status;
}
