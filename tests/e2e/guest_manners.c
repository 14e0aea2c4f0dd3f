/* SPDX-License-Identifier: Apache-2.0 */
/* The preload library's manners as a guest: a program that does what programs do, and looks whether it
 * shows. */
#include "guest.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char **program;

/* A call before any library was set up. */
static int early_errno;

static void early(int argc, char **argv, char **env)
{
	unsigned char argument[FREE_SIZE] = { 1 };
	int fd;

	(void)env;
	if (argc < 2 || strcmp(argv[1], "early") != 0)
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	if (ioctl(fd, (int)abi_request(NV_ESC_RM_FREE, FREE_SIZE), argument) == -1)
		early_errno = errno;
}

#ifdef __GLIBC__
__attribute__((section(".preinit_array"), used))
static void (*const early_entry)(int, char **, char **) = early;
#endif

static void case_early(void)
{
#ifdef __GLIBC__
	CHECK_EQUAL(early_errno, ENOTTY);
	CHECK_EQUAL(guest_slots(), 1);
#else
	early(0, NULL, NULL);	/* musl has no way in so early */
#endif
}

/* Pointers of every bad kind. */
static void bad_pointers(void)
{
	int fd = guest_open("/dev/nvidiactl");
	char *pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	CHECK_EQUAL(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	CHECK_EQUAL(munmap(pages + 8192, 4096), 0);
	memset(pages, 1, 4096);
	CHECK_EQUAL(guest_call(fd, NULL), EFAULT);
	CHECK_EQUAL(guest_call(fd, (void *)8), EFAULT);
	CHECK_EQUAL(guest_call(fd, (void *)-1L), EFAULT);
	CHECK_EQUAL(guest_call(fd, (void *)(1ul << 63)), EFAULT);
	CHECK_EQUAL(guest_call(fd, pages + 4096), EFAULT);
	CHECK_EQUAL(guest_call(fd, pages + 8192), EFAULT);
	CHECK_EQUAL(guest_call(fd, pages + 4096 - FREE_SIZE + 1), EFAULT);
	CHECK_EQUAL(guest_call(fd, pages + 4096 - FREE_SIZE), ENOTTY);
	CHECK_EQUAL(guest_call(fd, pages + 3), ENOTTY);
}

static void case_bad_pointer(void)
{
	bad_pointers();
}

/* The end of a stack that we are on: what was read there once is no leave to read beyond. */
static void *call_at_stack_end(void *arg)
{
	char *end = arg;
	int fd = guest_open("/dev/nvidiactl");

	for (int i = 0; i < 3; i++) {
		CHECK_EQUAL(guest_good_call(fd), ENOTTY);
		CHECK_EQUAL(guest_call(fd, end), EFAULT);
		CHECK_EQUAL(guest_call(fd, end - FREE_SIZE + 1), EFAULT);
		CHECK_EQUAL(guest_call(fd, end - FREE_SIZE), ENOTTY);
		CHECK_EQUAL(guest_call(fd, end + 4096), ENOTTY);
	}
	return NULL;
}

static void case_stack_end(void)
{
	enum { STACK = 256 * 1024 };
	char *pages = mmap(NULL, STACK + 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attributes;
	pthread_t thread;

	CHECK(pages != MAP_FAILED);
	CHECK_EQUAL(mprotect(pages + STACK, 4096, PROT_NONE), 0);
	memset(pages + STACK + 4096, 1, 4096);
	CHECK_EQUAL(pthread_attr_init(&attributes), 0);
	CHECK_EQUAL(pthread_attr_setstack(&attributes, pages, STACK), 0);
	CHECK_EQUAL(pthread_create(&thread, &attributes, call_at_stack_end, pages + STACK), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

/* A descriptor that becomes another file without our seeing it. */
static void case_dup2(void)
{
	int fd = guest_open("/dev/nvidiactl");
	int other = guest_open("/dev/null");
	uint64_t calls;

	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK_EQUAL(dup2(other, fd), fd);
	calls = guest_ledger()->slots[guest_slot_of(getpid())].calls;
	errno = 0;
	CHECK_EQUAL(ioctl(fd, 0x5401, NULL), -1);
	CHECK_EQUAL(errno, ENOTTY);
	CHECK_EQUAL(guest_ledger()->slots[guest_slot_of(getpid())].calls, calls);
	/* a call that only the driver knows gets this file's own answer */
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK_EQUAL(close(fd), 0);
	CHECK_EQUAL(guest_open("/dev/nvidiactl"), fd);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK(guest_ledger()->slots[guest_slot_of(getpid())].calls > calls);
}

/* Let a system call fail with EPERM, as a container's profile does. */
static void forbid(long number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

static void case_bad_pointer_pipe(void)
{
	forbid(SYS_process_vm_readv);
	forbid(SYS_process_vm_writev);
	bad_pointers();
}

/* Success leaves errno alone, failure sets it. */
static void case_errno(void)
{
	int ends[2], fd, waiting = -1;
	void *p;

	CHECK_EQUAL(guest_good_call(guest_open("/dev/nvidiactl")), ENOTTY);
	CHECK_EQUAL(pipe(ends), 0);
	CHECK_EQUAL(write(ends[1], "abc", 3), 3);
	fd = guest_open("/dev/nvidia0");
	errno = 1234;
	CHECK_EQUAL(ioctl(ends[0], FIONREAD, &waiting), 0);
	CHECK_EQUAL(errno, 1234);
	CHECK_EQUAL(waiting, 3);
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQUAL(errno, 1234);
	CHECK_EQUAL(munmap(p, 4096), 0);
	CHECK_EQUAL(errno, 1234);
	CHECK_EQUAL(close(fd), 0);
	CHECK_EQUAL(errno, 1234);
	CHECK_EQUAL(close(fd), -1);
	CHECK_EQUAL(errno, EBADF);
	CHECK_EQUAL(ioctl(fd, FIONREAD, &waiting), -1);
	CHECK_EQUAL(errno, EBADF);
	CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK_EQUAL(errno, EINVAL);
	CHECK_EQUAL(munmap((void *)1, 4096), -1);
	CHECK_EQUAL(errno, EINVAL);
}

/* Files that are no device of the driver's: as without us, and no slot is taken. */
static void case_others(void)
{
	static const char *const paths[] = { "/dev/null", "/proc/self/maps", "/proc/self/exe", "/" };
	static const unsigned long requests[] = { FIONREAD, TIOCGWINSZ, 0xc020462a, 0xc030462b, FIOCLEX };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int fd = open(paths[i], O_RDONLY | O_CLOEXEC);

		CHECK(fd >= 0);
		for (size_t k = 0; k < sizeof(requests) / sizeof(requests[0]); k++) {
			char ours[64] = { 0 }, raws[64] = { 0 };
			int result, error = 0, raw;

			result = ioctl(fd, (int)requests[k], ours);
			if (result < 0)
				error = errno;
			raw = (int)syscall(SYS_ioctl, fd, requests[k], raws);
			CHECK_EQUAL(result, raw);
			if (raw < 0)
				CHECK_EQUAL(error, errno);
			CHECK(!memcmp(ours, raws, sizeof(ours)));
		}
		CHECK_EQUAL(close(fd), 0);
	}
	CHECK_EQUAL(guest_slots(), 0);
}

static void case_fork(void)
{
	int fd = guest_open("/dev/nvidiactl");
	pid_t pid;

	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK(guest_slot_of(getpid()) >= 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		pid_t grandchild;

		CHECK_EQUAL(guest_good_call(fd), ENOTTY);
		CHECK(guest_slot_of(getpid()) >= 0);
		CHECK(guest_slot_of(getpid()) != guest_slot_of(getppid()));
		CHECK_EQUAL(guest_slots(), 2);
		grandchild = fork();
		if (grandchild == 0) {
			CHECK_EQUAL(guest_good_call(fd), ENOTTY);
			CHECK_EQUAL(guest_slots(), 3);
			_exit(0);
		}
		guest_reap(grandchild);
		_exit(0);
	}
	guest_reap(pid);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
}

/* fork() while other threads are inside the library. */
static void *call_without_end(void *arg)
{
	for (;;)
		CHECK_EQUAL(guest_good_call(*(int *)arg), ENOTTY);
	return NULL;
}

static void case_fork_threads(void)
{
	int fd = guest_open("/dev/nvidiactl");
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		CHECK_EQUAL(pthread_create(&thread, NULL, call_without_end, &fd), 0);
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			CHECK_EQUAL(guest_good_call(fd), ENOTTY);
			CHECK(guest_slot_of(getpid()) >= 0);
			_exit(0);
		}
		guest_reap(pid);
	}
	_exit(0);
}

/* A vfork child lives in its parent's memory, where it must change nothing. */
static void vfork_call(int fd, int want)
{
	static volatile int seen;
	pid_t pid;

	seen = -1;
	pid = vfork();
	CHECK(pid >= 0);
	if (pid == 0) {
		seen = guest_good_call(fd);
		syscall(SYS_close_range, 3, ~0u, 0);
		_exit(0);
	}
	guest_reap(pid);
	CHECK_EQUAL(seen, want);
}

static void case_vfork(void)
{
	int fd = guest_open("/dev/nvidiactl");
	int slot;

	/* Its slot would end with it, while the parent goes on: refused. */
	vfork_call(fd, EACCES);
	CHECK_EQUAL(guest_slots(), 0);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	slot = guest_slot_of(getpid());
	CHECK(slot >= 0);
	for (int i = 0; i < 10; i++)
		vfork_call(fd, ENOTTY);
	CHECK_EQUAL(guest_slots(), 1);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK_EQUAL(guest_slot_of(getpid()), slot);
	CHECK_EQUAL(guest_slots(), 1);
}

static void case_exec(void)
{
	int fd = guest_open("/dev/nvidiactl");
	char *words[] = { program[0], (char *)"once", NULL };
	pid_t pid;

	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	pid = fork();
	if (pid == 0) {
		CHECK_EQUAL(guest_good_call(fd), ENOTTY);
		execv(words[0], words);
		_exit(1);
	}
	guest_reap(pid);
	execv(words[0], words);
	CHECK(!"exec");
}

/* What is run after exec(): the slots of before are dead. */
static void case_once(void)
{
	CHECK_EQUAL(guest_good_call(guest_open("/dev/nvidiactl")), ENOTTY);
	CHECK(guest_slot_of(getpid()) >= 0);
	CHECK(guest_slots() <= 2);
}

static void *call_often(void *arg)
{
	for (int i = 0; i < 500; i++)
		CHECK_EQUAL(guest_good_call(*(int *)arg), ENOTTY);
	return NULL;
}

static void case_threads(void)
{
	int fd = guest_open("/dev/nvidiactl");
	pthread_attr_t small;
	pthread_t threads[8];

	/* the stack that musl gives a thread by itself */
	CHECK_EQUAL(pthread_attr_init(&small), 0);
	CHECK_EQUAL(pthread_attr_setstacksize(&small, 128 << 10), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQUAL(pthread_create(&threads[i], &small, call_often, &fd), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	CHECK_EQUAL(guest_slots(), 1);
	CHECK_EQUAL(guest_ledger()->slots[guest_slot_of(getpid())].calls, 8 * 500);
}

/* The first thread ends before the others. */
static void *call_after_main(void *arg)
{
	int fd = guest_open("/dev/nvidiactl");

	CHECK_EQUAL(pthread_join(*(pthread_t *)arg, NULL), 0);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK_EQUAL(guest_call(fd, (void *)8), EFAULT);
	exit(0);
}

static void case_main_ends(void)
{
	static pthread_t self;
	pthread_t thread;

	self = pthread_self();
	CHECK_EQUAL(pthread_create(&thread, NULL, call_after_main, &self), 0);
	pthread_exit(NULL);
}

/* Calls from signal handlers that interrupt calls. */
static int handler_fd;
static volatile sig_atomic_t handled;

static void on_signal(int number)
{
	int saved = errno;

	(void)number;
	CHECK_EQUAL(guest_good_call(handler_fd), ENOTTY);
	handled++;
	errno = saved;
}

static void *send_signals(void *arg)
{
	pthread_t target = *(pthread_t *)arg;

	for (int sent = 0; sent < 2000; sent++) {
		int seen = handled;

		CHECK_EQUAL(pthread_kill(target, SIGUSR1), 0);
		while (handled == seen)
			sched_yield();
	}
	return NULL;
}

static void case_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	static pthread_t self;
	pthread_t thread;

	handler_fd = guest_open("/dev/nvidiactl");
	self = pthread_self();
	CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
	CHECK_EQUAL(pthread_create(&thread, NULL, send_signals, &self), 0);
	while (handled < 2000)
		CHECK_EQUAL(guest_good_call(handler_fd), ENOTTY);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(guest_slots(), 1);
}

/* Programs that close everything. */
static void case_closed(void)
{
	int fd = guest_open("/dev/nvidiactl");
	int slot;
	pid_t pid;

	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	slot = guest_slot_of(getpid());
	CHECK(slot >= 0);
	for (int i = 3; i < 4096; i++)
		close(i);
	fd = guest_open("/dev/nvidiactl");
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK_EQUAL(guest_slot_of(getpid()), slot);
	/* behind our back: what it holds moves to a new slot */
	CHECK_EQUAL(syscall(SYS_close_range, 3, ~0u, 0), 0);
	for (int i = 0; i < 700; i++)	/* files of the program take the number that was the ledger's */
		guest_open("/dev/null");
	fd = guest_open("/dev/nvidiactl");
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
	CHECK(guest_slot_of(getpid()) >= 0);
	CHECK_EQUAL(guest_slots(), 1);
	pid = fork();
	if (pid == 0) {
		for (int i = 3; i < 4096; i++)
			close(i);
		CHECK_EQUAL(guest_good_call(guest_open("/dev/nvidiactl")), ENOTTY);
		CHECK_EQUAL(guest_slots(), 2);
		_exit(0);
	}
	guest_reap(pid);
	CHECK_EQUAL(guest_good_call(fd), ENOTTY);
}

/* Without a ledger nothing reaches the driver, everything else goes on, and the reason is where it was
 * asked for. */
static void case_no_ledger(void)
{
	char text[1024] = { 0 };
	int fd = guest_open("/dev/nvidiactl"), uvm = guest_open("/dev/nvidia-uvm");
	int debug, ends[2], waiting = 0;
	void *place = (void *)0x700000000000;

	CHECK_EQUAL(guest_good_call(fd), EACCES);
	CHECK_EQUAL(guest_call(guest_open("/dev/nvidia0"), NULL), EACCES);
	CHECK_EQUAL(guest_good_call(uvm), EACCES);
	CHECK(mmap(place, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, uvm, (long)place) == MAP_FAILED);
	CHECK_EQUAL(errno, EACCES);
	CHECK_EQUAL(pipe(ends), 0);
	CHECK_EQUAL(ioctl(ends[0], FIONREAD, &waiting), 0);
	debug = open(guest_file("debug"), O_RDONLY | O_CLOEXEC);
	CHECK(debug >= 0);
	CHECK(read(debug, text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "cannot open the slice's ledger path=/dev/slice/ledger errno=2"));
}

/* Devices by number, as the driver's own are. Opened by name only: there is no driver behind them, so a call that is
 * let through fails with EBADF. */
static int call_number(unsigned int major_number, unsigned int minor_number)
{
	int fd, error;

	if (mknod("/dev/node", S_IFCHR | 0600, makedev(major_number, minor_number)) < 0)
		_exit(77);	/* not as a user */
	fd = open("/dev/node", O_PATH | O_CLOEXEC);
	CHECK(fd >= 0);
	error = guest_good_call(fd);
	CHECK_EQUAL(close(fd), 0);
	CHECK_EQUAL(unlink("/dev/node"), 0);
	return error;
}

static void numbers(int ctl, int uvm, int modeset)
{
	CHECK_EQUAL(call_number(195, 255), ctl);
	CHECK_EQUAL(call_number(195, 254), modeset);
	CHECK_EQUAL(call_number(511, 0), uvm);
	CHECK_EQUAL(call_number(511, 1), uvm);
	CHECK_EQUAL(call_number(510, 0), EBADF);
	CHECK_EQUAL(call_number(1, 3), EBADF);
	CHECK_EQUAL(call_number(226, 128), EBADF);
}

static void case_numbers(void)
{
	/* The request is none of UVM's or of a GPU's. */
	numbers(EBADF, EINVAL, EACCES);
	CHECK_EQUAL(call_number(195, 0), EINVAL);
	CHECK_EQUAL(guest_slots(), 1);
}

static void case_numbers_no_ledger(void)
{
	numbers(EACCES, EACCES, EACCES);
	CHECK_EQUAL(call_number(195, 0), EACCES);
}

/* A kernel that cannot wipe a page in forked children (before Linux 4.14). */
static void case_fork_old_kernel(void)
{
	char *words[] = { program[0], (char *)"fork", NULL };

	forbid(SYS_madvise);
	execv(words[0], words);
	CHECK(!"exec");
}

static const struct guest_case cases[] = {
	{ "early", case_early },
	{ "bad-pointer", case_bad_pointer },
	{ "bad-pointer-pipe", case_bad_pointer_pipe },
	{ "stack-end", case_stack_end },
	{ "dup2", case_dup2 },
	{ "errno", case_errno },
	{ "others", case_others },
	{ "fork", case_fork },
	{ "fork-threads", case_fork_threads },
	{ "fork-old-kernel", case_fork_old_kernel },
	{ "vfork", case_vfork },
	{ "exec", case_exec },
	{ "once", case_once },
	{ "threads", case_threads },
	{ "main-ends", case_main_ends },
	{ "signals", case_signals },
	{ "closed", case_closed },
	{ "numbers", case_numbers },
	{ "numbers-no-ledger", case_numbers_no_ledger },
	{ "no-ledger", case_no_ledger },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	program = argv;
	return guest_main(cases, argc, argv);
}
