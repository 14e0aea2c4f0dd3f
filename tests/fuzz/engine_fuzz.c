/* SPDX-License-Identifier: Apache-2.0 */
/* The engine fed with hostile calls: any request, any bytes, any answer of the driver. Whatever comes, the account stays
 * true and the limit is not passed by what the driver gave as asked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "engine/engine.h"
#include "fuzz.h"

static const uint64_t limit = UINT64_C(1) << 30;

struct door {
	struct port port;
	struct fuzz *fuzz;
};

static int door_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	struct door *d = (struct door *)port;

	if (address < 4096)
		return -EFAULT;
	fuzz_bytes(d->fuzz, buffer, size);
	return 0;
}

static int door_write(struct port *port, uint64_t address, const void *buffer, size_t size)
{
	return address < 4096 ? -EFAULT : 0;
}

static int door_real(struct port *port, uint32_t request, void *argument)
{
	struct door *d = (struct door *)port;
	uint8_t what = fuzz_u8(d->fuzz);

	if (what == 0xff)
		return -EINVAL;
	/* The driver may write what it likes into the argument, not into parameters it has no size for. */
	if (what & 1 && abi_request_size(request) >= 16)
		fuzz_bytes(d->fuzz, argument, 8);
	return 0;
}

static int door_original(struct port *port)
{
	return 0;
}

static bool door_is_ours(struct port *port, uint32_t pid)
{
	return pid & 1;
}

static uint32_t any_request(struct fuzz *f, enum abi_device *ret_device)
{
	const struct abi_call *calls;
	const struct abi_row *rows;
	size_t count;

	switch (fuzz_u8(f) % 4) {
	case 0:
		*ret_device = ABI_DEV_UVM;
		rows = abi_uvm_calls(&count);
		return rows[fuzz_u32(f) % count].number;
	case 1:
		*ret_device = (enum abi_device)(fuzz_u8(f) % 6);
		return fuzz_u32(f);
	default:
		calls = abi_calls(&count);
		calls += fuzz_u32(f) % count;
		*ret_device = calls->on_ctl ? ABI_DEV_CTL : ABI_DEV_GPU;
		return abi_request(calls->nr, calls->size ? calls->size : 48);
	}
}

static int door_real_on(struct port *port, int fd, uint32_t request, void *argument)
{
	return door_real(port, request, argument);
}

static int door_borrow(struct port *port, int fd)
{
	return fd % 2 ? 5 : -EBADF;
}

static void door_give_back(struct port *port, int fd)
{
}

static void one_call(struct door *d, struct engine *e)
{
	struct fuzz *f = d->fuzz;
	uint8_t who = fuzz_u8(f);
	struct call call = { .argument = 0x10000, .owner = who & 1, .file = who >> 1 & 3 };
	uint64_t address;
	int value;

	d->port.original = fuzz_u8(f) & 1 ? door_original : NULL;
	d->port.real_on = d->port.original ? NULL : door_real_on;
	d->port.borrow = d->port.original ? NULL : door_borrow;
	d->port.give_back = d->port.original ? NULL : door_give_back;
	if (fuzz_u8(f) % 8 == 0) {
		call.device = ABI_DEV_UVM;
		address = (uint64_t)fuzz_u32(f) << 12;
		if (fuzz_u8(f) & 1)
			engine_mmap(e, &d->port, &call, address, (uint64_t)fuzz_u32(f) << 4, MAP_SHARED, address);
		else
			engine_unmapped(e, call.owner, address, fuzz_u32(f));
		return;
	}
	call.request = any_request(f, &call.device);
	engine_ioctl(e, &d->port, &call, &value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ledger_handle handle;
	static const char *const drivers[] = { "515.43.04", "535.216.01", "550.163.01", "580.142", "595.45.04" };
	const struct ledger_gpu gpus[2] = { { .device = 0 }, { .device = 1 } };
	const uint64_t limits[2] = { limit, limit };
	struct ledger_settings settings = { .name = "f", .door = "fuzz", .driver = "580.142", .gpu_count = 2,
					    .gpus = gpus, .limits = limits };
	struct fuzz f = { data, size };
	struct door d = { .fuzz = &f };
	struct engine e;
	sigset_t saved;
	int calls;

	if (ledger_create(&handle, NULL, &settings, NULL) < 0)
		abort();
	ledger_lock(&handle, &saved);
	ledger_slot_of(&handle, 1, 1, "a");
	ledger_slot_of(&handle, 2, 1, "b");
	ledger_unlock(&handle, &saved);
	if (engine_init(&e, drivers[fuzz_u8(&f) % 5], &handle) < 0)
		abort();
	d.port = (struct port){ .read = door_read, .write = door_write, .real = door_real, .is_ours = door_is_ours };
	for (calls = 0; calls < 64 && f.size; calls++)
		one_call(&d, &e);
	if (account_check(&handle.ledger->account) < 0)
		abort();
	/* The driver of this door never gives more than was asked. */
	if (handle.ledger->account.used_bytes[0] > limit || handle.ledger->account.used_bytes[1] > limit)
		abort();
	ledger_lock(&handle, &saved);
	account_drop_owner(&handle.ledger->account, 0);
	account_drop_owner(&handle.ledger->account, 1);
	account_drop_orphans(&handle.ledger->account);
	ledger_unlock(&handle, &saved);
	if (handle.ledger->account.used_bytes[0] || handle.ledger->account.used_bytes[1])
		abort();
	ledger_close(&handle);
	return 0;
}
