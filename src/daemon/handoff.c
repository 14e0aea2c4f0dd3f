/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of a hand-off (ContainerProcessState of the runtime specification). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"

static bool copy_text(char *to, size_t size, const json_t *from)
{
	const char *text = json_string_value(from);

	if (!text || strlen(text) >= size)
		return false;
	memcpy(to, text, strlen(text) + 1);
	return true;
}

/* Letters that runtimes allow in ids. */
static bool is_id(const char *id)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+._-";

	return *id && id[0] != '.' && strspn(id, letters) == strlen(id);
}

int handoff_parse(const char *text, size_t size, struct handoff *h, struct error *err)
{
	json_error_t fault;
	/* the sender keeps its end open (runc 1.1): the end of the text is where the object ends */
	json_t *all = json_loadb(text, size, JSON_DISABLE_EOF_CHECK, &fault);
	const json_t *state = json_object_get(all, "state");
	int r = 0;

	if (!all && json_error_code(&fault) == json_error_premature_end_of_input)
		return -EAGAIN;
	if (!state || !copy_text(h->id, sizeof(h->id), json_object_get(state, "id")) || !is_id(h->id) ||
	    !copy_text(h->status, sizeof(h->status), json_object_get(state, "status")))
		r = error_set(err, -EINVAL, "this is no hand-off of a seccomp listener");
	if (r == 0 && json_object_get(all, "metadata") &&
	    !copy_text(h->metadata, sizeof(h->metadata), json_object_get(all, "metadata")))
		r = error_set(err, -EINVAL, "the metadata is too long");
	if (r == 0 && json_object_get(state, "bundle") &&
	    !copy_text(h->bundle, sizeof(h->bundle), json_object_get(state, "bundle")))
		r = error_set(err, -EINVAL, "the name of the bundle is too long");
	if (r == 0) {
		h->is_open = json_is_true(json_object_get(all, "open"));
		h->pid = (pid_t)json_integer_value(json_object_get(all, "pid"));
		h->annotations = json_incref(json_object_get(state, "annotations"));
	}
	json_decref(all);
	return r;
}

void handoff_done(struct handoff *h)
{
	if (h->listener >= 0)
		close(h->listener);
	h->listener = -1;
	json_decref(h->annotations);
	h->annotations = NULL;
}
