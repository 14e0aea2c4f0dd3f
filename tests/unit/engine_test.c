/* SPDX-License-Identifier: Apache-2.0 */
/* The engine against a driver of a few lines that says yes: what is booked, refused, shown and given back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "engine/engine.h"

#define MIB (UINT64_C(1) << 20)

enum { CLIENT = 0xc1d00001, DEVICE = 0x5c000002, SUBDEVICE = 0x5c000003 };

/* One door of one process, and the driver behind it. */
struct bench {
	struct port port;
	struct engine engine;
	struct ledger_handle handle;
	struct call call;
	uint32_t file;			/* which UVM file is called on; 0: the door cannot tell */
	bool in_caller;			/* original() works, as in the preload door */
	uint32_t driver_status;		/* what the driver answers */
	uint64_t driver_rounds;		/* sizes are rounded up to this */
	uint32_t real_calls, original_calls, reclaims;
	bool reclaim_helps;
	/* what happens while the driver is at work */
	void (*meanwhile)(struct bench *b);
};

static int bench_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	if (address < 4096)
		return -EFAULT;
	memcpy(buffer, (void *)(uintptr_t)address, size);
	return 0;
}

static int bench_write(struct port *port, uint64_t address, const void *buffer, size_t size)
{
	if (address < 4096)
		return -EFAULT;
	memcpy((void *)(uintptr_t)address, buffer, size);
	return 0;
}

static void set_status(struct bench *b, uint32_t request, uint8_t *argument)
{
	const struct abi_layout *layout = &b->engine.layout;
	uint32_t size = abi_request_size(request);

	if (b->call.device == ABI_DEV_UVM) {
		switch (request) {
		case UVM_MAP_EXTERNAL_ALLOCATION:
			put_u32(argument, layout->uvm_map_external_status, b->driver_status);
			break;
		case UVM_FREE:
			put_u32(argument, layout->uvm_free_status, b->driver_status);
			break;
		default:
			break;
		}
		return;
	}
	switch (abi_request_nr(request)) {
	case NV_ESC_RM_ALLOC:
		put_u32(argument, size == 32 ? layout->alloc_short_status : layout->alloc_long_status, b->driver_status);
		break;
	case NV_ESC_RM_CONTROL:
		put_u32(argument, CONTROL_STATUS, b->driver_status);
		break;
	default:
		break;
	}
}

static int bench_real(struct port *port, uint32_t request, void *argument)
{
	struct bench *b = (struct bench *)port;
	uint8_t *bytes = argument, *params;

	b->real_calls++;
	if (b->meanwhile)
		b->meanwhile(b);
	if (b->call.device == ABI_DEV_CTL && abi_request_nr(request) == NV_ESC_RM_ALLOC && b->driver_rounds &&
	    get_u32(bytes, ALLOC_CLASS) == 0x40) {
		params = (uint8_t *)(uintptr_t)get_u64(bytes, ALLOC_PARAMS);
		put_u64(params, MEMORY_BYTES,
			(get_u64(params, MEMORY_BYTES) + b->driver_rounds - 1) / b->driver_rounds * b->driver_rounds);
	}
	set_status(b, request, argument);
	return 0;
}

static int bench_original(struct port *port)
{
	struct bench *b = (struct bench *)port;

	b->original_calls++;
	return 0;
}

static bool bench_is_ours(struct port *port, uint32_t pid)
{
	return pid == 7;
}

static bool bench_reclaim(struct port *port)
{
	struct bench *b = (struct bench *)port;

	b->reclaims++;
	if (b->reclaim_helps)
		account_drop_owner(&b->handle.ledger->account, 1);
	return b->reclaim_helps;
}

static uint64_t used(struct bench *b)
{
	return b->handle.ledger->account.used_bytes[0];
}

static int run(struct bench *b, enum abi_device device, uint32_t request, void *argument,
	       enum engine_verdict *ret_verdict)
{
	const struct call call = {
		.device = device,
		.request = request,
		.argument = (uint64_t)(uintptr_t)argument,
		.file = device == ABI_DEV_UVM ? b->file : 0,
	};
	enum engine_verdict verdict;
	int value = 0;

	b->call = call;
	verdict = engine_ioctl(&b->engine, &b->port, &call, &value);
	if (ret_verdict)
		*ret_verdict = verdict;
	else
		assert_int_equal(verdict, ENGINE_ANSWER);
	assert_int_equal(account_check(&b->handle.ledger->account), 0);
	return value;
}

