/* SPDX-License-Identifier: Apache-2.0 */
/* The device files, through FUSE's low-level interface.
 *
 * FUSE copies an ioctl's argument by the size and direction bits of the request, which the real driver ignores. So the
 * argument is taken as an address in the caller, read and written there, and nothing is given back through FUSE.
 *
 * One thread receives. It answers by itself all that needs no lock of the driver's: so pages of our own files that are
 * touched while an ioctl is at work are always served. It hands ioctls to workers. A last close is noted by it, too,
 * before it receives anything that was sent later; see rm.h for what that is good for. */
#define FUSE_USE_VERSION 312
#include "sim/serve.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim/inodes.h"

enum {
	WORKERS = 8,
	WORKER_STACK = 1 << 20,
	QUEUE_BACKGROUND = 4096,	/* FUSE requests in the background: closes are, and must not be held up */
	ASK_SERIAL = 0x46ff,		/* ioctl that our own process asks its files with; no size, no direction */
};

/* Larger than any address: a page of managed memory is at the offset that is its address. */
#define FILE_BYTES (1ull << 62)

struct request {
	struct request *next;
	struct fuse_buf buf;
};

static struct server {
	struct sim *sim;
	struct fuse_session *session;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct request *first, **last;
	void (*on_ready)(void);
} server = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .last = &server.first };

static const struct {
	const char *name;
	unsigned int inode;
	enum abi_device device;
} fixed_files[] = {
	{ "nvidiactl", INODE_CTL, ABI_DEV_CTL },
	{ "nvidia-uvm", INODE_UVM, ABI_DEV_UVM },
	{ "nvidia-uvm-tools", INODE_UVM_TOOLS, ABI_DEV_UVM_TOOLS },
	{ "fracgpu-sim-state", INODE_STATE, ABI_DEV_NONE },
};
enum { FIXED_FILES = sizeof(fixed_files) / sizeof(fixed_files[0]) };

const char *serve_name(const struct sim *sim, unsigned int index, char buffer[32])
{
	if (index < FIXED_FILES)
		return fixed_files[index].name;
	if (index - FIXED_FILES >= sim->gpu_count)
		return NULL;
	snprintf(buffer, 32, "nvidia%u", index - FIXED_FILES);
	return buffer;
}

static fuse_ino_t serve_inode(unsigned int index)
{
	return INODE_BASE + (index < FIXED_FILES ? fixed_files[index].inode : INODE_GPU + index - FIXED_FILES);
}

static bool fill_attr(fuse_ino_t inode, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = inode;
	st->st_nlink = 1;
	if (inode == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0755;
		return true;
	}
	if (inode < INODE_BASE || inode > INODE_BASE + INODE_GPU + SIM_GPUS)
		return false;
	st->st_mode = S_IFREG | (inode == INODE_BASE + INODE_STATE ? 0444 : 0666);
	st->st_size = inode == INODE_BASE + INODE_STATE ? 0 : (off_t)FILE_BYTES;
	return true;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .attr_timeout = 3600, .entry_timeout = 3600 };
	char buffer[32];
	const char *known;

	for (unsigned int i = 0; parent == FUSE_ROOT_ID && (known = serve_name(server.sim, i, buffer)); i++) {
		if (strcmp(known, name) != 0)
			continue;
		entry.ino = serve_inode(i);
		fill_attr(entry.ino, &entry.attr);
		fuse_reply_entry(req, &entry);
		return;
	}
	fuse_reply_err(req, ENOENT);
}

static void do_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct stat st;

	if (fill_attr(inode, &st))
		fuse_reply_attr(req, &st, 3600);
	else
		fuse_reply_err(req, ENOENT);
}

/* A driver's device file takes any change of its size, owner or times for granted. */
static void do_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	do_getattr(req, inode, fi);
}

static void do_readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char *text = malloc(size);
	char buffer[32];
	const char *name;
	size_t used = 0;

	if (!text) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (unsigned int i = (unsigned int)offset; (name = serve_name(server.sim, i, buffer)); i++) {
		struct stat st;
		size_t length;

		fill_attr(serve_inode(i), &st);
		length = fuse_add_direntry(req, text + used, size - used, name, &st, i + 1);
		if (length > size - used)
			break;
		used += length;
	}
	fuse_reply_buf(req, text, used);
	free(text);
}

