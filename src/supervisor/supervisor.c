/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's main thread: starts the program, watches, passes signals on, and ends with the last task. */
#include "supervisor/supervisor.h"

#include <cap-ng.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/filter.h"
#include "supervisor/internal.h"
#include "supervisor/listener.h"
#include "supervisor/spawn.h"

static const int passed_on[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT };

enum { PASSED_ON = sizeof(passed_on) / sizeof(passed_on[0]) };

/* What the process was before, and is again after. */
struct before {
	sigset_t mask;
	void *capabilities;
	struct rlimit files;
	int dumpable, subreaper;
};

/* The driver judges privileges by the thread that calls: ours must not have any, or tenants had them with us. Looking
 * into processes of other users needs SYS_PTRACE, ending them KILL. Permitted ones stay, for afterwards. */
static void lower_capabilities(void)
{
	capng_get_caps_process();
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (cap != CAP_SYS_PTRACE && cap != CAP_KILL)
			capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, (unsigned int)cap);
	}
	capng_apply(CAPNG_SELECT_CAPS);
}

static void block_signals(sigset_t *ret_blocked, sigset_t *ret_before)
{
	sigemptyset(ret_blocked);
	sigaddset(ret_blocked, SIGCHLD);
	for (int i = 0; i < PASSED_ON; i++)
		sigaddset(ret_blocked, passed_on[i]);
	pthread_sigmask(SIG_BLOCK, ret_blocked, ret_before);
}

void supervisor_harden(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	/* programs of the same user may not look into us or change us */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	lower_capabilities();
}

/* After the program has started with what we had. */
static void change_process(struct before *before)
{
	getrlimit(RLIMIT_NOFILE, &before->files);
	before->dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
	before->subreaper = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &before->subreaper, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	capng_get_caps_process();
	before->capabilities = capng_save_state();
	supervisor_harden();
}

static void restore_process(struct before *before)
{
	if (before->capabilities) {
		capng_restore_state(&before->capabilities);
		capng_apply(CAPNG_SELECT_CAPS);
	}
	prctl(PR_SET_CHILD_SUBREAPER, before->subreaper, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, before->dumpable == 1, 0, 0, 0);
	setrlimit(RLIMIT_NOFILE, &before->files);
}

/* Collect the ended. The program's end and stops are ours to tell. */
static void reap(struct supervisor *s, int *ret_status, bool *has_ended)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != s->program)
			continue;
		if (!WIFSTOPPED(status)) {
			*ret_status = status;
			*has_ended = true;
		} else if (WSTOPSIG(status) != SIGSTOP) {
			/* the terminal stopped it: stop with it, so that the shell takes over */
			kill(getpid(), SIGSTOP);
		}
	}
}

static void pass_on(struct supervisor *s, const struct signalfd_siginfo *info)
{
	/* the terminal's signals go to the whole group, the program among it */
	if (info->ssi_code != SI_KERNEL)
		kill(s->program, (int)info->ssi_signo);
}

static void read_signals(struct supervisor *s, int signals, int *ret_status, bool *has_ended)
{
	struct signalfd_siginfo info;

	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(s, ret_status, has_ended);
		else if (!*has_ended)
			pass_on(s, &info);
	}
}

static int watch_fd(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Until the last task with the filter is gone. */
static void loop(struct supervisor *s, int signals, int *ret_status)
{
	bool has_ended = false, is_over = false;

	while (!is_over) {
		struct epoll_event events[32];
		int count = epoll_wait(s->epoll, events, 32, watch_tick(s));
		eventfd_t value;

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == signals)
				read_signals(s, signals, ret_status, &has_ended);
			else if (events[i].data.fd == s->wake)
				eventfd_read(s->wake, &value);
			else if (events[i].data.fd == s->serving.listener)
				is_over = true;
			else
				watch_reclaim(s);	/* a process has ended */
		}
	}
	if (!has_ended && waitpid(s->program, ret_status, 0) < 0)
		*ret_status = 0;
}

static void serve_program(struct supervisor *s, int signals, const struct supervisor_options *options, int *ret_status)
{
	if (options->started)
		options->started(s->ledger, options->arg);
	loop(s, signals, ret_status);
	if (options->ended)
		options->ended(options->arg);
}

static int exec_program(void *arg)
{
	char *const *argv = arg;

	execvp(argv[0], argv);
	return -errno;
}

