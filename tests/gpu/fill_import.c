/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that another process allocated: by CUDA IPC, and by a descriptor of cuMemCreate's. */
#include "gpu/fill.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The exporter's answer; the descriptor comes beside it. */
struct offer {
	int status;
	struct cu_ipc_handle ipc;
};

static void send_offer(int socket, const struct offer *offer, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)offer, sizeof(*offer) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	if (sendmsg(socket, &message, 0) < 0)
		_exit(1);
}

static int receive_offer(int socket, struct offer *offer, int *ret_fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { offer, sizeof(*offer) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	*ret_fd = -1;
	if (recvmsg(socket, &message, MSG_WAITALL) != sizeof(*offer))
		return -1;
	if (CMSG_FIRSTHDR(&message))
		memcpy(ret_fd, CMSG_DATA(&control.header), sizeof(*ret_fd));
	return 0;
}

/* Answer each byte with one more block. A handle of cuMemCreate is let go at once: then only the importer holds it. */
static void export_all(struct fill *f, int socket, bool by_fd)
{
	struct cu_allocation_prop prop = { .type = 1, .handle_types = CU_HANDLE_POSIX_FD, .location = { 1, 0 } };
	uint64_t handle = 0, address;
	char request;

	if (cuda_start(&f->cu))
		_exit(1);
	while (read(socket, &request, 1) == 1) {
		struct offer offer = { 0 };
		int fd = -1;

		if (request == 'x' && handle) {		/* it was imported */
			f->cu.vmm_release(handle);
			handle = 0;
			continue;
		}
		if (by_fd) {
			offer.status = f->cu.vmm_create(&handle, f->step_bytes, &prop, 0);
			if (!offer.status)
				offer.status = f->cu.vmm_export(&fd, handle, CU_HANDLE_POSIX_FD, 0);
			if (offer.status)
				handle = 0;
		} else {
			offer.status = f->cu.mem_alloc(&address, f->step_bytes);
			if (!offer.status)
				offer.status = f->cu.ipc_export(&offer.ipc, address);
		}
		send_offer(socket, &offer, fd);
		if (fd >= 0)
			close(fd);
	}
	_exit(0);
}

static int fork_exporter(struct fill *f, bool by_fd)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	f->exporter_pid = fork();
	if (f->exporter_pid == 0) {
		close(ends[0]);
		export_all(f, ends[1], by_fd);
	}
	close(ends[1]);
	f->exporter = ends[0];
	return f->exporter_pid < 0 ? -1 : 0;
}

int import_before_ipc(struct fill *f)
{
	return fork_exporter(f, false);
}

int import_before_fd(struct fill *f)
{
	return fork_exporter(f, true);
}

int import_take_ipc(struct fill *f, struct block *b)
{
	struct offer offer;
	int fd;

	if (f->exporter < 0)
		return plain_take(f, b);
	if (write(f->exporter, "?", 1) != 1 || receive_offer(f->exporter, &offer, &fd) < 0)
		return -1;
	return offer.status ? offer.status : f->cu.ipc_import(&b->address, offer.ipc, CU_IPC_LAZY_PEER_ACCESS);
}

int import_take_fd(struct fill *f, struct block *b)
{
	struct offer offer;
	int fd, r;

	if (f->exporter < 0)
		return plain_take(f, b);
	if (write(f->exporter, "?", 1) != 1 || receive_offer(f->exporter, &offer, &fd) < 0)
		return -1;
	if (offer.status)
		return offer.status;
	r = f->cu.vmm_import(&b->handle, (void *)(intptr_t)fd, CU_HANDLE_POSIX_FD);
	close(fd);
	if (write(f->exporter, "x", 1) != 1)
		return -1;
	if (r)
		return r;
	r = vmm_map_handle(f, b->handle, &b->address);
	if (r)
		f->cu.vmm_release(b->handle);
	return r;
}

void import_give(struct fill *f, struct block *b)
{
	if (b->is_plain) {
		f->cu.mem_free(b->address);
	} else if (b->handle) {
		f->cu.vmm_unmap(b->address, f->step_bytes);
		f->cu.vmm_unreserve(b->address, f->step_bytes);
		f->cu.vmm_release(b->handle);
	} else {
		f->cu.ipc_close(b->address);
	}
}

void import_orphan(struct fill *f)
{
	if (f->exporter < 0)
		return;
	kill(f->exporter_pid, SIGKILL);
	waitpid(f->exporter_pid, NULL, 0);
	close(f->exporter);
	f->exporter = -1;
}
