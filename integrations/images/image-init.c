/* SPDX-License-Identifier: Apache-2.0 */
/* Entrypoint of fracgpu's images: makes the slice of this container from the image's limit, then becomes the program.
 * Linked statically: its own calls do not pass the preload library. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "ledger/ledger.h"
#include "policy/limit.h"
#include "rm/rm.h"

#define CONFIG "/etc/fracgpu/image.conf"
#define LEDGER "/var/lib/fracgpu/ledger"

/* `memory = LIMIT` of a file that is root's alone. */
static int read_limit(char ret_limit[64], struct error *err)
{
	cleanup_file FILE *file = fopen(CONFIG, "re");
	char line[256];
	struct stat st;

	if (!file)
		return error_set(err, -errno, "cannot read '%s': %s", CONFIG, strerror(errno));
	if (fstat(fileno(file), &st) < 0 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_set(err, -EPERM, "'%s' must belong to root and be writable by nobody else", CONFIG);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " memory = %63s", ret_limit) == 1)
			return 0;
	}
	return error_set(err, -EINVAL, "'%s' has no line 'memory = LIMIT'", CONFIG);
}

/* Whether some process of the container still uses the ledger that is there. */
static bool is_in_use(void)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LEDGER_OFD_BYTE, .l_len = LEDGER_SLOTS
	};
	cleanup_close int fd = open(LEDGER, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* The ledger takes its name when it is whole and every user of the container may write it. */
static int make_ledger(const struct ledger_settings *settings, struct error *err)
{
	struct ledger_handle ledger;
	char path[64];
	int r;

	snprintf(path, sizeof(path), LEDGER ".%d", (int)getpid());
	unlink(path); /* of a start of this container before */
	r = ledger_create(&ledger, path, settings, err);
	if (r < 0)
		return r;
	if (fchmod(ledger.fd, 0666) < 0 || rename(path, LEDGER) < 0) {
		r = error_set(err, -errno, "cannot make '%s': %s", LEDGER, strerror(errno));
		unlink(path);
	}
	ledger_close(&ledger);
	return r;
}

/* A limit that holds for every GPU takes one whole that has less: a small card, or what fracgpu-runtime shows of one. */
static int set_limits(const char *limit, const struct limit_gpu *cards, uint32_t count, uint64_t *limits, struct error *err)
{
	int r = limit_parse(limit, cards, count, limits, err);

	if (r != -ERANGE || strchr(limit, '='))
		return r;
	for (uint32_t i = 0; i < count; i++) {
		r = limit_parse(limit, &cards[i], 1, &limits[i], err);
		if (r == -ERANGE)
			limits[i] = cards[i].total_bytes;
		else if (r < 0)
			return r;
	}
	return 0;
}

static int make_slice(struct error *err)
{
	static struct limit_gpu cards[ACCOUNT_GPUS];
	static struct ledger_gpu gpus[ACCOUNT_GPUS];
	static uint64_t limits[ACCOUNT_GPUS];
	static struct rm rm;
	struct ledger_settings settings = { .name = "image", .door = "preload", .gpus = gpus, .limits = limits };
	char limit[64], driver[32];
	int r = read_limit(limit, err);

	if (r < 0)
		return r;
	if (is_in_use())
		return 0;
	r = rm_open(&rm, err);
	if (r < 0)
		return r;
	memcpy(driver, rm.layout_text, sizeof(driver));
	settings.driver = driver;
	settings.gpu_count = rm.gpu_count;
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		gpus[i] = rm.gpus[i].gpu;
		cards[i] = ledger_limit_gpu(&gpus[i]);
	}
	rm_close(&rm);
	r = set_limits(limit, cards, settings.gpu_count, limits, err);
	return r < 0 ? r : make_ledger(&settings, err);
}

int main(int argc, char **argv)
{
	struct error err;

	/* A failure is no reason not to start: without a ledger every GPU call is refused, all else works. */
	if (access("/dev/nvidiactl", F_OK) == 0 && make_slice(&err) < 0)
		fprintf(stderr, "fracgpu: no GPU for this container: %s\n", err.text);
	if (argc < 2)
		return 0;
	execvp(argv[1], argv + 1);
	fprintf(stderr, "fracgpu: cannot start '%s': %s\n", argv[1], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
