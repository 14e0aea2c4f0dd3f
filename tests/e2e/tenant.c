/* SPDX-License-Identifier: Apache-2.0 */
/* A program of a slice that does what tests/e2e/e2e.py says: usage: tenant SOCKET. It connects, says its pid,
 * and answers each line with one line: "ok NUMBERS", or "no STATUS" (a status of the driver, or negative
 * errno). */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"

#define MIB (UINT64_C(1) << 20)

enum { NAMES = 1024 };

struct named {
	char name[32];
	uint32_t object;
	void *managed;
	uint64_t bytes;
};

static struct test_rm rm;
static struct named names[NAMES];
static const char *socket_path;
static char *program;
static FILE *in, *out;

static struct named *find(const char *name)
{
	for (int i = 0; i < NAMES; i++) {
		if (!strcmp(names[i].name, name))
			return &names[i];
	}
	CHECK(!"a name that is not known");
	return NULL;
}

static int take(struct named *n, const char *way, uint64_t bytes)
{
	uint8_t params[128] = { 0 };

	n->bytes = bytes;
	put_u64(params, MEMORY_BYTES, bytes);
	if (!strcmp(way, "long"))
		return test_rm_vidmem(&rm, &n->bytes, &n->object);
	if (!strcmp(way, "short"))
		return test_rm_alloc_short(&rm, rm.client, rm.device, &n->object, 0x40, params);
	if (!strcmp(way, "below-subdevice"))
		return test_rm_alloc(&rm, rm.client, rm.subdevice, &n->object, 0x40, params);
	if (!strcmp(way, "heap"))
		return test_rm_heap_alloc(&rm, HEAP_FUNCTION_ALLOC_SIZE, &n->bytes, &n->object);
	CHECK(!strcmp(way, "managed"));
	n->managed = test_managed(&rm, bytes);
	return n->managed ? 0 : -errno;
}

static int take_named(const char *name, const char *way, uint64_t bytes)
{
	struct named *n = find("");
	int status = take(n, way, bytes);

	if (status)
		memset(n, 0, sizeof(*n));
	else
		snprintf(n->name, sizeof(n->name), "%s", name);
	return status;
}

static int give_back(struct named *n)
{
	int r = n->managed ? munmap(n->managed, n->bytes) : test_rm_free(&rm, rm.client, n->object);

	memset(n, 0, sizeof(*n));
	return r;
}

/* Chunks until one is refused; what refused it is in *ret_status. */
static uint64_t fill(const char *way, uint64_t chunk, int *ret_status)
{
	uint64_t sum = 0;

	for (int i = 0; i < 1024; i++) {
		struct named n = { .object = 0 };

		*ret_status = take(&n, way, chunk);
		if (*ret_status)
			return sum;
		sum += chunk;
	}
	return sum;
}

/* ---- threads that take and give back ---- */

static void *churn(void *arg)
{
	for (int i = 0; i < 100; i++) {
		uint64_t bytes = 16 * MIB;
		uint32_t object = 0;

		if (test_rm_vidmem(&rm, &bytes, &object) == NV_OK)
			CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	}
	return NULL;
}

static void threads(int count)
{
	pthread_t all[64];

	for (int i = 0; i < count; i++)
		CHECK_EQUAL(pthread_create(&all[i], NULL, churn, NULL), 0);
	for (int i = 0; i < count; i++)
		CHECK_EQUAL(pthread_join(all[i], NULL), 0);
}

/* A filter of the program's own. */
static int own_filter(void)
{
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { 1, all };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return -errno;
	return 0;
}

static int open_gpu(uint32_t gpu)
{
	int r = test_rm_open(&rm, gpu);

	return r ? r : test_uvm_open(&rm);
}

