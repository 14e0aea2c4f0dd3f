/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks that make memory outlive the name it was taken by: mappings, dups, exports, files of dead
 * processes. */
#include <fcntl.h>

#include "attack.h"

enum { ROUNDS = 40 }; /* of CHUNK: well past the limit */

static struct test_rm rm;

/* A chunk, mapped at a place of its own. Returns the place, 0 when there is no more memory. */
static uint64_t map_chunk(struct test_rm *r, uint32_t *object)
{
	uint64_t place = find_place(CHUNK);
	uint64_t bytes = CHUNK;

	*object = 0;
	if (test_rm_vidmem(r, &bytes, object) != NV_OK)
		return 0;
	/* so that the next chunk gets another place */
	CHECK(mmap((void *)(uintptr_t)place, CHUNK, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED);
	CHECK_EQUAL(test_uvm_range(r, place, CHUNK), NV_OK);
	CHECK_EQUAL(test_uvm_map(r, place, CHUNK, r->client, *object), NV_OK);
	return place;
}

/* Memory, mapped, freed: the mapping keeps it. At the end all is unmapped and must be there again. */
static void map_free(void)
{
	uint64_t places[ROUNDS];
	uint32_t object, count = 0;

	open_all(&rm);
	while (count < ROUNDS && (places[count] = map_chunk(&rm, &object))) {
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
		count++;
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	CHECK_EQUAL(fill(&rm), 0);
	for (uint32_t i = 0; i < count; i++) {
		if (i % 2)
			CHECK_EQUAL(test_uvm_unmap(&rm, places[i], CHUNK), NV_OK);
		else
			CHECK_EQUAL(test_uvm_free(&rm, places[i], CHUNK), NV_OK);
	}
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* Frees of more and of less than there is: the driver frees nothing. */
static void free_long(void)
{
	uint64_t place;
	uint32_t object, count = 0;

	open_all(&rm);
	if (rm.layout.uvm_free_size != 24) {
		puts("this driver's frees have no length");
		return;
	}
	while (count < ROUNDS && (place = map_chunk(&rm, &object))) {
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
		CHECK(test_uvm_free(&rm, place, UINT64_C(1) << 46) != NV_OK);
		CHECK(test_uvm_free(&rm, place, CHUNK / 2) != NV_OK);
		CHECK(test_uvm_free(&rm, place - CHUNK, 2 * CHUNK) != NV_OK);
		count++;
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	CHECK_EQUAL(fill(&rm), 0);
}

/* A part of each mapping goes: the rest keeps all of the memory. */
static void map_part(void)
{
	uint64_t place;
	uint32_t object, count = 0;

	open_all(&rm);
	while (count < ROUNDS && (place = map_chunk(&rm, &object))) {
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
		/* head, middle, tail */
		CHECK_EQUAL(test_uvm_unmap(&rm, place + count % 3 * (31 * MIB), 2 * MIB), NV_OK);
		count++;
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	CHECK_EQUAL(fill(&rm), 0);
}

/* One mapping over another, and over half of it. */
static void map_over(void)
{
	uint64_t place = find_place(ROUNDS * CHUNK);
	uint64_t bytes;
	uint32_t object;

	open_all(&rm);
	CHECK_EQUAL(test_uvm_range(&rm, place, ROUNDS * CHUNK), NV_OK);
	for (uint32_t i = 0; i < 3 * ROUNDS; i++) {
		uint64_t at = place + i % ROUNDS * (CHUNK / 2);

		bytes = CHUNK;
		object = 0;
		if (test_rm_vidmem(&rm, &bytes, &object) != NV_OK)
			break;
		CHECK_EQUAL(test_uvm_map(&rm, at, i % 2 ? CHUNK : CHUNK / 2, rm.client, object), NV_OK);
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	}
	say_bytes("then got", fill(&rm));
	CHECK_EQUAL(test_uvm_free(&rm, place, ROUNDS * CHUNK), NV_OK);
	say_bytes("then got", fill(&rm));
}

/* Two files of the same process, each with mappings at the same addresses: what goes in one stays in the
 * other. */
static void two_files(void)
{
	struct test_rm other;
	uint64_t place;
	uint32_t object, count = 0;

	open_all(&rm);
	other = rm;
	if (test_uvm_open(&other) != NV_OK) {
		puts("a second file is refused");
		return;
	}
	while (count < ROUNDS && (place = map_chunk(&rm, &object))) {
		uint64_t bytes = 2 * MIB;
		uint32_t small = 0;

		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
		CHECK_EQUAL(test_uvm_range(&other, place, CHUNK), NV_OK);
		switch (count++ % 3) {
		case 0:
			CHECK_EQUAL(test_uvm_unmap(&other, place, CHUNK), NV_OK);
			break;
		case 1:
			CHECK_EQUAL(test_uvm_free(&other, place, CHUNK), NV_OK);
			break;
		default:
			if (test_rm_vidmem(&rm, &bytes, &small) != NV_OK)
				break;
			CHECK_EQUAL(test_uvm_map(&other, place, CHUNK, rm.client, small), NV_OK);
			CHECK_EQUAL(test_uvm_unmap(&other, place, CHUNK), NV_OK);
			CHECK_EQUAL(test_rm_free(&rm, rm.client, small), NV_OK);
			break;
		}
	}
	say_bytes("then got", fill(&rm));
}

/* A child maps through a file that its parent has open and uses, and ends: the file keeps the memory. */
static void child_maps(void)
{
	open_all(&rm);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			struct test_rm mine;
			uint64_t place = find_place(CHUNK * ROUNDS) + (uint64_t)i * CHUNK;
			uint64_t bytes = CHUNK;
			uint32_t object = 0;

			CHECK_EQUAL(test_rm_open(&mine, 0), NV_OK);
			mine.uvm = rm.uvm;
			if (test_rm_vidmem(&mine, &bytes, &object) == NV_OK &&
			    test_uvm_range(&mine, place, CHUNK) == NV_OK)
				test_uvm_map(&mine, place, CHUNK, mine.client, object);
			_exit(0);
		}
		reap(pid);
	}
	say_bytes("then got", fill(&rm));
}

/* A child takes memory through a file that its parent has open, and ends. */
static void child_takes(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			struct test_rm mine = rm;
			uint8_t device[DEVICE_ALLOC_SIZE] = { 0 };
			uint64_t bytes = CHUNK;
			uint32_t object = 0;

			/* by turns: its own client on the parent's file, the parent's client */
			if (i % 2) {
				mine.client = mine.device = 0;
				CHECK_EQUAL(test_rm_client(&mine, &mine.client), NV_OK);
				CHECK_EQUAL(test_rm_alloc(&mine, mine.client, mine.client, &mine.device, 0x80,
							  device),
					    NV_OK);
			}
			test_rm_vidmem(&mine, &bytes, &object);
			_exit(0);
		}
		reap(pid);
	}
	say_bytes("then got", fill(&rm));
}

/* ---- dups ---- */

static void dup_free(void)
{
	struct test_rm other = { 0 };
	uint8_t device[DEVICE_ALLOC_SIZE] = { 0 };
	uint32_t object, count = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_client(&rm, &other.client), NV_OK);
	CHECK_EQUAL(test_rm_alloc(&rm, other.client, other.client, &other.device, 0x80, device), NV_OK);
	for (; count < ROUNDS; count++) {
		uint64_t bytes = CHUNK;
		uint32_t copy = 0;

		object = 0;
		if (test_rm_vidmem(&rm, &bytes, &object) != NV_OK)
			break;
		CHECK_EQUAL(test_rm_dup(&rm, other.client, other.device, &copy, rm.client, object), NV_OK);
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	CHECK_EQUAL(test_rm_free(&rm, other.client, other.client), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* A dup in another process outlives the process that took the memory. */
static void dup_process(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t message[2], copy = 0;
		int to_parent[2], to_child[2];
		pid_t pid;

		CHECK_EQUAL(pipe(to_parent), 0);
		CHECK_EQUAL(pipe(to_child), 0);
		pid = fork();
		if (pid == 0) {
			struct test_rm mine;
			uint64_t bytes = CHUNK;
			uint32_t object = 0;
			char c;

			CHECK_EQUAL(test_rm_open(&mine, 0), NV_OK);
			if (test_rm_vidmem(&mine, &bytes, &object) == NV_OK)
				CHECK_EQUAL(test_rm_share(&mine, mine.client, object), NV_OK);
			message[0] = mine.client;
			message[1] = object;
			CHECK_EQUAL(write(to_parent[1], message, sizeof(message)), sizeof(message));
			CHECK_EQUAL(read(to_child[0], &c, 1), 1);
			_exit(0);
		}
		CHECK_EQUAL(read(to_parent[0], message, sizeof(message)), sizeof(message));
		if (message[1])
			test_rm_dup(&rm, rm.client, rm.device, &copy, message[0], message[1]);
		CHECK_EQUAL(write(to_child[1], "x", 1), 1);
		reap(pid);
		for (int e = 0; e < 2; e++) {
			close(to_parent[e]);
			close(to_child[e]);
		}
	}
	say_bytes("then got", fill(&rm));
}

/* ---- exports ---- */

static void export_free(void)
{
	uint32_t object, count = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (; count < ROUNDS; count++) {
		uint64_t bytes = CHUNK;
		int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);

		object = 0;
		CHECK(fd >= 0);
		if (test_rm_vidmem(&rm, &bytes, &object) != NV_OK)
			break;
		CHECK_EQUAL(test_rm_export(&rm, object, fd), NV_OK);
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	CHECK_EQUAL(fill(&rm), 0);
}

static void export_many(void)
{
	enum { SIZE = 2128, FD = 0, DEVICE = 4, OBJECTS = 76, COUNT = 2124 };
	uint32_t count = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (; count < ROUNDS; count++) {
		uint8_t params[SIZE] = { 0 };
		uint64_t bytes = CHUNK;
		uint32_t object = 0;
		int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);

		CHECK(fd >= 0);
		if (test_rm_vidmem(&rm, &bytes, &object) != NV_OK)
			break;
		put_u32(params, FD, (uint32_t)fd);
		put_u32(params, DEVICE, rm.device);
		put_u32(params, OBJECTS + 8, object); /* with holes */
		put_u32(params, COUNT, 3);
		CHECK_EQUAL(test_rm_control(&rm, rm.client, rm.client, 0x3d0b, params, sizeof(params)),
			    NV_OK);
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	}
	CHECK_EQUAL(count, LIMIT / CHUNK);
	say_bytes("then got", fill(&rm));
}

/* Who exported has ended when it is imported. */
static void import_orphan(void)
{
	uint32_t imported = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
		uint32_t object = 0;
		pid_t pid = fork();

		CHECK(fd >= 0 && pid >= 0);
		if (pid == 0) {
			struct test_rm mine;
			uint64_t bytes = CHUNK;

			CHECK_EQUAL(test_rm_open(&mine, 0), NV_OK);
			if (test_rm_vidmem(&mine, &bytes, &object) == NV_OK)
				CHECK_EQUAL(test_rm_export(&mine, object, fd), NV_OK);
			_exit(0);
		}
		reap(pid);
		if (test_rm_import(&rm, fd, &object) == NV_OK)
			imported++;
		close(fd);
	}
	CHECK(imported > 0);
	say_bytes("then got", fill(&rm));
}

