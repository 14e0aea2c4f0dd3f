/* SPDX-License-Identifier: Apache-2.0 */
/* Files in a slice's directory that say whose it is, and the socket beside them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/daemon.h"

enum { WAIT_S = 30 };

static void path_of(const char *dir, const char *name, char path[IDENTITY_PATH])
{
	if (name)
		snprintf(path, IDENTITY_PATH, "%s/in-%s", dir, name);
	else
		snprintf(path, IDENTITY_PATH, "%s/container", dir);
}

int identity_read(const char *dir, const char *name, struct identity *ret_identity)
{
	char path[IDENTITY_PATH];
	const char *id;
	json_t *all;
	int r = -EINVAL;

	path_of(dir, name, path);
	if (access(path, F_OK) < 0)
		return -ENOENT;
	all = json_load_file(path, 0, NULL);
	id = json_string_value(json_object_get(all, "id"));
	if (id && strlen(id) < sizeof(ret_identity->id)) {
		*ret_identity = (struct identity){
			.uid = (uid_t)json_integer_value(json_object_get(all, "uid")),
			.is_standing = json_is_true(json_object_get(all, "standing")),
			.is_open = json_is_true(json_object_get(all, "open")),
		};
		memcpy(ret_identity->id, id, strlen(id) + 1);
		r = 0;
	}
	json_decref(all);
	return r;
}

int identity_write(const char *dir, const char *name, const struct identity *identity, pid_t pid,
		   const json_t *annotations)
{
	char path[IDENTITY_PATH];
	json_t *all =
		json_pack("{s:s,s:i,s:i,s:b,s:b}", "id", identity->id, "uid", (int)identity->uid, "pid",
			  (int)pid, "standing", (int)identity->is_standing, "open", (int)identity->is_open);
	int r;

	if (annotations)
		json_object_set(all, "annotations", (json_t *)annotations);
	path_of(dir, name, path);
	r = json_dump_file(all, path, JSON_COMPACT);
	json_decref(all);
	return r < 0 ? -EIO : 0;
}

void identity_forget(const char *dir, const char *name)
{
	char path[IDENTITY_PATH];

	path_of(dir, name, path);
	unlink(path);
}

int agent_address(const char *dir, struct sockaddr_un *ret_address, struct error *err)
{
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(dir) + sizeof("/agent") > sizeof(ret_address->sun_path))
		return error_set(err, -ENAMETOOLONG, "'%s' is too long a path", dir);
	sprintf(ret_address->sun_path, "%s/agent", dir);
	return 0;
}

int agent_send(const char *dir, const struct supervisor_message *text, int listener, struct error *err)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval wait = { .tv_sec = WAIT_S };
	struct iovec io = { (void *)text, sizeof(*text) };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
	struct sockaddr_un address;
	int32_t code = 0;
	int r = agent_address(dir, &address, err);

	if (r < 0)
		return r;
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(err, -ENOENT, "nobody serves it");
	if (listener >= 0) {
		memcpy(CMSG_DATA(&control.header), &listener, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 || recv(fd, &code, sizeof(code), 0) != sizeof(code))
		return error_set(err, -EIO, "the process that serves it does not answer");
	return code < 0 ? error_set(err, code, "the process that serves it says: %s", strerror(-code)) : 0;
}