static void connect_back(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	CHECK_EQUAL(connect(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	in = fdopen(sock, "r");
	out = fdopen(dup(sock), "w");
	CHECK(in && out);
	fprintf(out, "%d\n", (int)getpid());
	fflush(out);
}

static void answer(int status)
{
	if (status)
		fprintf(out, "no %d\n", status);
	else
		fprintf(out, "ok\n");
}

static void answer_info(void)
{
	uint64_t v2[2], v1[2], heap[2];
	int r = test_rm_fb_info(&rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &v2[0]);

	r = r ? r : test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &v2[1]);
	r = r ? r : test_rm_fb_info_v1(&rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &v1[0]);
	r = r ? r : test_rm_fb_info_v1(&rm, FB_INFO_INDEX_HEAP_FREE, &v1[1]);
	r = r ? r : test_rm_heap_info(&rm, &heap[0], &heap[1]);
	if (r) {
		answer(r);
		return;
	}
	fprintf(out, "ok %llu %llu %llu %llu %llu %llu\n", (unsigned long long)v2[0],
		(unsigned long long)v2[1], (unsigned long long)v1[0], (unsigned long long)v1[1],
		(unsigned long long)heap[0], (unsigned long long)heap[1]);
}

static void answer_pids(void)
{
	uint32_t pids[PIDS_MAX], count = PIDS_MAX;
	int r = test_rm_pids(&rm, 0x2080, pids, &count);

	if (r) {
		answer(r);
		return;
	}
	fprintf(out, "ok");
	for (uint32_t i = 0; i < count; i++)
		fprintf(out, " %u", pids[i]);
	fprintf(out, "\n");
}

static void answer_fill(const char *way, uint64_t chunk)
{
	int status = 0;
	uint64_t sum = fill(way, chunk, &status);

	fprintf(out, "ok %llu %d\n", (unsigned long long)(sum / MIB), status);
}

/* The child answers for itself, by a connection of its own. */
static void fork_here(bool is_vfork_exec)
{
	pid_t pid = is_vfork_exec ? vfork() : fork();

	if (pid == 0 && is_vfork_exec) {
		execl(program, program, socket_path, NULL);
		_exit(127);
	}
	if (pid == 0) {
		memset(names, 0, sizeof(names));
		connect_back();
		return;
	}
	fprintf(out, "ok %d\n", (int)pid);
}

static void obey(char *line)
{
	char *words[4] = { strtok(line, " \n"), strtok(NULL, " \n"), strtok(NULL, " \n"),
			   strtok(NULL, " \n") };
	uint64_t number = words[1] ? strtoull(words[1], NULL, 10) : 0;

	CHECK(words[0]);
	if (!strcmp(words[0], "open"))
		answer(open_gpu((uint32_t)number));
	else if (!strcmp(words[0], "take")) /* NAME WAY MIB */
		answer(take_named(words[1], words[2], strtoull(words[3], NULL, 10) * MIB));
	else if (!strcmp(words[0], "free"))
		answer(give_back(find(words[1])));
	else if (!strcmp(words[0], "fill")) /* WAY MIB */
		answer_fill(words[1], strtoull(words[2], NULL, 10) * MIB);
	else if (!strcmp(words[0], "empty"))
		answer(test_rm_free(&rm, rm.client, rm.client));
	else if (!strcmp(words[0], "info"))
		answer_info();
	else if (!strcmp(words[0], "pids"))
		answer_pids();
	else if (!strcmp(words[0], "threads"))
		threads((int)number), answer(0);
	else if (!strcmp(words[0], "filter"))
		answer(own_filter());
	else if (!strcmp(words[0], "user"))
		answer(setgid((gid_t)number) < 0 || setuid((uid_t)number) < 0 ? -errno : 0);
	else if (!strcmp(words[0], "fork"))
		fork_here(false);
	else if (!strcmp(words[0], "vfork"))
		fork_here(true);
	else if (!strcmp(words[0], "reap"))
		answer(waitpid((pid_t)number, NULL, 0) == (pid_t)number ? 0 : -errno);
	else if (!strcmp(words[0], "exec"))
		execl(program, program, socket_path, NULL);
	else
		CHECK(!"a word that is not known");
	fflush(out);
}

int main(int argc, char **argv)
{
	char line[256];

	if (argc != 2)
		return 2;
	program = argv[0];
	socket_path = argv[1];
	connect_back();
	while (fgets(line, sizeof(line), in))
		obey(line);
	return 0;
}