/* ---- names ---- */

/* The driver says yes to a free of nothing. */
static void free_unknown(void)
{
	uint64_t bytes = CHUNK;
	uint32_t object = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, &object), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT - CHUNK);
	for (uint32_t i = 1; i < 500; i++) {
		CHECK_EQUAL(test_rm_free(&rm, rm.client, 0xdead0000 + i), NV_OK);
		test_rm_free(&rm, 0xdead0000 + i, object);
		test_rm_heap_free(&rm, 0xdead0000 + i);
	}
	CHECK_EQUAL(fill(&rm), 0);
	CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	for (int i = 0; i < 10; i++)
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	CHECK_EQUAL(fill(&rm), CHUNK);
}

/* The client of another file: the driver refuses, so nothing is given back. */
static void free_foreign(void)
{
	struct test_rm other;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_open(&other, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
	CHECK(test_rm_free(&other, rm.client, rm.client) != NV_OK);
	CHECK(test_rm_free(&other, rm.client, rm.device) != NV_OK);
	CHECK_EQUAL(fill(&rm), 0);
	CHECK_EQUAL(test_rm_free(&rm, rm.client, rm.device), NV_OK);
	CHECK_EQUAL(fill(&other), LIMIT);
}

/* A handle that is in use is refused by the driver, and stays. */
static void handle_again(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bytes = CHUNK;
		uint32_t object = 0xa0000001;

		if (i == 0)
			CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, &object), NV_OK);
		else
			CHECK(test_rm_vidmem(&rm, &bytes, &object) != NV_OK);
	}
	CHECK_EQUAL(fill(&rm), LIMIT - CHUNK);
}