/* Returns the status word. */
static uint32_t alloc(struct bench *b, uint32_t parent, uint32_t handle, uint32_t class_id, void *params)
{
	uint8_t argument[ALLOC_LONG_MAX] = { 0 };
	enum engine_verdict verdict;

	put_u32(argument, ALLOC_ROOT, CLIENT);
	put_u32(argument, ALLOC_PARENT, parent);
	put_u32(argument, ALLOC_OBJECT, handle);
	put_u32(argument, ALLOC_CLASS, class_id);
	put_u64(argument, ALLOC_PARAMS, (uint64_t)(uintptr_t)params);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_ALLOC, b->engine.layout.alloc_long_size), argument,
			     &verdict), 0);
	return get_u32(argument, b->engine.layout.alloc_long_status);
}

static uint32_t vidmem(struct bench *b, uint32_t handle, uint64_t bytes)
{
	uint8_t params[128] = { 0 };

	put_u64(params, MEMORY_BYTES, bytes);
	return alloc(b, SUBDEVICE, handle, 0x40, params);
}

static int free_object(struct bench *b, uint32_t handle)
{
	uint8_t argument[FREE_SIZE] = { 0 };
	enum engine_verdict verdict;

	put_u32(argument, FREE_ROOT, CLIENT);
	put_u32(argument, FREE_OBJECT, handle);
	return run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_FREE, FREE_SIZE), argument, &verdict);
}

static void map_external_on(struct bench *b, uint64_t base, uint64_t length, uint32_t handle, uint8_t uuid)
{
	uint8_t params[9264] = { 0 };

	put_u64(params, UVM_RANGE_BASE, base);
	put_u64(params, UVM_RANGE_LENGTH, length);
	memset(params + 24, uuid, 16);
	put_u64(params, b->engine.layout.uvm_map_external_client - 12u, 1);
	put_u32(params, b->engine.layout.uvm_map_external_client, CLIENT);
	put_u32(params, b->engine.layout.uvm_map_external_memory, handle);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_MAP_EXTERNAL_ALLOCATION, params, NULL), 0);
}

static void map_external(struct bench *b, uint64_t base, uint32_t handle)
{
	map_external_on(b, base, MIB, handle, 0x11);
}

static void unmap_external(struct bench *b, uint64_t base, uint64_t length, uint8_t uuid)
{
	uint8_t params[UVM_UNMAP_EXTERNAL_SIZE] = { 0 };

	put_u64(params, UVM_RANGE_BASE, base);
	put_u64(params, UVM_RANGE_LENGTH, length);
	memset(params + 16, uuid, 16);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_UNMAP_EXTERNAL, params, NULL), 0);
}

static void uvm_free(struct bench *b, uint64_t base, uint64_t length)
{
	uint8_t params[32] = { 0 };

	put_u64(params, UVM_RANGE_BASE, base);
	if (b->engine.layout.uvm_free_size == 24)
		put_u64(params, UVM_RANGE_LENGTH, length);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_FREE, params, NULL), 0);
}

static int setup(void **state)
{
	const struct ledger_gpu gpus[2] = {
		{ .device = 0, .uuid = "GPU-11111111-1111-1111-1111-111111111111" },
		{ .device = 1, .uuid = "GPU-22222222-2222-2222-2222-222222222222" },
	};
	const uint64_t limits[2] = { 100 * MIB, 0 };
	const struct ledger_settings settings = { .name = "t", .door = "test", .driver = "580.142", .gpu_count = 2,
						  .gpus = gpus, .limits = limits };
	struct bench *b = calloc(1, sizeof(*b));
	uint8_t device[DEVICE_ALLOC_SIZE] = { 0 }, subdevice[SUBDEVICE_ALLOC_SIZE] = { 0 };
	uint8_t uvm[UVM_INITIALIZE_SIZE] = { 0 };
	struct error err;
	sigset_t saved;

	assert_non_null(b);
	assert_int_equal(ledger_create(&b->handle, NULL, &settings, &err), 0);
	ledger_lock(&b->handle, &saved);
	assert_int_equal(ledger_slot_of(&b->handle, 7, 1, "one"), 0);
	assert_int_equal(ledger_slot_of(&b->handle, 8, 1, "two"), 1);
	ledger_unlock(&b->handle, &saved);
	assert_int_equal(engine_init(&b->engine, "580.142", &b->handle), 0);
	b->port = (struct port){ .read = bench_read, .write = bench_write, .real = bench_real,
				 .original = bench_original, .is_ours = bench_is_ours, .reclaim = bench_reclaim };
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_INITIALIZE, uvm, NULL), 0);
	b->original_calls = 0;
	assert_int_equal(alloc(b, CLIENT, DEVICE, 0x80, device), NV_OK);
	assert_int_equal(alloc(b, DEVICE, SUBDEVICE, 0x2080, subdevice), NV_OK);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	ledger_close(&b->handle);
	free(b);
	return 0;
}