/* ---- open files ---- */

/* The state is taken when it is opened, and read as it was then. */
static void open_state(fuse_req_t req, struct fuse_file_info *fi)
{
	char *text = sim_state(server.sim);

	if (!text) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)text;
	fi->direct_io = 1;
	if (fuse_reply_open(req, fi) < 0)
		free(text);
}

static void do_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	unsigned int number = (unsigned int)(inode - INODE_BASE);
	enum abi_device device = ABI_DEV_GPU;
	struct sim_file *file;

	if (number == INODE_STATE) {
		open_state(req, fi);
		return;
	}
	for (unsigned int i = 0; i < FIXED_FILES; i++) {
		if (fixed_files[i].inode == number)
			device = fixed_files[i].device;
	}
	file = sim_file_new(server.sim, device, device == ABI_DEV_GPU ? number - INODE_GPU : 0);
	if (!file) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)file;
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi) < 0)
		sim_file_closed(server.sim, file);
}

static void do_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	if (inode == INODE_BASE + INODE_STATE)
		free((void *)(uintptr_t)fi->fh);
	else
		sim_file_closed(server.sim, (struct sim_file *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void do_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
	const char *text = (const char *)(uintptr_t)fi->fh;
	char *zeros;

	if (inode == INODE_BASE + INODE_STATE) {
		size_t length = strlen(text);
		size_t at = (size_t)offset < length ? (size_t)offset : length;

		fuse_reply_buf(req, text + at, size < length - at ? size : length - at);
		return;
	}
	zeros = calloc(1, size);
	if (zeros)
		fuse_reply_buf(req, zeros, size);
	else
		fuse_reply_err(req, ENOMEM);
	free(zeros);
}

static void do_write(fuse_req_t req, fuse_ino_t inode, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	fuse_reply_write(req, size);
}

static void do_flush(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);	/* never asked again */
}

static void do_fsync(fuse_req_t req, fuse_ino_t inode, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void do_ioctl(fuse_req_t req, fuse_ino_t inode, unsigned int cmd, void *arg, struct fuse_file_info *fi,
		     unsigned int flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz)
{
	struct sim_caller caller = { .sim = server.sim, .tid = fuse_req_ctx(req)->pid };
	int r;

	if (inode == INODE_BASE + INODE_STATE || flags & FUSE_IOCTL_DIR) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	caller.file = (struct sim_file *)(uintptr_t)fi->fh;
	if (cmd == ASK_SERIAL && caller.tid && sim_tgid(caller.tid) == getpid()) {
		fuse_reply_ioctl(req, (int)caller.file->serial, NULL, 0);
		return;
	}
	if (caller.file->device == ABI_DEV_UVM || caller.file->device == ABI_DEV_UVM_TOOLS)
		r = sim_uvm_ioctl(&caller, cmd, (uintptr_t)arg);
	else
		r = sim_ioctl(&caller, cmd, (uintptr_t)arg);
	fuse_reply_ioctl(req, r, NULL, 0);
}

/* Take a copy of the caller's descriptor and ask its file who it is. The receiver answers that by itself. */
uint32_t sim_file_serial(struct sim *sim, pid_t tid, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, sim_tgid(tid), 0);
	int copy = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	struct stat st;
	int serial = 0;

	if (copy >= 0 && fstat(copy, &st) == 0 && st.st_ino >= INODE_BASE && st.st_ino < INODE_BASE + INODE_GPU + SIM_GPUS)
		serial = ioctl(copy, ASK_SERIAL);
	if (copy >= 0)
		close(copy);
	if (pidfd >= 0)
		close(pidfd);
	return serial > 0 ? (uint32_t)serial : 0;
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
	/* buffers must be memory, to be looked into and handed on */
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	/* pages of managed memory live as long as anyone maps them */
	conn->want &= ~(unsigned int)FUSE_CAP_AUTO_INVAL_DATA;
	conn->max_background = QUEUE_BACKGROUND;
	conn->congestion_threshold = QUEUE_BACKGROUND;
}

