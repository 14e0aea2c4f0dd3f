/* SPDX-License-Identifier: Apache-2.0 */
/* Gates: lists of channels, and the calls that close and open them. */
#include "gate/gate.h"

#include <errno.h>
#include <string.h>

#include "abi/calls.h"
#include "base/bytes.h"

enum {
	NV_ERR_INVALID_CHANNEL = 0x21,
	NV_ERR_INVALID_OBJECT = 0x31,
	RETRY_NS = 1000000000,
};

/* One call's worth of channels. */
struct gate_call {
	uint32_t count;
	uint32_t index[DISABLE_MAX];	/* of the set's channels */
	enum gate_state after;		/* an opening: GATE_OPEN unless said */
};

void gate_init(struct gate_set *set, uint32_t gpu)
{
	set->gpu = gpu;
	set->count = 0;
}

static int call_driver(struct gate_set *set, const struct gate_port *port, bool disable, const uint32_t *index,
		       uint32_t count)
{
	char params[DISABLE_SIZE] = { 0 };

	params[DISABLE_DISABLE] = disable;
	put_u32(params, DISABLE_COUNT, count);
	for (uint32_t i = 0; i < count; i++) {
		put_u32(params, DISABLE_CLIENTS + 4 * i, set->channels[index[i]].client);
		put_u32(params, DISABLE_CHANNELS + 4 * i, set->channels[index[i]].handle);
	}
	set->calls++;
	return port->control(port->arg, set->gpu, params, sizeof(params));
}

/* Whether a status says that a channel is not there (any more). */
static bool is_gone(int status)
{
	switch (status) {
	case NV_ERR_INVALID_ARGUMENT:
	case NV_ERR_INVALID_CHANNEL:
	case NV_ERR_INVALID_CLIENT:
	case NV_ERR_INVALID_OBJECT:
	case NV_ERR_INVALID_OBJECT_HANDLE:
	case NV_ERR_INVALID_OBJECT_PARENT:
	case NV_ERR_OBJECT_NOT_FOUND:
		return true;
	default:
		return false;
	}
}

static int failure(int status)
{
	return status < 0 ? status : -EIO;
}

/* To be opened, if only to be sure. */
static bool is_shut(const struct gate_channel *c)
{
	return c->state == GATE_CLOSED || c->state == GATE_UNSURE;
}

/* One call for all; where the driver does not know one of them, one call for each, to learn which. What the first call
 * closed before it failed is opened again, so that nothing is closed twice. */
static int call_flush(struct gate_set *set, const struct gate_port *port, bool disable, struct gate_call *call)
{
	int result = 0;
	int status;

	if (!call->count)
		return 0;
	status = call_driver(set, port, disable, call->index, call->count);
	for (uint32_t i = 0; status != NV_OK && is_gone(status) && i < call->count; i++) {
		struct gate_channel *c = &set->channels[call->index[i]];
		int one = status;

		if (disable && call->count > 1)
			call_driver(set, port, false, &call->index[i], 1);
		if (call->count > 1)
			one = call_driver(set, port, disable, &call->index[i], 1);
		if (is_gone(one))
			c->state = GATE_GONE;
		else if (one != NV_OK && !result)
			result = failure(one);
	}
	if (status != NV_OK && !is_gone(status))
		result = failure(status);
	for (uint32_t i = 0; i < call->count; i++) {
		struct gate_channel *c = &set->channels[call->index[i]];

		if (result && disable && c->state == GATE_CLOSED)
			c->state = GATE_UNSURE;
		else if (!result && !disable && is_shut(c))
			c->state = (uint16_t)call->after;
	}
	call->count = 0;
	return result;
}

static int call_add(struct gate_set *set, const struct gate_port *port, bool disable, struct gate_call *call,
		    uint32_t index)
{
	/* written before the call: should we die after it, the guard knows what to open */
	if (disable)
		__atomic_store_n(&set->channels[index].state, GATE_CLOSED, __ATOMIC_SEQ_CST);
	call->index[call->count++] = index;
	return call->count == DISABLE_MAX ? call_flush(set, port, disable, call) : 0;
}