static void limit_is_met_and_not_passed(void **state)
{
	struct bench *b = *state;
	uint32_t calls;

	assert_int_equal(vidmem(b, 1, 60 * MIB), NV_OK);
	assert_int_equal(vidmem(b, 2, 40 * MIB), NV_OK);
	assert_int_equal(used(b), 100 * MIB);
	calls = b->real_calls;
	assert_int_equal(vidmem(b, 3, 1), NV_ERR_NO_MEMORY);
	assert_int_equal(b->real_calls, calls);	/* the driver never saw it */
	assert_int_equal(b->reclaims, 1);
	free_object(b, 1);
	assert_int_equal(used(b), 40 * MIB);
	assert_int_equal(vidmem(b, 3, 60 * MIB), NV_OK);
	assert_int_equal(b->handle.ledger->account.refusals[0], 1);
}

static void size_is_settled(void **state)
{
	struct bench *b = *state;

	b->driver_rounds = 2 * MIB;
	assert_int_equal(vidmem(b, 1, 3 * MIB), NV_OK);
	assert_int_equal(used(b), 4 * MIB);
	assert_int_equal(vidmem(b, 2, UINT64_MAX), NV_ERR_NO_MEMORY);
	assert_int_equal(used(b), 4 * MIB);
}

static void driver_refusal_gives_back(void **state)
{
	struct bench *b = *state;

	b->driver_status = NV_ERR_NO_MEMORY;
	assert_int_equal(vidmem(b, 1, 60 * MIB), NV_ERR_NO_MEMORY);
	assert_int_equal(used(b), 0);
}

static void reclaim_is_tried_once(void **state)
{
	struct bench *b = *state;
	struct hold hold = { .kind = HOLD_MEMORY, .owner = 1, .client = 9, .handle = 9, .parent = 9 };
	sigset_t saved;

	ledger_lock(&b->handle, &saved);
	assert_int_equal(account_charge(&b->handle.ledger->account, 1, 90 * MIB, &hold.charge), 0);
	assert_int_equal(account_hold(&b->handle.ledger->account, &hold), 0);
	ledger_unlock(&b->handle, &saved);
	assert_int_equal(vidmem(b, 1, 60 * MIB), NV_ERR_NO_MEMORY);
	b->reclaim_helps = true;
	assert_int_equal(vidmem(b, 1, 60 * MIB), NV_OK);
	assert_int_equal(used(b), 60 * MIB);
}

static void parents_take_their_children(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	assert_int_equal(vidmem(b, 2, 10 * MIB), NV_OK);
	free_object(b, SUBDEVICE);
	assert_int_equal(used(b), 0);
}

static void client_free_takes_all(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	free_object(b, CLIENT);
	assert_int_equal(used(b), 0);
}

static void unknown_free_means_nothing(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	free_object(b, 0x1234);
	assert_int_equal(used(b), 10 * MIB);
}

static void mapping_keeps_memory(void **state)
{
	struct bench *b = *state;
	int round;

	/* Allocate, map, free, again: the attack on a ledger that looks at objects alone. */
	for (round = 0; round < 10; round++) {
		assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
		map_external(b, 0x100000000u + (uint64_t)round * MIB, 1);
		free_object(b, 1);
	}
	assert_int_equal(used(b), 100 * MIB);
	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_ERR_NO_MEMORY);
	uvm_free(b, 0x100000000u, MIB);
	assert_int_equal(used(b), 90 * MIB);
}

/* With one place left the mapping finds none, and must not be forgotten. */
static void mapping_without_room_keeps_memory(void **state)
{
	struct bench *b = *state;
	struct account *account = &b->handle.ledger->account;
	struct hold hold = { .kind = HOLD_RANGE };

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	do {
		hold.address += MIB;
		hold.length = MIB;
	} while (account_hold(account, &hold) == 0);
	account_drop_hold(account, account_find_range(account, HOLD_RANGE, 0, MIB));
	map_external(b, UINT64_C(1) << 45, 1);
	free_object(b, 1);
	assert_int_equal(used(b), 10 * MIB);
}

