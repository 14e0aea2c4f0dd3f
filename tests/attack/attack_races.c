/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks with a second thread that changes the arguments, or the file, while a call is judged. A bounded
 * number of rounds; who wins a round is a matter of luck, but nobody may win anything. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "attack.h"

enum { ROUNDS = 1500, VIRTUAL = 0x50a0 };

static struct test_rm rm;

/* What the second thread does, over and over. */
static void (*flip)(bool odd);
static atomic_bool is_over;

static void *flipper(void *arg)
{
	bool odd = false;

	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		flip(odd);
		odd = !odd;
	}
	return NULL;
}

static void with_flips(void (*by)(bool odd), void (*round)(void))
{
	pthread_t thread;

	flip = by;
	atomic_store(&is_over, false);
	CHECK_EQUAL(pthread_create(&thread, NULL, flipper, NULL), 0);
	for (int i = 0; i < ROUNDS; i++)
		round();
	atomic_store(&is_over, true);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

static void put_volatile_u32(void *bytes, size_t offset, uint32_t value)
{
	*(volatile uint32_t *)(void *)((char *)bytes + offset) = value;
}

static void put_volatile_u64(void *bytes, size_t offset, uint64_t value)
{
	*(volatile uint64_t *)(void *)((char *)bytes + offset) = value;
}

/* ---- an allocation whose parts change ---- */

static uint8_t params[512] __attribute__((aligned(8)));
static uint8_t other_params[512] __attribute__((aligned(8)));
static uint8_t args[HEAP_SIZE] __attribute__((aligned(8)));
static uint32_t second_client, second_device;

static void fill_args(uint32_t class_id)
{
	put_u32(args, ALLOC_ROOT, rm.client);
	put_u32(args, ALLOC_PARENT, rm.device);
	put_u32(args, ALLOC_OBJECT, 0);
	put_u32(args, ALLOC_CLASS, class_id);
	put_u64(args, ALLOC_PARAMS, (uintptr_t)params);
}

static void allocate(void)
{
	put_volatile_u32(args, ALLOC_OBJECT, 0);
	test_rm_call(rm.ctl, NV_ESC_RM_ALLOC, args, rm.layout.alloc_long_size);
}

static void start(void)
{
	uint8_t device[DEVICE_ALLOC_SIZE] = { 0 };

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_client(&rm, &second_client), NV_OK);
	CHECK_EQUAL(test_rm_alloc(&rm, second_client, second_client, &second_device, 0x80, device), NV_OK);
	put_u64(params, MEMORY_BYTES, 2 * MIB);
	put_u64(other_params, MEMORY_BYTES, 512 * MIB);
	fill_args(0x40);
}

static void flip_size(bool odd)
{
	put_volatile_u64(params, MEMORY_BYTES, odd ? 512 * MIB : 65536);
}

static void size(void)
{
	start();
	with_flips(flip_size, allocate);
	fill_anew(&rm);
}

static void flip_pointer(bool odd)
{
	put_volatile_u64(args, ALLOC_PARAMS, (uintptr_t)(odd ? other_params : params));
}

static void pointer(void)
{
	start();
	with_flips(flip_pointer, allocate);
	fill_anew(&rm);
}

/* The class is one that nobody needs to look at, until the driver does. */
static void flip_class(bool odd)
{
	put_volatile_u32(args, ALLOC_CLASS, odd ? 0x40 : VIRTUAL);
	put_volatile_u64(params, MEMORY_BYTES, 64 * MIB);
}

static void class(void)
{
	start();
	with_flips(flip_class, allocate);
	stay_if_over();
}

static void flip_client_class(bool odd)
{
	put_volatile_u32(args, ALLOC_CLASS, odd ? 0x40 : 0x41);
	put_volatile_u32(args, ALLOC_ROOT, odd ? rm.client : 0);
	put_volatile_u32(args, ALLOC_PARENT, odd ? rm.device : 0);
	put_volatile_u64(params, MEMORY_BYTES, 64 * MIB);
}

static void client_class(void)
{
	start();
	with_flips(flip_client_class, allocate);
	stay_if_over();
}

static void flip_client(bool odd)
{
	put_volatile_u32(args, ALLOC_ROOT, odd ? second_client : rm.client);
	put_volatile_u32(args, ALLOC_PARENT, odd ? second_device : rm.device);
}

