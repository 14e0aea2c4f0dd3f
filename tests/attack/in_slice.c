/* SPDX-License-Identifier: Apache-2.0 */
/* Run a program in a supervised slice, with no more than the supervisor: in_slice [kill] MIB PROGRAM [ARGUMENTS].
 *
 * Checks that nothing is booked when all is over. Exits as the program does, 128 and its signal's number, or 77 where
 * supervision does not work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

static struct rm rm;
static struct ledger_gpu gpus[ACCOUNT_GPUS];

static void fail(const struct error *err)
{
	fprintf(stderr, "in_slice: %s\n", err->text);
	exit(1);
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/fracgpu-test-XXXXXX", file[64];
	uint64_t limits[ACCOUNT_GPUS];
	struct supervisor_options options = { 0 };
	struct ledger_settings settings = { .name = "test", .door = "supervisor", .gpus = gpus, .limits = limits };
	struct ledger_handle published;
	struct error err;
	int status = 0;

	if (argc > 1 && !strcmp(argv[1], "kill")) {
		options.kill_on_breach = true;
		argv++;
		argc--;
	}
	CHECK(argc > 2);
	if (supervisor_probe(&err) < 0) {
		printf("skipped: %s\n", err.text);
		return 77;
	}
	if (rm_open(&rm, &err) < 0)
		fail(&err);
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		gpus[i] = rm.gpus[i].gpu;
		limits[i] = strtoull(argv[1], NULL, 10) << 20;
	}
	settings.gpu_count = rm.gpu_count;
	settings.driver = rm.layout_text;
	rm_close(&rm);
	CHECK(mkdtemp(path));
	snprintf(file, sizeof(file), "%s/ledger", path);
	if (ledger_create(&published, file, &settings, &err) < 0)
		fail(&err);
	unlink(file);
	rmdir(path);

	options.settings = &settings;
	options.published = &published;
	if (supervisor_run(argv + 2, &options, &status, &err) < 0)
		fail(&err);
	for (uint32_t i = 0; i < settings.gpu_count; i++)
		CHECK_EQUAL(published.ledger->account.used_bytes[i], 0);
	ledger_close(&published);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
