/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of a slice's socket. */
#include "cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { PATIENCE_S = 15 };

static int reach(const char *slice_path, int *ret_socket)
{
	cleanup_close int dir = open(slice_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (dir < 0 || peer < 0)
		return -errno;
	/* directories have longer names than an address has room */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control", dir);
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(peer, (struct sockaddr *)&address, sizeof(address)) < 0)
		return errno == ENOENT ? -ECONNREFUSED : -errno;
	*ret_socket = TAKE_FD(peer);
	return 0;
}

static int send_line(int peer, json_t *request)
{
	cleanup_free char *text = json_dumps(request, JSON_COMPACT);
	cleanup_free char *line = NULL;
	int size = text ? asprintf(&line, "%s\n", text) : -1;

	if (size < 0)
		return -ENOMEM;
	/* who refuses us may have answered and closed already */
	if (send(peer, line, (size_t)size, MSG_NOSIGNAL) != size && errno != EPIPE)
		return -errno;
	return 0;
}

int control_ask(const char *slice_path, json_t *request, json_t **ret_answer, struct error *err)
{
	cleanup_close int peer = -1;
	cleanup_file FILE *stream = NULL;
	const char *refusal;
	json_t *answer;
	int r = reach(slice_path, &peer);

	if (r == 0)
		r = send_line(peer, request);
	json_decref(request);
	if (r == -ENOENT)
		return error_set(err, r, "there is no such slice");
	if (r == -ECONNREFUSED)
		return error_set(err, r, "nobody drives this slice: who served it is gone");
	stream = r == 0 ? fdopen(peer, "r") : NULL;
	if (!stream)
		return error_set(err, r < 0 ? r : -errno, "cannot ask who serves this slice: %s",
				 strerror(r < 0 ? -r : errno));
	peer = -1; /* the stream's */
	answer = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);
	if (!answer)
		return error_set(err, -EIO, "who serves this slice does not answer");
	refusal = json_string_value(json_object_get(answer, "error"));
	if (refusal) {
		error_set(err, -EREMOTEIO, "%s", refusal);
		json_decref(answer);
		return -EREMOTEIO;
	}
	*ret_answer = answer;
	return 0;
}