static void mapping_cut_keeps_memory(void **state)
{
	struct bench *b = *state;
	const uint64_t at = 0x100000000u;

	/* As long as any piece is mapped, all of the memory is there. */
	assert_int_equal(vidmem(b, 1, 4 * MIB), NV_OK);
	map_external_on(b, at, 4 * MIB, 1, 0x11);
	free_object(b, 1);
	unmap_external(b, at, MIB, 0x11);
	assert_int_equal(used(b), 4 * MIB);
	unmap_external(b, at + 2 * MIB, MIB, 0x11);
	assert_int_equal(used(b), 4 * MIB);
	assert_int_equal(vidmem(b, 2, 2 * MIB), NV_OK);
	map_external_on(b, at + MIB, MIB, 2, 0x11);	/* over the first piece that is left */
	assert_int_equal(used(b), 6 * MIB);
	unmap_external(b, at + 3 * MIB, MIB, 0x11);
	assert_int_equal(used(b), 2 * MIB);
}

static void mappings_of_gpus_are_apart(void **state)
{
	struct bench *b = *state;
	const uint64_t at = 0x100000000u;

	assert_int_equal(vidmem(b, 1, 4 * MIB), NV_OK);
	map_external_on(b, at, 4 * MIB, 1, 0x11);
	map_external_on(b, at, 4 * MIB, 1, 0x22);
	map_external_on(b, at, 4 * MIB, 1, 0x33);	/* no GPU that we know */
	free_object(b, 1);
	unmap_external(b, at, 4 * MIB, 0x11);
	unmap_external(b, at, 4 * MIB, 0x22);
	assert_int_equal(used(b), 4 * MIB);
	uvm_free(b, at, 4 * MIB);
	assert_int_equal(used(b), 0);
}

static void second_file_gives_nothing_back(void **state)
{
	struct bench *b = *state;
	struct call call = { .device = ABI_DEV_UVM };
	uint8_t init[UVM_INITIALIZE_SIZE] = { 0 }, pool[9248] = { 0 };
	const uint64_t at = 0x100000000u;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	map_external(b, at, 1);
	free_object(b, 1);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_INITIALIZE, init, NULL), 0);
	unmap_external(b, at, MIB, 0x11);	/* which file was that? */
	uvm_free(b, at, MIB);
	assert_int_equal(used(b), 10 * MIB);
	assert_int_equal(vidmem(b, 1, 20 * MIB), NV_OK);
	map_external(b, at, 1);
	free_object(b, 1);
	assert_int_equal(used(b), 30 * MIB);
	put_u64(pool, UVM_RANGE_BASE, 2 * at);
	put_u64(pool, UVM_RANGE_LENGTH, 2 * MIB);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_ALLOC_SEMAPHORE_POOL, pool, NULL), 0);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, 2 * at, 2 * MIB, MAP_SHARED, 2 * at), 0);
	assert_int_equal(used(b), 32 * MIB);
}

/* As PyTorch does: the second address space stays empty. */
static void empty_second_file_changes_nothing(void **state)
{
	struct bench *b = *state;
	uint8_t init[UVM_INITIALIZE_SIZE] = { 0 };
	const uint64_t at = 0x100000000u;

	b->file = 7;
	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	map_external(b, at, 1);
	b->file = 8;
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_INITIALIZE, init, NULL), 0);
	uvm_free(b, at, MIB);	/* nothing there in this file */
	b->file = 7;
	free_object(b, 1);
	assert_int_equal(used(b), 10 * MIB);
	uvm_free(b, at, MIB);
	assert_int_equal(used(b), 0);
	/* with something in both, nothing is believed any more */
	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	b->file = 8;
	map_external(b, at, 1);
	free_object(b, 1);
	uvm_free(b, at, MIB);
	b->file = 7;
	uvm_free(b, at, MIB);
	assert_int_equal(used(b), 10 * MIB);
}

static void file_of_another_is_refused(void **state)
{
	struct bench *b = *state;
	uint8_t params[9264] = { 0 };

	b->handle.ledger->slots[0].uvm_files = 0;
	b->real_calls = 0;
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_MAP_EXTERNAL_ALLOCATION, params, NULL), 0);
	assert_int_equal(get_u32(params, b->engine.layout.uvm_map_external_status), NV_ERR_INVALID_STATE);
	assert_int_equal(b->real_calls, 0);
}

static void groups_beyond_two_contexts_are_booked(void **state)
{
	struct bench *b = *state;
	uint8_t params[GROUP_ALLOC_SIZE] = { 0 };
	uint32_t i;

	for (i = 0; i < 8; i++)
		assert_int_equal(alloc(b, DEVICE, 0x100 + i, 0xa06c, params), NV_OK);
	assert_int_equal(used(b), 0);
	for (i = 0; i < 50; i++)
		assert_int_equal(alloc(b, DEVICE, 0x200 + i, 0xa06c, params), NV_OK);
	assert_int_equal(alloc(b, DEVICE, 0x300, 0xa06c, params), NV_ERR_NO_MEMORY);
	free_object(b, 0x200);
	assert_int_equal(used(b), 98 * MIB);
}