static const struct fuse_lowlevel_ops operations = {
	.init = do_init,
	.lookup = do_lookup,
	.getattr = do_getattr,
	.setattr = do_setattr,
	.readdir = do_readdir,
	.open = do_open,
	.release = do_release,
	.read = do_read,
	.write = do_write,
	.flush = do_flush,
	.fsync = do_fsync,
	.ioctl = do_ioctl,
};

/* ---- threads ---- */

static void *worker(void *arg)
{
	for (;;) {
		struct request *request;

		pthread_mutex_lock(&server.lock);
		while (!server.first)
			pthread_cond_wait(&server.wake, &server.lock);
		request = server.first;
		server.first = request->next;
		if (!server.first)
			server.last = &server.first;
		pthread_mutex_unlock(&server.lock);
		fuse_session_process_buf(server.session, &request->buf);
		free(request->buf.mem);
		free(request);
	}
	return NULL;
}

/* Whether a request is for the workers: needs the driver's lock or the caller's memory. */
static bool is_for_worker(const struct fuse_buf *buf)
{
	const struct fuse_in_header *header = buf->mem;
	const struct fuse_ioctl_in *in = (const void *)(header + 1);

	if (buf->flags & FUSE_BUF_IS_FD || buf->size < sizeof(*header))
		return false;
	if (header->opcode == FUSE_OPEN)
		return header->nodeid == INODE_BASE + INODE_STATE;
	if (header->opcode != FUSE_IOCTL || buf->size < sizeof(*header) + sizeof(*in))
		return false;
	return in->cmd != ASK_SERIAL;
}

/* Hand the buffer over; it is a new one for the receiver next time. */
static void queue(struct fuse_buf *buf)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request) {
		fuse_session_process_buf(server.session, buf);
		return;
	}
	request->buf = *buf;
	buf->mem = NULL;
	buf->size = 0;
	pthread_mutex_lock(&server.lock);
	*server.last = request;
	server.last = &request->next;
	pthread_cond_signal(&server.wake);
	pthread_mutex_unlock(&server.lock);
}

static int receive_all(int end_fd)
{
	struct fuse_buf buf = { .mem = NULL };
	struct pollfd fds[2] = { { .fd = fuse_session_fd(server.session), .events = POLLIN },
				 { .fd = end_fd, .events = POLLIN } };
	int r = 0;

	while (!fuse_session_exited(server.session)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			break;
		if (!fds[0].revents)
			continue;
		r = fuse_session_receive_buf(server.session, &buf);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		if (is_for_worker(&buf))
			queue(&buf);
		else
			fuse_session_process_buf(server.session, &buf);
		if (server.on_ready) {
			/* the first request is the handshake */
			server.on_ready();
			server.on_ready = NULL;
		}
	}
	free(buf.mem);
	return r < 0 && r != -ENODEV ? r : 0;
}

static int start_workers(void)
{
	pthread_attr_t attr;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	for (int i = 0; i < WORKERS && r == 0; i++) {
		pthread_t thread;

		r = -pthread_create(&thread, &attr, worker, NULL);
	}
	pthread_attr_destroy(&attr);
	return r;
}

int serve(struct sim *sim, const char *mount_point, int end_fd, void (*on_ready)(void), struct error *err)
{
	char name[] = "fracgpu-sim", option[] = "-oallow_other,fsname=fracgpu-sim";
	char *argv[] = { name, option, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	int r;

	server.sim = sim;
	server.on_ready = on_ready;
	sim->uvm_inode = INODE_BASE + INODE_UVM;
	server.session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	fuse_opt_free_args(&args);
	if (!server.session)
		return error_set(err, -EINVAL, "cannot start a FUSE session");
	if (fuse_session_mount(server.session, mount_point) < 0)
		return error_set(err, -EPERM, "cannot mount at '%s' (is /dev/fuse there, and may it be opened?)", mount_point);
	r = start_workers();
	if (r < 0)
		return error_set(err, r, "cannot start threads: %s", strerror(-r));
	r = receive_all(end_fd);
	fuse_session_unmount(server.session);
	if (r < 0)
		return error_set(err, r, "the file system at '%s' failed: %s", mount_point, strerror(-r));
	return 0;
}
