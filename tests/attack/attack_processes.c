/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks with processes: other programs, children that end at any time, descriptors that travel, the slice's
 * own files, the end of who watches. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "attack.h"
#include "ledger/ledger.h"

static struct test_rm rm;
static const char *argument; /* of the attack, from attack.py's caller */

static void fill_plainly(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	say_bytes("got", fill(&rm));
}

/* The first word of this program's own command. */
static char *self(void)
{
	static char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	CHECK(length > 0);
	path[length] = '\0';
	return path;
}

/* ---- another program in the same process ---- */

static void unset(void)
{
	char *words[] = { self(), (char *)"plain", NULL };
	char *nothing[] = { NULL };

	execve(words[0], words, nothing);
	CHECK(!"started");
}

static void other_program(void)
{
	char *words[] = { (char *)argument, (char *)"plain", NULL };

	execv(words[0], words);
	CHECK(!"started");
}

/* What a program is told by its environment is for it to read. */
static void environment(void)
{
	char *words[] = { self(), (char *)"plain", NULL };
	static const char *const lies[] = { "GPU_MEM_LIMIT_GB",
					    "NVIDIA_GPU_MEMORY_LIMIT",
					    "CUDA_DEVICE_MEMORY_LIMIT",
					    "CUDA_DEVICE_MEMORY_LIMIT_0",
					    "FRACGPU_MEMORY",
					    "FRACGPU_LIMIT",
					    "FRACGPU_DOOR",
					    "FRACGPU_LEDGER",
					    "FRACGPU_SLICE",
					    "XDG_RUNTIME_DIR" };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		setenv(lies[i], "65536", 1);
	execv(words[0], words);
	CHECK(!"started");
}

static void close_all(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	fill(&rm);
	CHECK_EQUAL(syscall(SYS_close_range, 3u, ~0u, 0u), 0);
	fill_plainly();
}

/* What a child takes after the parent has closed all. */
static void close_all_child(void)
{
	pid_t pid;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
	pid = fork();
	if (pid == 0) {
		syscall(SYS_close_range, 3u, ~0u, 0u);
		fill_plainly();
		_exit(0);
	}
	reap(pid);
}

/* ---- processes that end ---- */

struct child {
	pid_t pid;
	int to, from;
};

/* A child that fills, says so, and waits. */
static struct child start_child(uint64_t bytes, void (*then)(void))
{
	struct child child;
	int to[2], from[2];
	char c;

	CHECK_EQUAL(pipe2(to, O_CLOEXEC), 0);
	CHECK_EQUAL(pipe2(from, O_CLOEXEC), 0);
	child.pid = fork();
	CHECK(child.pid >= 0);
	if (child.pid == 0) {
		close(to[1]);
		close(from[0]);
		CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
		for (uint64_t sum = 0; sum < bytes; sum += CHUNK) {
			uint64_t chunk = CHUNK;

			CHECK_EQUAL(test_rm_vidmem(&rm, &chunk, NULL), NV_OK);
		}
		if (then)
			then();
		CHECK_EQUAL(write(from[1], "x", 1), 1);
		while (read(to[0], &c, 1) > 0)
			;
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	child.to = to[1];
	child.from = from[0];
	CHECK_EQUAL(read(child.from, &c, 1), 1);
	return child;
}

static void kill_child(const struct child *child)
{
	int status;

	CHECK_EQUAL(kill(child->pid, SIGKILL), 0);
	CHECK_EQUAL(waitpid(child->pid, &status, 0), child->pid);
	close(child->to);
	close(child->from);
}

static void killed(void)
{
	for (int round = 0; round < 4; round++) {
		struct child children[4];

		for (int i = 0; i < 4; i++)
			children[i] = start_child(LIMIT / 4, NULL);
		for (int i = 0; i < 4; i++)
			kill_child(&children[i]);
	}
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

static pid_t keeper;
static int keeper_end[2] = { -1, -1 };

/* A grandchild that has the files and does nothing. */
static void fork_keeper(void)
{
	char c;

	keeper = fork();
	if (keeper == 0) {
		close(keeper_end[1]);
		while (read(keeper_end[0], &c, 1) > 0)
			;
		_exit(0);
	}
}

/* The same, as another program. */
static void exec_keeper(void)
{
	keeper = fork();
	if (keeper == 0) {
		char number[16];
		char *words[] = { self(), (char *)"keep", number, NULL };

		close(keeper_end[1]);
		snprintf(number, sizeof(number), "%d", keeper_end[0]);
		fcntl(keeper_end[0], F_SETFD, 0);
		fcntl(rm.ctl, F_SETFD, 0);
		fcntl(rm.gpu, F_SETFD, 0);
		execv(words[0], words);
		_exit(127);
	}
}

static void keep(void)
{
	int fd = atoi(argument);
	char c;

	while (read(fd, &c, 1) > 0)
		;
}

/* Who took the memory is killed; its files live on with somebody else, and the memory with them. */
static void kept(void (*by)(void))
{
	struct child child;

	CHECK_EQUAL(pipe2(keeper_end, O_CLOEXEC), 0);
	child = start_child(LIMIT / 2, by);
	kill_child(&child);
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	say_bytes("then got", fill(&rm));
	close(keeper_end[1]);
}

static void kept_by_fork(void)
{
	kept(fork_keeper);
}

static void kept_by_exec(void)
{
	kept(exec_keeper);
}

/* Whose parent is gone is still in its slice. */
static void daemon_(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		_exit(0);
	setsid();
	pid = fork();
	CHECK(pid >= 0);
	if (pid)
		_exit(0);
	fill_plainly();
}

static void vfork_(void)
{
	pid_t pid;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (int i = 0; i < TRIES; i++) {
		pid = vfork();
		if (pid == 0) {
			uint64_t bytes = CHUNK;

			test_rm_vidmem(&rm, &bytes, NULL);
			_exit(0);
		}
		reap(pid);
	}
	say_bytes("then got", fill(&rm));
}

/* ---- descriptors that travel: an accomplice outside of the slice ---- */

static int send_file(int sock, int fd, const void *data, size_t size)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec io = { (void *)(uintptr_t)data, size };
	struct msghdr message = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &message, 0) == (ssize_t)size ? 0 : -1;
}