static void pools_pass_once(void **state)
{
	struct bench *b = *state;
	struct call call = { .device = ABI_DEV_UVM };
	const uint64_t at = 0x300000000u;
	uint8_t params[9248] = { 0 };

	put_u64(params, UVM_RANGE_BASE, at);
	put_u64(params, UVM_RANGE_LENGTH, 2 * MIB);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_ALLOC_SEMAPHORE_POOL, params, NULL), 0);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 2 * MIB, MAP_SHARED, at), 0);
	assert_int_equal(used(b), 0);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 2 * MIB, MAP_SHARED, at), 0);
	assert_int_equal(used(b), 2 * MIB);
	/* No pool is larger than the bound. */
	put_u64(params, UVM_RANGE_BASE, 2 * at);
	put_u64(params, UVM_RANGE_LENGTH, 64 * MIB);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_ALLOC_SEMAPHORE_POOL, params, NULL), 0);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, 2 * at, 64 * MIB, MAP_SHARED, 2 * at), 0);
	assert_int_equal(used(b), 66 * MIB);
}

/* A free takes what is mapped in the range and nothing beside it: by its length, or as the range was made. */
static void range_free_takes_its_mappings(void **state)
{
	static const char *const drivers[] = { "580.142", "595.45.04" };
	struct bench *b = *state;
	uint8_t range[24] = { 0 };

	put_u64(range, UVM_RANGE_BASE, 0x200000000u);
	put_u64(range, UVM_RANGE_LENGTH, 16 * MIB);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(engine_init(&b->engine, drivers[i], &b->handle), 0);
		assert_int_equal(engine_passes(&b->engine, UVM_CREATE_EXTERNAL_RANGE), i == 0);
		assert_int_equal(run(b, ABI_DEV_UVM, UVM_CREATE_EXTERNAL_RANGE, range, NULL), 0);
		assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
		assert_int_equal(vidmem(b, 2, 3 * MIB), NV_OK);
		map_external(b, 0x200000000u + 4 * MIB, 1);
		map_external(b, 0x200000000u + 16 * MIB, 2);
		free_object(b, 1);
		free_object(b, 2);
		assert_int_equal(used(b), 13 * MIB);
		uvm_free(b, 0x200000000u, 16 * MIB);
		assert_int_equal(used(b), 3 * MIB);
		unmap_external(b, 0x200000000u + 16 * MIB, MIB, 0x11);
		assert_int_equal(used(b), 0);
	}
}

static void dup_keeps_memory(void **state)
{
	struct bench *b = *state;
	uint8_t argument[DUP_SIZE] = { 0 };

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	put_u32(argument, DUP_CLIENT, CLIENT);
	put_u32(argument, DUP_PARENT, SUBDEVICE);
	put_u32(argument, DUP_OBJECT, 2);
	put_u32(argument, DUP_CLIENT_SRC, CLIENT);
	put_u32(argument, DUP_OBJECT_SRC, 1);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_DUP_OBJECT, DUP_SIZE), argument, NULL), 0);
	free_object(b, 1);
	assert_int_equal(used(b), 10 * MIB);
	free_object(b, 2);
	assert_int_equal(used(b), 0);
}

static void again(struct bench *b)
{
	const struct call outer = b->call;

	b->meanwhile = NULL;
	assert_int_equal(vidmem(b, 1, 20 * MIB), NV_OK);
	b->call = outer;
}

static void handle_given_anew_survives_the_old_free(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	b->meanwhile = again;	/* another thread gets the handle before the free is booked */
	free_object(b, 1);
	assert_int_equal(used(b), 20 * MIB);
}

/* Another thread maps and frees in the time between the driver's answer and its booking. */
static void map_again(struct bench *b)
{
	const struct call outer = b->call;

	b->meanwhile = NULL;
	assert_int_equal(vidmem(b, 2, 40 * MIB), NV_OK);
	map_external(b, 0x100000000u, 2);
	free_object(b, 2);
	b->call = outer;
}

static void mapping_made_anew_survives_the_old_unmap(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	map_external(b, 0x100000000u, 1);
	b->meanwhile = map_again;
	unmap_external(b, 0x100000000u, MIB, 0x11);
	assert_int_equal(used(b), 50 * MIB);
	b->meanwhile = map_again;
	uvm_free(b, 0x100000000u, MIB);
	assert_int_equal(used(b), 50 * MIB);
	free_object(b, 1);
	uvm_free(b, 0x100000000u, MIB);
	assert_int_equal(used(b), 0);
}