/* Memory below a subdevice, a second device, a second client; freed by what is above it. */
static void free_parents(void)
{
	for (int i = 0; i < 4; i++) {
		uint8_t params[128] = { 0 };
		uint32_t object = 0;

		CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
		put_u64(params, MEMORY_BYTES, LIMIT);
		CHECK_EQUAL(test_rm_alloc(&rm, rm.client, i % 2 ? rm.subdevice : rm.device, &object, 0x40,
					  params),
			    NV_OK);
		CHECK_EQUAL(fill(&rm), 0);
		if (i / 2)
			CHECK_EQUAL(test_rm_free(&rm, rm.client, i % 2 ? rm.subdevice : rm.device), NV_OK);
		else
			CHECK_EQUAL(test_rm_free(&rm, rm.client, rm.client), NV_OK);
		test_rm_close(&rm);
	}
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* Files are closed without a free before. */
static void close_files(void)
{
	for (int i = 0; i < 3; i++) {
		CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
		CHECK_EQUAL(fill(&rm), LIMIT);
		test_rm_close(&rm);
	}
}

/* The file of the client is closed, but a registered file keeps it. */
static void registered_file(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < 4; i++) {
		struct test_rm kept;

		CHECK_EQUAL(test_rm_open(&kept, 0), NV_OK);
		fill(&kept);
		close(kept.ctl); /* kept.gpu is registered to it */
	}
	say_bytes("then got", fill(&rm));
}

/* Channel groups take memory that is charged to nobody. */
static void groups(void)
{
	uint32_t made = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	while (made < 1024) {
		uint32_t group = 0;

		if (test_rm_group(&rm, &group) != NV_OK)
			break;
		made++;
	}
	printf("groups: %u\n", made);
	say_bytes("then got", fill(&rm));
}

static const struct attack attacks[] = {
	{ "map-free", map_free },
	{ "free-long", free_long },
	{ "map-part", map_part },
	{ "map-over", map_over },
	{ "two-files", two_files },
	{ "child-maps", child_maps },
	{ "child-takes", child_takes },
	{ "dup-free", dup_free },
	{ "dup-process", dup_process },
	{ "export-free", export_free },
	{ "export-many", export_many },
	{ "import-orphan", import_orphan },
	{ "free-unknown", free_unknown },
	{ "free-foreign", free_foreign },
	{ "handle-again", handle_again },
	{ "free-parents", free_parents },
	{ "close-files", close_files },
	{ "registered-file", registered_file },
	{ "groups", groups },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return attack_main(attacks, argc, argv);
}