static void keep_first(int *result, int r)
{
	if (!*result)
		*result = r;
}

/* The last one takes its place; whoever looks at any moment finds every closed channel at least once. */
static void drop(struct gate_set *set, uint32_t index)
{
	set->changes++;
	set->channels[index] = set->channels[set->count - 1];
	__atomic_store_n(&set->count, set->count - 1, __ATOMIC_SEQ_CST);
}

/* One by one: most are gone, and a call for several would fail. */
static int open_leaving(struct gate_set *set, const struct gate_port *port)
{
	for (uint32_t i = 0; i < set->count;) {
		int status;

		if (set->channels[i].seen != GATE_LEAVING) {
			i++;
			continue;
		}
		status = call_driver(set, port, false, &i, 1);
		if (status != NV_OK && !is_gone(status))
			return failure(status);
		drop(set, i);
	}
	return 0;
}

int gate_apply(struct gate_set *set, const struct gate_port *port, uint64_t open, uint64_t now_ns)
{
	struct gate_call call = { 0 };
	bool retry = now_ns >= set->retry_ns;
	int result = open_leaving(set, port);

	if (result < 0)
		return result;
	for (uint32_t i = 0; i < set->count; i++) {
		struct gate_channel *c = &set->channels[i];

		if (c->state == GATE_UNSURE || (open >> c->slice & 1 && c->state == GATE_CLOSED))
			keep_first(&result, call_add(set, port, false, &call, i));
	}
	keep_first(&result, call_flush(set, port, false, &call));
	for (uint32_t i = 0; i < set->count; i++) {
		struct gate_channel *c = &set->channels[i];

		if (!(open >> c->slice & 1) && c->state == GATE_OPEN)
			keep_first(&result, call_add(set, port, true, &call, i));
	}
	keep_first(&result, call_flush(set, port, true, &call));
	if (!retry)
		return result;
	set->retry_ns = now_ns + RETRY_NS;
	for (uint32_t i = 0; i < set->count; i++) {
		struct gate_channel *c = &set->channels[i];
		bool disable = !(open >> c->slice & 1);

		if (c->state != GATE_GONE)
			continue;
		c->state = GATE_CLOSED;
		keep_first(&result, call_add(set, port, disable, &call, i));
		keep_first(&result, call_flush(set, port, disable, &call));
	}
	return result;
}

int gate_open_all(struct gate_set *set, const struct gate_port *port, enum gate_state after)
{
	struct gate_call call = { .after = after };
	int result = 0;

	for (uint32_t i = 0; i < set->count && i < GATE_CHANNELS; i++)
		if (is_shut(&set->channels[i]))
			keep_first(&result, call_add(set, port, false, &call, i));
	keep_first(&result, call_flush(set, port, false, &call));
	return result;
}

int gate_forget(struct gate_set *set, const struct gate_port *port, uint32_t slice)
{
	struct gate_call call = { 0 };
	int result = 0;

	for (uint32_t i = 0; i < set->count; i++)
		if (set->channels[i].slice == slice && is_shut(&set->channels[i]))
			keep_first(&result, call_add(set, port, false, &call, i));
	keep_first(&result, call_flush(set, port, false, &call));
	for (uint32_t i = 0; i < set->count;) {
		if (set->channels[i].slice == slice)
			drop(set, i);
		else
			i++;
	}
	return result;
}

struct collection {
	struct gate_set *set;
	struct account *account;
	uint32_t slice, account_gpu;
	uint32_t hint;		/* where the next one probably is: both sides keep their order */
	int count;
	bool full;
};

/* A channel in a group runs where and when the group does. */
static const struct hold *runner_of(struct account *account, const struct hold *channel)
{
	const struct hold *group = account_find(account, channel->client, channel->parent);

	return group && group->kind == HOLD_GROUP ? group : channel;
}

static bool is_scheduled(const struct hold *hold)
{
	return (hold->length & SCHEDULE_STATE) == SCHEDULED;
}

static struct gate_channel *set_find(struct collection *c, uint32_t client, uint32_t handle)
{
	struct gate_set *set = c->set;