static void client(void)
{
	start();
	with_flips(flip_client, allocate);
	CHECK_EQUAL(test_rm_free(&rm, second_client, second_client), NV_OK);
	fill_anew(&rm);
}

static void flip_handle(bool odd)
{
	put_volatile_u32(args, ALLOC_OBJECT, odd ? 0xa0000001 : 0xa0000002);
}

/* Take and give back under two names that change: what is given back must be what went. */
static void take_and_free(void)
{
	test_rm_call(rm.ctl, NV_ESC_RM_ALLOC, args, rm.layout.alloc_long_size);
	test_rm_free(&rm, rm.client, get_u32(args, ALLOC_OBJECT));
}

static void handle(void)
{
	start();
	put_u32(args, ALLOC_OBJECT, 0xa0000001);
	with_flips(flip_handle, take_and_free);
	test_rm_free(&rm, rm.client, 0xa0000001);
	test_rm_free(&rm, rm.client, 0xa0000002);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* Two threads take and free the same handle. */
static void *free_over_and_over(void *arg)
{
	while (!atomic_load(&is_over))
		test_rm_free(&rm, rm.client, 0xa0000001);
	return NULL;
}

static void free_race(void)
{
	pthread_t thread;

	start();
	CHECK_EQUAL(pthread_create(&thread, NULL, free_over_and_over, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bytes = CHUNK;
		uint32_t object = 0xa0000001;

		test_rm_vidmem(&rm, &bytes, &object);
	}
	atomic_store(&is_over, true);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	test_rm_free(&rm, rm.client, 0xa0000001);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* ---- the older interface: a question that becomes a demand ---- */

static void flip_function(bool odd)
{
	put_volatile_u32(args, HEAP_FUNCTION, odd ? HEAP_FUNCTION_ALLOC_SIZE : HEAP_FUNCTION_INFO);
	put_volatile_u64(args, HEAP_BYTES, odd ? 512 * MIB : 65536);
	put_volatile_u32(args, HEAP_ATTR, odd ? 0 : 1u << 25);
}

static void heap_call(void)
{
	test_rm_call(rm.ctl, NV_ESC_RM_VID_HEAP_CONTROL, args, HEAP_SIZE);
}

static void heap(void)
{
	start();
	memset(args, 0, sizeof(args));
	put_u32(args, HEAP_ROOT, rm.client);
	put_u32(args, HEAP_PARENT, rm.device);
	with_flips(flip_function, heap_call);
	fill_anew(&rm);
}

/* ---- a free of nothing that becomes a free of a device, and the like ---- */

static void flip_freed(bool odd)
{
	put_volatile_u32(args, FREE_OBJECT, odd ? 0xa0000001 : 0xdead0001);
}

static void free_and_take(void)
{
	uint64_t bytes = CHUNK;
	uint32_t object = 0xa0000001;

	test_rm_call(rm.ctl, NV_ESC_RM_FREE, args, FREE_SIZE);
	test_rm_vidmem(&rm, &bytes, &object);
}

static void freed(void)
{
	start();
	memset(args, 0, sizeof(args));
	put_u32(args, FREE_ROOT, rm.client);
	with_flips(flip_freed, free_and_take);
	fill_anew(&rm);
}

/* ---- a dup whose source changes ---- */

static uint32_t sources[2];

static void flip_source(bool odd)
{
	put_volatile_u32(args, DUP_OBJECT_SRC, sources[odd]);
}

static void dup_and_free(void)
{
	uint64_t bytes = 16 * MIB;

	put_volatile_u32(args, DUP_OBJECT, 0);
	test_rm_call(rm.ctl, NV_ESC_RM_DUP_OBJECT, args, DUP_SIZE);
	for (int i = 0; i < 2; i++) {
		test_rm_free(&rm, rm.client, sources[i]);
		test_rm_vidmem(&rm, &bytes, &sources[i]);
	}
}

static void dup_source(void)
{
	uint64_t bytes = 16 * MIB;

	start();
	for (int i = 0; i < 2; i++) {
		sources[i] = 0xa0000001 + (uint32_t)i;
		CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, &sources[i]), NV_OK);
	}
	memset(args, 0, sizeof(args));
	put_u32(args, DUP_CLIENT, second_client);
	put_u32(args, DUP_PARENT, second_device);
	put_u32(args, DUP_CLIENT_SRC, rm.client);
	with_flips(flip_source, dup_and_free);
	CHECK_EQUAL(test_rm_free(&rm, second_client, second_client), NV_OK);
	fill_anew(&rm);
}

/* ---- the file behind the descriptor ---- */

static int fd_null, fd_ctl, fd_moving;

static void flip_file(bool odd)
{
	CHECK_EQUAL(dup2(odd ? fd_ctl : fd_null, fd_moving), fd_moving);
}

static void allocate_moving(void)
{
	put_volatile_u32(args, ALLOC_OBJECT, 0);
	test_rm_call(fd_moving, NV_ESC_RM_ALLOC, args, rm.layout.alloc_long_size);
}

static void file(void)
{
	start();
	put_u64(params, MEMORY_BYTES, CHUNK);
	fd_null = open("/dev/null", O_RDWR | O_CLOEXEC);
	fd_ctl = rm.ctl;
	fd_moving = dup(rm.ctl);
	CHECK(fd_null >= 0 && fd_moving >= 0);
	with_flips(flip_file, allocate_moving);
	fill_anew(&rm);
}

/* The same with managed memory: nvidia-uvm comes in the place of an ordinary file. */
static uint64_t places[ROUNDS];
static uint32_t next_place;

static void map_moving(void)
{
	uint64_t place = places[next_place++];

	mmap((void *)(uintptr_t)place, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_moving,
	     (off_t)place);
}

static void managed_file(void)
{
	uint64_t base = find_place(ROUNDS * 16 * MIB);

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_uvm_open(&rm), NV_OK);
	for (uint32_t i = 0; i < ROUNDS; i++)
		places[i] = base + i * 16 * MIB;
	fd_null = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fd_ctl = rm.uvm;
	fd_moving = dup(fd_null);
	CHECK(fd_null >= 0 && fd_moving >= 0);
	with_flips(flip_file, map_moving);
	look();
	stay_if_over();
}

