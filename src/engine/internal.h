/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's files share: one call in progress, and the booking of memory around it. */
#ifndef FG_ENGINE_INTERNAL_H
#define FG_ENGINE_INTERNAL_H

#include "base/bytes.h"
#include "engine/engine.h"
#include "policy/view.h"

/* One call in progress. */
struct op {
	struct engine *engine;
	struct port *port;
	const struct call *call;
	struct account *account;
	bool is_quiet;		/* signals are blocked, and signals is what to go back to */
	sigset_t signals;
};

/* The result of judging: what engine_ioctl() returns, and the value. */
struct answer {
	enum engine_verdict verdict;
	int value;
};

/* Pins live among the ranges of an owner, at addresses no program can have. */
#define PIN_BASE (UINT64_C(1) << 63)

/* Memory on its way to a hold. Until op_settle() or op_unbook() the charge is kept by a pin that belongs to the
 * caller, so that it goes when the caller dies in the middle of the driver's call. */
struct booking {
	uint32_t charge;	/* as in struct hold; 0: nothing booked */
	uint64_t pin;		/* address of the pin */
};

/* The serial from before the driver was asked: what has a later one came in between. */
static inline uint64_t booking_time(const struct booking *booking)
{
	return booking->pin & ~PIN_BASE;
}

static inline struct answer op_answer(int value)
{
	return (struct answer){ ENGINE_ANSWER, value };
}

/* Take and leave the ledger's lock. With the first time signals are blocked until the call is done: two system calls, not two
 * for each time. So they wait for a driver's call that comes between, which they would do in the driver, too: it sleeps
 * uninterruptibly (kernel-open/nvidia/os-interface.c, down()), but for the moment of a machine's suspend (nv.c). */
void op_lock(struct op *op);
void op_unlock(struct op *op);

/* The caller's own call, as it is. */
struct answer op_original(struct op *op);

/* Read the argument; false after which op_answer(-EFAULT) is due (counted). */
bool op_read(struct op *op, uint64_t address, void *buffer, size_t size);

/* Run an RM call that points to parameters: argument holds the caller's pointer at pointer_offset, params our copy of
 * params_size bytes (NULL: the pointer stays 0). Nothing is written back: see op_reply(). */
int op_run_params(struct op *op, void *argument, size_t pointer_offset, void *params);

/* Write parameters and argument back. Returns value, or -EFAULT. */
struct answer op_reply(struct op *op, int value, const void *argument, size_t size, uint64_t params_address,
		       const void *params, size_t params_size);

/* Finish the call with a status word in the argument, without asking the driver. */
struct answer op_refuse(struct op *op, void *argument, size_t size, size_t status_offset, uint32_t status,
			enum ledger_event event);

/* Refuse a call that has no status word we can rely on. */
struct answer op_refuse_call(struct op *op, int error, enum ledger_event event);

/* Book new memory on a GPU, for managed memory on all of them. Looks for memory that is gone already before it says no.
 * Returns NV_OK, NV_ERR_NO_MEMORY or NV_ERR_INSUFFICIENT_RESOURCES. */
uint32_t op_book(struct op *op, uint32_t gpu_mask, uint64_t bytes, struct booking *ret_booking);

/* Keep what another hold has: for dups and mappings. False when it cannot be kept (table full). Under no lock. */
bool op_pin(struct op *op, uint32_t client, uint32_t handle, struct booking *ret_booking, struct hold *ret_source);

/* The driver said yes: replace the pin by a hold. bytes: what it really gave, 0: as asked. */
void op_settle(struct op *op, struct booking *booking, struct hold *hold, uint64_t bytes);

/* The driver said no. */
void op_unbook(struct op *op, struct booking *booking);

/* One more hold: an RM object without memory, a range, or what a pin of the caller keeps meanwhile. */
void op_note(struct op *op, struct hold *hold);

/* Under the ledger's lock, for what takes more than one step: drop a pin, and add a hold (RM objects get a serial, by which
 * op_drop() knows them again; 0 or -ENOSPC). */
void op_unpin(struct op *op, const struct booking *booking);
int op_add(struct op *op, struct hold *hold);

/* Copy of a known RM object. False when it is not known. */
bool op_lookup(struct op *op, uint32_t client, uint32_t handle, struct hold *ret_hold);

/* Drop an RM object that the driver freed, unless the handle was given anew. before: op_now() from before the driver was
 * asked; what was booked since is another object, which the driver made later. */
uint64_t op_now(const struct op *op);
void op_drop(struct op *op, uint32_t client, uint32_t handle, uint64_t before);

/* The figure to show for one of a GPU's, in bytes. */
uint64_t op_view(struct op *op, uint16_t gpu, enum view_figure figure, uint64_t driver_bytes);

/* Which of the slice's GPUs an object hangs on; an unknown object counts as on the only GPU of a slice of one. */
bool op_object_gpu(struct op *op, uint32_t client, uint32_t object, uint16_t *ret_gpu);

/* Whether the call is on the owner's only UVM file that has ranges: then what is mapped in it can be followed. */
bool op_follows_uvm(const struct op *op);

/* Calls by kind. */
struct answer rm_call_alloc(struct op *op);
struct answer rm_call_free(struct op *op);
struct answer rm_call_dup(struct op *op);
struct answer rm_call_vid_heap(struct op *op);
struct answer rm_call_alloc_memory(struct op *op);
struct answer rm_call_control(struct op *op);
struct answer uvm_call(struct op *op);

/* Whether a UVM request that gives no memory is judged all the same, for where its range lies. */
bool uvm_is_followed(const struct abi_layout *layout, uint32_t request);

#endif