int supervisor_prepare(struct supervisor *s, const struct supervisor_options *options, struct error *err)
{
	pthread_rwlockattr_t prefer_writer;
	int code = engine_init(&s->engine, options->settings->driver, s->ledger);

	if (code < 0)
		return error_set(err, code, "driver version '%s' is not one of %s", options->settings->driver,
				 abi_supported());
	s->engine.show_host = options->show_host;
	s->ledger->ledger->show_host = options->show_host;
	s->published = options->published;
	s->kill_on_breach = options->kill_on_breach;
	s->serving = (struct serving){ .supervisor = s, .listener = -1 };
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll < 0 || s->wake < 0 || watch_fd(s->epoll, s->wake, EPOLLIN) < 0)
		return error_set(err, -errno, "cannot watch for events: %s", strerror(errno));
	pthread_rwlockattr_init(&prefer_writer);
	pthread_rwlockattr_setkind_np(&prefer_writer, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	code = -pthread_rwlock_init(&s->calls, &prefer_writer);
	pthread_rwlockattr_destroy(&prefer_writer);
	if (code == 0)
		code = -pthread_mutex_init(&s->sweep, NULL);
	if (code == 0)
		code = processes_init(&s->processes, s->ledger, s->epoll);
	if (code < 0)
		return error_set(err, code, "cannot make a lock: %s", strerror(-code));
	atomic_store(&s->is_dirty, true);
	watch_prepare(s);
	return 0;
}

void supervisor_close(struct supervisor *s)
{
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->wake >= 0)
		close(s->wake);
	if (s->serving.listener >= 0)
		close(s->serving.listener);
}

/* Serve what spawn_filtered() started. */
static int serve(struct supervisor *s, struct spawned *spawned, int signals, char *const argv[],
		 const struct supervisor_options *options, int *ret_status, struct error *err)
{
	struct before before;
	int code;

	s->program = spawned->pid;
	s->serving.listener = spawned->listener;
	s->serving.is_interruptible = !filter_waits_killable();
	code = listener_prepare(s->serving.listener);
	change_process(&before);
	if (code == 0)
		code = serve_start(&s->serving);
	if (code == 0)
		code = watch_fd(s->epoll, s->serving.listener, 0);	/* hang-up is always told */
	if (code == 0)
		code = watch_fd(s->epoll, signals, EPOLLIN);
	if (code < 0)
		kill(s->program, SIGKILL);
	if (code < 0) {
		close(spawned->report);
		error_set(err, code, "cannot serve '%s': %s", argv[0], strerror(-code));
	} else {
		code = spawn_wait_started(spawned);
		if (code < 0)
			error_set(err, code, "cannot run '%s': %s", argv[0], strerror(-code));
	}
	if (code < 0)
		waitpid(s->program, NULL, 0);
	else
		serve_program(s, signals, options, ret_status);
	serve_stop(&s->serving);
	watch_reclaim(s);
	atomic_store(&s->is_dirty, true);
	watch_publish(s);
	processes_done(&s->processes);
	restore_process(&before);
	return code;
}

static int run(struct supervisor *s, char *const argv[], const struct supervisor_options *options, int *ret_status,
	       struct error *err)
{
	cleanup_close int signals = -1;
	sigset_t blocked, before;
	struct spawned spawned;
	struct filter filter;
	int code = supervisor_prepare(s, options, err);

	if (code < 0)
		return code;
	filter_make(&filter, &s->engine);
	block_signals(&blocked, &before);
	signals = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		code = error_set(err, -errno, "cannot watch for signals: %s", strerror(errno));
	if (code == 0)
		code = spawn_filtered(&filter, exec_program, (void *)argv, &before, &spawned, err);
	if (code == 0)
		code = serve(s, &spawned, signals, argv, options, ret_status, err);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

int supervisor_run(char *const argv[], const struct supervisor_options *options, int *ret_status, struct error *err)
{
	cleanup_free struct supervisor *s = calloc(1, sizeof(*s));
	struct ledger_handle ledger = { .fd = -1 };
	int code;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->epoll = s->wake = s->serving.listener = -1;
	s->ledger = &ledger;
	code = rm_open(&s->rm, err);
	if (code < 0)
		return code;
	code = ledger_create(&ledger, NULL, options->settings, err);
	if (code == 0) {
		code = run(s, argv, options, ret_status, err);
		supervisor_close(s);
		ledger_close(&ledger);
	}
	rm_close(&s->rm);
	return code;
}