	for (uint32_t n = 0; n < set->count; n++) {
		uint32_t i = (c->hint + n) % set->count;
		struct gate_channel *channel = &set->channels[i];

		if (channel->client == client && channel->handle == handle && channel->slice == c->slice) {
			c->hint = i + 1;
			return channel;
		}
	}
	return NULL;
}

static void collect_channel(struct collection *c, uint32_t client, uint32_t handle, uint32_t schedules)
{
	struct gate_channel *channel = set_find(c, client, handle);

	if (!channel) {
		if (c->set->count == GATE_CHANNELS) {
			c->full = true;
			return;
		}
		channel = &c->set->channels[c->set->count];
		*channel = (struct gate_channel){ .client = client, .handle = handle, .slice = (uint8_t)c->slice,
						  .state = GATE_OPEN };
		__atomic_store_n(&c->set->count, c->set->count + 1, __ATOMIC_SEQ_CST);
	}
	/* to schedule it has opened it, perhaps */
	if (channel->schedules != schedules) {
		c->set->changes++;
		if (channel->state == GATE_CLOSED)
			channel->state = GATE_UNSURE;
	}
	channel->schedules = schedules;
	channel->seen = GATE_SEEN;
	c->count++;
}

static int collect_one(struct hold *hold, void *arg)
{
	struct collection *c = arg;
	const struct hold *runner;

	if (hold->gpu != c->account_gpu)
		return 0;
	runner = runner_of(c->account, hold);
	/* one that was not scheduled cannot run, and is opened when it is */
	if (runner->engine > GATE_ENGINE_LAST || !(is_scheduled(runner) || is_scheduled(hold)))
		return 0;
	collect_channel(c, hold->client, hold->handle,
			(uint32_t)(runner->length / SCHEDULE_ONCE + (runner == hold ? 0 : hold->length / SCHEDULE_ONCE)));
	return 0;
}

static void forget_seen(struct gate_set *set, uint32_t slice)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->channels[i].slice == slice)
			set->channels[i].seen = GATE_UNSEEN;
}

/* A channel that its account does not know may live: a forked child has it, or a peer has told us wrong. */
static void drop_unseen(struct gate_set *set, uint32_t slice)
{
	for (uint32_t i = 0; i < set->count;) {
		struct gate_channel *c = &set->channels[i];

		if (c->slice == slice && c->seen == GATE_UNSEEN && is_shut(c))
			c->seen = GATE_LEAVING;
		if (c->slice == slice && c->seen == GATE_UNSEEN)
			drop(set, i);
		else
			i++;
	}
}

int gate_collect(struct gate_set *set, uint32_t slice, struct account *account, uint32_t account_gpu)
{
	struct collection c = { .set = set, .account = account, .slice = slice, .account_gpu = account_gpu };

	if (slice >= GATE_SLICES)
		return -EINVAL;
	forget_seen(set, slice);
	account_each(account, HOLD_CHANNEL, collect_one, &c);
	drop_unseen(set, slice);
	return c.full ? -ENOSPC : c.count;
}

uint32_t gate_describe(const struct gate_set *set, uint32_t slice, uint32_t first, struct gate_about *ret_list, uint32_t max,
		       uint32_t *ret_total)
{
	uint32_t total = 0, count = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct gate_channel *c = &set->channels[i];

		if (c->slice != slice)
			continue;
		if (total++ >= first && count < max)
			ret_list[count++] = (struct gate_about){ .client = c->client, .handle = c->handle,
								 .schedules = c->schedules };
	}
	*ret_total = total;
	return count;
}

int gate_take(struct gate_set *set, uint32_t slice, const struct gate_about *list, uint32_t count, bool is_first, bool is_last)
{
	struct collection c = { .set = set, .slice = slice };

	if (slice >= GATE_SLICES)
		return -EINVAL;
	if (is_first)
		forget_seen(set, slice);
	for (uint32_t i = 0; i < count; i++)
		collect_channel(&c, list[i].client, list[i].handle, list[i].schedules);
	if (is_last)
		drop_unseen(set, slice);
	return c.full ? -ENOSPC : 0;
}