/* Which of two mappings of one place the driver made last cannot be told: both stay booked. */
static void mappings_that_race_keep_both(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	b->meanwhile = map_again;
	map_external(b, 0x100000000u, 1);
	free_object(b, 1);
	assert_int_equal(used(b), 50 * MIB);
}

static void handles_that_race_keep_both(void **state)
{
	struct bench *b = *state;

	b->meanwhile = again;
	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	assert_int_equal(used(b), 30 * MIB);
}

static void managed_is_booked_by_length(void **state)
{
	struct bench *b = *state;
	struct call call = { .device = ABI_DEV_UVM };
	const uint64_t at = 0x700000000000;

	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 60 * MIB, MAP_SHARED, at), 0);
	assert_true(engine_has_managed(&b->engine, 0));
	assert_int_equal(used(b), 60 * MIB);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at + 60 * MIB, 60 * MIB, MAP_SHARED, at + 60 * MIB),
			 -ENOMEM);
	/* No managed memory: private, or another offset. */
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 600 * MIB, MAP_PRIVATE, at), 0);
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 600 * MIB, MAP_SHARED, 0), 0);
	/* Mapped over where it is: refused while it does not fit beside itself, and nothing is forgotten. */
	assert_int_equal(engine_mmap(&b->engine, &b->port, &call, at, 60 * MIB, MAP_SHARED, at), -ENOMEM);
	assert_int_equal(used(b), 60 * MIB);
	engine_unmapped(&b->engine, 0, at + 20 * MIB, 20 * MIB);
	assert_int_equal(used(b), 40 * MIB);
	engine_unmapped(&b->engine, 0, at, 60 * MIB);
	assert_int_equal(used(b), 0);
}

static void view_shows_the_slice(void **state)
{
	struct bench *b = *state;
	uint8_t params[1028] = { 0 }, argument[CONTROL_SIZE] = { 0 };
	/* index, what the driver says in MiB, what is shown */
	const struct { uint32_t index, driver_mib, shown_mib; } figures[] = {
		{ FB_INFO_INDEX_TOTAL_RAM_SIZE, 1000, 100 }, { FB_INFO_INDEX_RAM_SIZE, 1000, 100 },
		{ FB_INFO_INDEX_HEAP_SIZE, 900, 100 }, { FB_INFO_INDEX_HEAP_FREE, 900, 90 },
		{ FB_INFO_INDEX_HEAP_FREE, 5, 5 }, { FB_INFO_INDEX_FB_TAX_SIZE, 3, 0 }, { 0x3b, 77, 77 },
	};
	size_t i, count = sizeof(figures) / sizeof(figures[0]);

	assert_int_equal(vidmem(b, 1, 10 * MIB), NV_OK);
	put_u32(params, FB_INFO_COUNT, (uint32_t)count);
	for (i = 0; i < count; i++) {
		put_u32(params, FB_INFO_V2_LIST + i * 8, figures[i].index);
		put_u32(params, FB_INFO_V2_LIST + i * 8 + 4, figures[i].driver_mib << 10);
	}
	put_u32(argument, CONTROL_CLIENT, CLIENT);
	put_u32(argument, CONTROL_OBJECT, SUBDEVICE);
	put_u32(argument, CONTROL_COMMAND, NV2080_CTRL_CMD_FB_GET_INFO_V2);
	put_u64(argument, CONTROL_PARAMS, (uint64_t)(uintptr_t)params);
	put_u32(argument, CONTROL_PARAMS_SIZE, sizeof(params));
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_CONTROL, CONTROL_SIZE), argument, NULL), 0);
	assert_int_equal(get_u32(argument, CONTROL_STATUS), NV_OK);
	for (i = 0; i < count; i++)
		assert_int_equal(get_u32(params, FB_INFO_V2_LIST + i * 8 + 4), figures[i].shown_mib << 10);
}

static void pids_of_others_vanish(void **state)
{
	struct bench *b = *state;
	static uint8_t params[PIDS_SIZE];
	uint8_t argument[CONTROL_SIZE] = { 0 };
	int door;

	for (door = 0; door < 2; door++) {
		b->port.original = door ? NULL : bench_original;
		memset(params, 0, sizeof(params));
		put_u32(params, PIDS_COUNT, 3);
		put_u32(params, PIDS_TABLE, 5);
		put_u32(params, PIDS_TABLE + 4, 7);
		put_u32(params, PIDS_TABLE + 8, 9);
		put_u32(argument, CONTROL_CLIENT, CLIENT);
		put_u32(argument, CONTROL_OBJECT, SUBDEVICE);
		put_u32(argument, CONTROL_COMMAND, NV2080_CTRL_CMD_GPU_GET_PIDS);
		put_u64(argument, CONTROL_PARAMS, (uint64_t)(uintptr_t)params);
		put_u32(argument, CONTROL_PARAMS_SIZE, sizeof(params));
		put_u32(argument, CONTROL_STATUS, 0);
		assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_CONTROL, CONTROL_SIZE), argument, NULL), 0);
		assert_int_equal(get_u32(params, PIDS_COUNT), 1);
		assert_int_equal(get_u32(params, PIDS_TABLE), 7);
		assert_int_equal(get_u32(params, PIDS_TABLE + 4), 0);
	}
}

