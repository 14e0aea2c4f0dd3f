/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program in a child and standing in for it until it ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/options.h"
#include "cli/program.h"

/* Signals that one sends to a program to talk to it. SIGTSTP and the like are left to job control. */
static const int passed[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH };

static int put_first(const char *library)
{
	const char *others = getenv("LD_PRELOAD");
	cleanup_free char *value = NULL;

	if (asprintf(&value, "%s%s%s", library, others && *others ? ":" : "", others ? others : "") < 0)
		return -ENOMEM;
	return setenv("LD_PRELOAD", value, 1) < 0 ? -errno : 0;
}

/* Become the program. Tells errno through the pipe when that fails. */
static void __attribute__((noreturn)) become(const char *path, char **argv, const char *preload, int report)
{
	int failure = preload ? -put_first(preload) : 0;

	if (!failure) {
		execv(path, argv);
		failure = errno;
	}
	if (failure == ENOEXEC) {
		size_t count = 0;
		char **words;

		while (argv[count])
			count++;
		words = calloc(count + 2, sizeof(*words));
		if (words) {
			words[0] = (char *)"/bin/sh";
			words[1] = (char *)path;
			for (size_t i = 1; i < count; i++)
				words[i + 1] = argv[i];
			execv(words[0], words);
		}
	}
	if (write(report, &failure, sizeof(failure)) < 0)
		_exit(EXIT_OURS);
	_exit(EXIT_CANNOT_RUN);
}

/* Wait until the child ends, passing signals on. Returns its exit status. */
static int wait_for(pid_t child, const sigset_t *set)
{
	siginfo_t info;
	int status;
	pid_t pid;

	for (;;) {
		/* what the program leaves behind is ours: we are its reaper */
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == child)
				return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status)
							   : WEXITSTATUS(status);
		}
		/* a key pressed at the terminal went to the whole group, the program included */
		if (sigwaitinfo(set, &info) > 0 && info.si_signo != SIGCHLD && info.si_code != SI_KERNEL)
			kill(child, info.si_signo);
	}
}

int program_run(const char *path, char **argv, const char *preload, const struct program_watch *watch)
{
	cleanup_close int report = -1, told = -1;
	sigset_t set, old;
	int failure = 0;
	int ends[2];
	pid_t child;
	int status;

	if (pipe2(ends, O_CLOEXEC) < 0) {
		complain("cannot make a pipe: %s", strerror(errno));
		return EXIT_OURS;
	}
	told = ends[0];
	report = ends[1];
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		sigaddset(&set, passed[i]);
	signal(SIGCHLD, SIG_DFL); /* ignored by our parent, it would leave us nothing to wait for */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigprocmask(SIG_BLOCK, &set, &old);
	child = fork();
	if (child == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		become(path, argv, preload, report);
	}
	if (child < 0) {
		complain("cannot start a process: %s", strerror(errno));
		return EXIT_OURS;
	}
	close(TAKE_FD(report));
	if (read(told, &failure, sizeof(failure)) == sizeof(failure))
		complain("cannot run '%s': %s", path, strerror(failure));
	else if (watch)
		watch->started(watch->arg);
	status = wait_for(child, &set);
	sigprocmask(SIG_SETMASK, &old, NULL); /* from here on signals are for us: they end the waiting */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return failure == ENOENT ? EXIT_NOT_FOUND : status;
}