/* ---- a map whose object changes ---- */

static uint8_t map_params[9264] __attribute__((aligned(8)));

static void flip_mapped(bool odd)
{
	put_volatile_u32(map_params, rm.layout.uvm_map_external_memory, sources[odd]);
}

static void map_and_free(void)
{
	uint64_t bytes = 16 * MIB;
	uint64_t place = places[next_place++];

	put_volatile_u64(map_params, UVM_RANGE_BASE, place);
	CHECK_EQUAL(test_uvm_range(&rm, place, bytes), NV_OK);
	test_uvm_call(rm.uvm, UVM_MAP_EXTERNAL_ALLOCATION, map_params);
	for (int i = 0; i < 2; i++) {
		test_rm_free(&rm, rm.client, sources[i]);
		test_rm_vidmem(&rm, &bytes, &sources[i]);
	}
}

static void mapped(void)
{
	uint64_t base = find_place(ROUNDS * 16 * MIB);
	uint64_t bytes = 16 * MIB;

	start();
	CHECK_EQUAL(test_uvm_open(&rm), NV_OK);
	for (uint32_t i = 0; i < ROUNDS; i++)
		places[i] = base + i * 16 * MIB;
	for (int i = 0; i < 2; i++) {
		sources[i] = 0xa0000001 + (uint32_t)i;
		CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, &sources[i]), NV_OK);
	}
	put_u64(map_params, UVM_RANGE_LENGTH, bytes);
	put_u64(map_params, rm.layout.uvm_map_external_client - 12, 1);
	put_u32(map_params, rm.layout.uvm_map_external_client - 4, (uint32_t)rm.ctl);
	put_u32(map_params, rm.layout.uvm_map_external_client, rm.client);
	with_flips(flip_mapped, map_and_free);
	say_bytes("then got", fill(&rm));
}

static const struct attack attacks[] = {
	{ "size", size },	    { "pointer", pointer },
	{ "class", class },	    { "client-class", client_class },
	{ "client", client },	    { "handle", handle },
	{ "free-race", free_race }, { "heap", heap },
	{ "freed", freed },	    { "dup-source", dup_source },
	{ "file", file },	    { "managed-file", managed_file },
	{ "mapped", mapped },	    { NULL, NULL },
};

int main(int argc, char **argv)
{
	return attack_main(attacks, argc, argv);
}
