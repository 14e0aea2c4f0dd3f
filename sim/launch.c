/* SPDX-License-Identifier: Apache-2.0 */
/* A program in a mount namespace that has the simulated device files.
 *
 * Three processes: this one waits and forwards signals; the server holds the file system; the program. The namespace has
 * a /dev of its own: everything of the old one, bound in, and our files. The server ends when the pipe from this process
 * does, however this process ends, and takes with it whatever is still in the namespace; then the mounts are gone too. */
#include "sim/launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "sim/serve.h"

#define CHARDEV_LIBRARY "libfracgpu-sim-chardev.so"
#define SIM_MOUNT "/dev/.fracgpu-sim"

struct launched {
	pid_t server, program;
	int end;		/* the server lives while this is open */
};

/* ---- namespaces ---- */

static int write_file(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

/* As root a mount namespace; else a user namespace around it, in which the user stays who they are. */
static int enter_namespaces(struct error *err)
{
	char map[64];
	unsigned int uid = geteuid(), gid = getegid();

	if (unshare(CLONE_NEWNS) < 0) {
		if (errno != EPERM || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return error_set(err, -errno, "cannot make a mount namespace: %s (are user namespaces allowed?)",
					 strerror(errno));
		snprintf(map, sizeof(map), "%u %u 1", uid, uid);
		write_file("/proc/self/setgroups", "deny");
		if (write_file("/proc/self/uid_map", map) < 0)
			return error_set(err, -EPERM, "cannot write /proc/self/uid_map");
		snprintf(map, sizeof(map), "%u %u 1", gid, gid);
		if (write_file("/proc/self/gid_map", map) < 0)
			return error_set(err, -EPERM, "cannot write /proc/self/gid_map");
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, -errno, "cannot make the mounts private: %s", strerror(errno));
	return 0;
}

/* ---- /dev ---- */

static int bind_file(const char *from, const char *to)
{
	int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);

	if (fd < 0)
		return -errno;
	close(fd);
	return mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

/* One entry of the old /dev into the new one. What cannot be bound is left out. */
static void bind_entry(int old, const char *name)
{
	char from[320], to[320], link[320];
	struct stat st;
	ssize_t length;

	if (fstatat(old, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	snprintf(from, sizeof(from), "/proc/self/fd/%d/%s", old, name);
	snprintf(to, sizeof(to), "/dev/%s", name);
	if (S_ISLNK(st.st_mode)) {
		length = readlinkat(old, name, link, sizeof(link) - 1);
		link[length > 0 ? length : 0] = '\0';
		if (symlink(link, to) < 0)
			return;
	} else if (S_ISDIR(st.st_mode)) {
		if (mkdir(to, 0755) == 0 && mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
			rmdir(to);
	} else if (bind_file(from, to) < 0) {
		unlink(to);
	}
}

static int build_dev(struct error *err)
{
	cleanup_dir DIR *dir = opendir("/dev");
	struct dirent *entry;

	if (!dir)
		return error_set(err, -errno, "cannot read /dev: %s", strerror(errno));
	if (mount("fracgpu-sim", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=1m") < 0)
		return error_set(err, -errno, "cannot mount a new /dev: %s", strerror(errno));
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strncmp(entry->d_name, "nvidia", 6) != 0)
			bind_entry(dirfd(dir), entry->d_name);
	}
	return 0;
}

/* A FUSE file system, mounted, of which the descriptor is not served yet. */
static int mount_fuse(struct error *err)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR);

	if (fd < 0)
		return error_set(err, -errno, "cannot open /dev/fuse: %s (is the module loaded, is it in this container?)",
				 strerror(errno));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other", fd, geteuid(),
		 getegid());
	if (mkdir(SIM_MOUNT, 0755) < 0 ||
	    mount("fracgpu-sim", SIM_MOUNT, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		error_set(err, -errno, "cannot mount the device files: %s", strerror(errno));
		close(fd);
		return err->code;
	}
	return fd;
}

static int bind_device_files(struct sim *sim, struct error *err)
{
	char buffer[32], from[64], to[64];
	const char *name;
	int r;

	for (unsigned int i = 0; (name = serve_name(sim, i, buffer)); i++) {
		snprintf(from, sizeof(from), SIM_MOUNT "/%s", name);
		snprintf(to, sizeof(to), "/dev/%s", name);
		r = bind_file(from, to);
		if (r < 0)
			return error_set(err, r, "cannot make '%s': %s", to, strerror(-r));
	}
	if (umount2(SIM_MOUNT, MNT_DETACH) == 0)
		rmdir(SIM_MOUNT);
	return 0;
}

/* ---- the server ---- */

static bool in_our_namespace(pid_t pid)
{
	char path[64];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	return stat("/proc/self/ns/mnt", &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino;
}

/* End what the program left behind in the namespace, and see it gone. */
static void kill_rest(pid_t launcher)
{
	cleanup_dir DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		struct pollfd gone = { .events = POLLIN };

		if (pid <= 0 || pid == getpid() || pid == launcher || !in_our_namespace(pid))
			continue;
		gone.fd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (gone.fd >= 0 && in_our_namespace(pid) && syscall(SYS_pidfd_send_signal, gone.fd, SIGKILL, NULL, 0) == 0)
			poll(&gone, 1, 10000);
		if (gone.fd >= 0)
			close(gone.fd);
	}
}

static void __attribute__((noreturn)) run_server(struct sim *sim, int fuse_fd, int end, pid_t launcher)
{
	char mount_point[32];
	struct error err;
	int r;

	setsid();
	prctl(PR_SET_NAME, "fracgpu-sim");
	signal(SIGPIPE, SIG_IGN);
	snprintf(mount_point, sizeof(mount_point), "/dev/fd/%d", fuse_fd);
	r = serve(sim, mount_point, end, NULL, &err);
	if (r < 0)
		fprintf(stderr, "fracgpu-sim: %s\n", err.text);
	/* first the connection: nobody may wait for an answer while it is ended */
	close(fuse_fd);
	kill_rest(launcher);
	_exit(r < 0 ? 1 : 0);
}

static int start_server(struct sim *sim, struct launched *l, struct error *err)
{
	pid_t launcher = getpid();
	int ends[2];
	int fuse_fd = mount_fuse(err);

	if (fuse_fd < 0)
		return fuse_fd;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	l->server = fork();
	if (l->server == 0) {
		close(ends[1]);
		run_server(sim, fuse_fd, ends[0], launcher);
	}
	close(fuse_fd);
	close(ends[0]);
	l->end = ends[1];
	if (l->server < 0)
		return error_set(err, -errno, "cannot start the server: %s", strerror(errno));
	return bind_device_files(sim, err);
}

/* ---- the program ---- */

/* Programs that look at the type of the device files are shown character devices: chardev.c. The library is beside this
 * program in the build tree, and where it is installed. */
static void preload_chardev(void)
{
	const char *others = getenv("LD_PRELOAD");
	char path[512], value[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof("/" CHARDEV_LIBRARY));
	char *name;

	path[length > 0 ? length : 0] = '\0';
	name = strrchr(path, '/');
	strcpy(name ? name + 1 : path, CHARDEV_LIBRARY);
	if (!name || access(path, R_OK) < 0)
		snprintf(path, sizeof(path), "%s/%s", CHARDEV_FOLDER, CHARDEV_LIBRARY);
	if (access(path, R_OK) < 0)
		return;		/* the files are what they are */
	if (snprintf(value, sizeof(value), "%s%s%s", path, others ? ":" : "", others ? others : "") < (int)sizeof(value))
		setenv("LD_PRELOAD", value, 1);
}

static void __attribute__((noreturn)) run_program(char **argv, const sigset_t *mask, pid_t launcher)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != launcher)
		_exit(1);
	sigprocmask(SIG_SETMASK, mask, NULL);
	preload_chardev();
	execvp(argv[0], argv);
	fprintf(stderr, "fracgpu-sim: cannot run '%s': %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Until the program ends. What the terminal sends goes to the whole process group, the program included. */
static int wait_for_program(struct launched *l, const sigset_t *signals)
{
	for (;;) {
		siginfo_t info;
		int status;
		pid_t pid;

		if (sigwaitinfo(signals, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD) {
			if (info.si_code != SI_KERNEL)
				kill(l->program, info.si_signo);
			continue;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == l->program)
				return exit_status(status);
			if (pid == l->server)
				l->server = -1;
		}
	}
}

int launch(struct sim *sim, char **argv, struct error *err)
{
	static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGCHLD };
	struct launched l = { .server = -1, .program = -1, .end = -1 };
	pid_t self = getpid();
	sigset_t signals, old;
	int r;

	r = enter_namespaces(err);
	if (r == 0)
		r = build_dev(err);
	if (r < 0)
		return r;
	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(&signals, forwarded[i]);
	signal(SIGCHLD, SIG_DFL);
	r = start_server(sim, &l, err);
	if (r == 0) {
		sigprocmask(SIG_BLOCK, &signals, &old);
		l.program = fork();
		if (l.program == 0)
			run_program(argv, &old, self);
		r = l.program < 0 ? error_set(err, -errno, "cannot fork: %s", strerror(errno)) :
				    wait_for_program(&l, &signals);
	}
	if (l.end >= 0)
		close(l.end);
	if (l.server > 0)
		waitpid(l.server, NULL, 0);
	return r;
}