/* Calls that never reach the driver, whatever stands in them. */
static void refused_calls(void **state)
{
	struct bench *b = *state;
	uint8_t argument[4096] = { 0 }, params[512] = { 0 };
	const uint32_t classes[] = { 0x3f, 0x81, 0x82, 0x83, 0xc2, 0xb1, 0xfd, 0xf8, 0xe0, 0x7fff };
	size_t i;

	for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		b->original_calls = b->real_calls = 0;
		assert_int_not_equal(alloc(b, SUBDEVICE, 1, classes[i], params), NV_OK);
		assert_int_equal(b->real_calls + b->original_calls, 0);
	}
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_IOCTL_XFER_CMD, 16), argument, NULL), -EINVAL);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_ALLOC_OBJECT, 20), argument, NULL), -EINVAL);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_ALLOC, 44), argument, NULL), -EINVAL);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(0x7f, 16), argument, NULL), -EINVAL);
	assert_int_equal(run(b, ABI_DEV_MODESET, abi_request(0, 16), argument, NULL), -EACCES);
	assert_int_equal(run(b, ABI_DEV_UVM, 0x7777, argument, NULL), -EINVAL);
	/* A device that is not the slice's. */
	put_u32(params, DEVICE_ALLOC_DEVICE_ID, 1);
	assert_int_equal(alloc(b, CLIENT, 0x99, 0x80, params), NV_ERR_INSUFFICIENT_PERMISSIONS);
	assert_int_equal(b->real_calls + b->original_calls, 0);
}

static void bad_pointers_are_faults(void **state)
{
	struct bench *b = *state;

	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_ALLOC, 48), NULL, NULL), -EFAULT);
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_CONTROL, 32), (void *)8, NULL), -EFAULT);
	assert_int_equal(run(b, ABI_DEV_UVM, UVM_INITIALIZE, NULL, NULL), -EFAULT);
}

static void hmm_is_switched_off(void **state)
{
	struct bench *b = *state;
	uint8_t params[UVM_INITIALIZE_SIZE] = { 0 };

	assert_int_equal(run(b, ABI_DEV_UVM, UVM_INITIALIZE, params, NULL), 0);
	assert_int_equal(get_u64(params, UVM_INITIALIZE_FLAGS) & UVM_INIT_FLAGS_DISABLE_HMM, 1);
}

static void channels_of_others_are_refused(void **state)
{
	struct bench *b = *state;
	uint8_t params[DISABLE_SIZE] = { 0 }, argument[CONTROL_SIZE] = { 0 }, channel[512] = { 0 };
	/* known channel?, gated?, status, does the driver see it */
	const struct { bool known, gated; uint32_t status, real; } cases[] = {
		{ false, false, NV_ERR_INSUFFICIENT_PERMISSIONS, 0 },
		{ false, true, NV_ERR_INSUFFICIENT_PERMISSIONS, 0 },
		{ true, false, NV_OK, 1 },
		{ true, true, NV_OK, 0 },
	};
	size_t i;

	assert_int_equal(alloc(b, DEVICE, 0x77, 0xc86f, channel), NV_OK);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		b->handle.ledger->frozen = cases[i].gated;
		b->real_calls = 0;
		put_u32(params, DISABLE_COUNT, 1);
		put_u32(params, DISABLE_CLIENTS, CLIENT);
		put_u32(params, DISABLE_CHANNELS, cases[i].known ? 0x77 : 0x78);
		put_u32(argument, CONTROL_CLIENT, CLIENT);
		put_u32(argument, CONTROL_OBJECT, SUBDEVICE);
		put_u32(argument, CONTROL_COMMAND, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS);
		put_u64(argument, CONTROL_PARAMS, (uint64_t)(uintptr_t)params);
		put_u32(argument, CONTROL_PARAMS_SIZE, sizeof(params));
		assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_CONTROL, CONTROL_SIZE), argument, NULL), 0);
		assert_int_equal(get_u32(argument, CONTROL_STATUS), cases[i].status);
		assert_int_equal(b->real_calls, cases[i].real);
	}
}