static int receive_file(int sock, void *data, size_t size)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec io = { data, size };
	struct msghdr message = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int fd;

	CHECK_EQUAL(recvmsg(sock, &message, 0), size);
	CHECK(CMSG_FIRSTHDR(&message));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	CHECK_EQUAL(connect(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	return sock;
}

/* The accomplice: takes memory through a file that it is given, if asked to, and keeps the file until its
 * input ends. */
static void outside(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	uint32_t handles[3];
	char c;
	int sock;

	CHECK_EQUAL(test_rm_open_files(&rm, 0), NV_OK); /* for the layout */
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argument);
	CHECK_EQUAL(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQUAL(listen(server, 1), 0);
	puts("ready");
	fflush(stdout);
	sock = accept(server, NULL, NULL);
	rm.ctl = receive_file(sock, handles, sizeof(handles));
	rm.client = handles[0];
	rm.device = handles[1];
	for (uint32_t i = 0; i < handles[2]; i++) {
		uint64_t bytes = CHUNK;

		CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, NULL), NV_OK);
	}
	CHECK_EQUAL(write(sock, "x", 1), 1);
	while (read(0, &c, 1) > 0)
		;
}

/* The accomplice takes memory in the tenant's name. */
static void accomplice_takes(void)
{
	int sock = connect_to(argument);
	uint32_t handles[3];
	char c;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
	handles[0] = rm.client;
	handles[1] = rm.device;
	handles[2] = 8;
	CHECK_EQUAL(send_file(sock, rm.ctl, handles, sizeof(handles)), 0);
	CHECK_EQUAL(read(sock, &c, 1), 1);
	stay_if_over();
}

static void give_file(void)
{
	uint32_t handles[3] = { rm.client, rm.device, 0 };
	int sock = connect_to(argument);
	char c;

	CHECK_EQUAL(send_file(sock, rm.ctl, handles, sizeof(handles)), 0);
	CHECK_EQUAL(read(sock, &c, 1), 1);
}

/* The accomplice keeps the file of a process that ends. */
static void accomplice_keeps(void)
{
	struct child child = start_child(LIMIT / 2, give_file);

	kill_child(&child);
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	say_bytes("then got", fill(&rm));
}

/* ---- the slice's own files, and who watches ---- */

/* attack.py says where they are. */
static const char *slice_dir(void)
{
	CHECK(getenv("ATTACK_SLICE"));
	return getenv("ATTACK_SLICE");
}

static void remove_slice(void)
{
	DIR *dir = opendir(slice_dir());
	const struct dirent *entry;
	int removed = 0;

	CHECK(dir);
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	while ((entry = readdir(dir)))
		removed += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
	closedir(dir);
	CHECK(removed > 0);
	say_bytes("got", fill(&rm));
}

static void raise_limit(void)
{
	char path[512];
	struct ledger *ledger;
	int fd;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(fill(&rm), LIMIT);
	snprintf(path, sizeof(path), "%s/ledger", slice_dir());
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(ledger != MAP_FAILED);
	CHECK_EQUAL(ledger->account.limit_bytes[0], LIMIT);
	ledger->account.limit_bytes[0] = 4 * LIMIT;
	ledger->account.used_bytes[0] = 0;
	say_bytes("then got", fill(&rm));
}

/* `fracgpu run` is killed. The supervisor with it: no call to the driver succeeds any more, old files or new.
 * The preload door needs nobody. */
static void kill_watcher(void)
{
	bool is_supervised = argument && !strcmp(argument, "supervisor");
	pid_t watcher = getppid();
	struct test_rm other;
	uint64_t bytes = CHUNK;

	open_all(&rm);
	CHECK_EQUAL(test_rm_vidmem(&rm, &bytes, NULL), NV_OK);
	CHECK_EQUAL(kill(watcher, SIGKILL), 0);
	while (getppid() == watcher)
		sched_yield();
	if (is_supervised) {
		CHECK(test_rm_vidmem(&rm, &bytes, NULL) < 0);
		CHECK(test_rm_open(&other, 0) < 0);
		CHECK(!test_managed(&rm, CHUNK));
		CHECK(test_rm_free(&rm, rm.client, rm.client) < 0);
		CHECK_EQUAL(fill(&rm), 0);
	} else {
		CHECK_EQUAL(fill(&rm), LIMIT - CHUNK);
	}
	puts("done");
}

static const struct attack attacks[] = {
	{ "plain", fill_plainly },
	{ "unset", unset },
	{ "other-program", other_program },
	{ "environment", environment },
	{ "close-all", close_all },
	{ "close-all-child", close_all_child },
	{ "killed", killed },
	{ "kept-by-fork", kept_by_fork },
	{ "kept-by-exec", kept_by_exec },
	{ "keep", keep },
	{ "daemon", daemon_ },
	{ "vfork", vfork_ },
	{ "outside", outside },
	{ "accomplice-takes", accomplice_takes },
	{ "accomplice-keeps", accomplice_keeps },
	{ "remove-slice", remove_slice },
	{ "raise-limit", raise_limit },
	{ "kill-watcher", kill_watcher },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	argument = argc > 2 ? argv[2] : NULL;
	return attack_main(attacks, argc, argv);
}