static uint32_t schedule(struct bench *b, uint32_t group, uint8_t enable)
{
	uint8_t argument[CONTROL_SIZE] = { 0 }, params[8] = { enable };

	put_u32(argument, CONTROL_CLIENT, CLIENT);
	put_u32(argument, CONTROL_OBJECT, group);
	put_u32(argument, CONTROL_COMMAND, NVA06C_CTRL_CMD_GPFIFO_SCHEDULE);
	put_u64(argument, CONTROL_PARAMS, (uint64_t)(uintptr_t)params);
	put_u32(argument, CONTROL_PARAMS_SIZE, b->engine.layout.gpfifo_schedule_size);
	b->real_calls = 0;
	assert_int_equal(run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_CONTROL, CONTROL_SIZE), argument, NULL), 0);
	assert_int_equal(get_u32(argument, CONTROL_STATUS), NV_OK);
	return b->real_calls;
}

static void groups_start_once_while_held_back(void **state)
{
	struct bench *b = *state;
	uint8_t params[GROUP_ALLOC_SIZE] = { 0 };

	assert_int_equal(alloc(b, DEVICE, 0x60, 0xa06c, params), NV_OK);
	assert_int_equal(alloc(b, DEVICE, 0x61, 0xa06c, params), NV_OK);
	assert_int_equal(schedule(b, 0x60, 1), 1);	/* nobody drives the gates: the driver sees every call */
	assert_int_equal(schedule(b, 0x60, 0), 1);
	assert_int_equal(schedule(b, 0x60, 1), 1);
	b->handle.ledger->frozen = 1;
	assert_int_equal(schedule(b, 0x60, 1), 0);	/* it runs already: nothing opens */
	assert_int_equal(schedule(b, 0x60, 0), 0);
	assert_int_equal(schedule(b, 0x60, 1), 0);
	assert_int_equal(schedule(b, 0x61, 1), 1);	/* a new one starts, or it never would */
	assert_int_equal(schedule(b, 0x61, 1), 0);
	assert_int_equal(schedule(b, 0x99, 1), 0);	/* nobody's */
}

static void breached_slice_gets_no_more(void **state)
{
	struct bench *b = *state;

	b->handle.ledger->breached = 1;
	assert_int_equal(vidmem(b, 1, 4096), NV_ERR_NO_MEMORY);
}

static void clients_are_made_in_the_caller(void **state)
{
	struct bench *b = *state;
	uint8_t argument[ALLOC_LONG_MAX] = { 0 };
	enum engine_verdict verdict;

	b->port.original = NULL;
	put_u32(argument, ALLOC_CLASS, 0x41);
	run(b, ABI_DEV_CTL, abi_request(NV_ESC_RM_ALLOC, 48), argument, &verdict);
	assert_int_equal(verdict, ENGINE_CONTINUE);
}

static void unknown_driver_is_refused(void **state)
{
	struct engine engine;

	assert_int_equal(engine_init(&engine, "470.57.02", NULL), -ENOTSUP);
	assert_int_equal(engine_init(&engine, "nonsense", NULL), -EINVAL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(limit_is_met_and_not_passed),
		CASE(size_is_settled),
		CASE(driver_refusal_gives_back),
		CASE(reclaim_is_tried_once),
		CASE(parents_take_their_children),
		CASE(client_free_takes_all),
		CASE(unknown_free_means_nothing),
		CASE(mapping_keeps_memory),
		CASE(mapping_without_room_keeps_memory),
		CASE(mapping_cut_keeps_memory),
		CASE(mappings_of_gpus_are_apart),
		CASE(second_file_gives_nothing_back),
		CASE(empty_second_file_changes_nothing),
		CASE(file_of_another_is_refused),
		CASE(groups_beyond_two_contexts_are_booked),
		CASE(pools_pass_once),
		CASE(range_free_takes_its_mappings),
		CASE(dup_keeps_memory),
		CASE(handle_given_anew_survives_the_old_free),
		CASE(mapping_made_anew_survives_the_old_unmap),
		CASE(mappings_that_race_keep_both),
		CASE(handles_that_race_keep_both),
		CASE(managed_is_booked_by_length),
		CASE(view_shows_the_slice),
		CASE(pids_of_others_vanish),
		CASE(refused_calls),
		CASE(bad_pointers_are_faults),
		CASE(hmm_is_switched_off),
		CASE(channels_of_others_are_refused),
		CASE(groups_start_once_while_held_back),
		CASE(breached_slice_gets_no_more),
		CASE(clients_are_made_in_the_caller),
		cmocka_unit_test(unknown_driver_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
