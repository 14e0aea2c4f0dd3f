/* SPDX-License-Identifier: Apache-2.0 */
/* src/cli: reading options, names and directories of slices, and the program that `fracgpu run` starts. */
#include "cli/runtime.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/options.h"
#include "cli/program.h"

static char folder[] = "/tmp/fracgpu-test-XXXXXX";

static const char *opt_size, *opt_flag;

static const struct option_row rows[] = {
	{ "size", "SIZE", "a value", &opt_size },
	{ "flag", NULL, "a switch", &opt_flag },
	{ NULL },
};

static void test_options(void **state)
{
	static const struct {
		const char *argv[6];
		bool takes_words;
		int first, status;
		const char *size, *flag;
	} cases[] = {
		{ { "v" }, true, 1, 0, NULL, NULL },
		{ { "v", "--size", "1", "--flag" }, false, 4, 0, "1", "" },
		{ { "v", "--size=1", "prog", "--flag" }, true, 2, 0, "1", NULL },
		{ { "v", "--flag", "--", "--size" }, true, 3, 0, NULL, "" },
		{ { "v", "--size" }, true, 0, EXIT_USAGE, NULL, NULL },
		{ { "v", "--other" }, true, 0, EXIT_USAGE, NULL, NULL },
		{ { "v", "-x" }, true, 0, EXIT_USAGE, NULL, NULL },
		{ { "v", "--flag=1" }, true, 0, EXIT_USAGE, NULL, NULL },
		{ { "v", "word" }, false, 0, EXIT_USAGE, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct verb verb = { "v", "", "Summary", rows, cases[i].takes_words, NULL };
		char *argv[6];
		int argc = 0;
		int status = 0;

		while (cases[i].argv[argc]) {
			argv[argc] = (char *)cases[i].argv[argc];
			argc++;
		}
		argv[argc] = NULL;
		opt_size = opt_flag = NULL;
		assert_int_equal(options_parse(&verb, argc, argv, &status), cases[i].first);
		assert_int_equal(status, cases[i].status);
		if (!cases[i].first)
			continue;
		assert_true(!cases[i].size == !opt_size &&
			    (!opt_size || strcmp(opt_size, cases[i].size) == 0));
		assert_true(!cases[i].flag == !opt_flag);
	}
}

static void test_names(void **state)
{
	char name[SLICE_NAME], longest[SLICE_NAME + 1];

	memset(longest, 'x', sizeof(longest));
	longest[SLICE_NAME] = '\0';
	assert_false(slice_name_is_valid(longest));
	longest[SLICE_NAME - 1] = '\0';
	assert_true(slice_name_is_valid(longest));
	assert_true(slice_name_is_valid("a.B_c-9"));
	assert_false(slice_name_is_valid(""));
	assert_false(slice_name_is_valid(".."));
	assert_false(slice_name_is_valid("a/b"));
	assert_false(slice_name_is_valid("a b"));
	slice_name_make("/usr/bin/python3", 17, name);
	assert_string_equal(name, "python3-17");
	slice_name_make("./.my prog", 17, name);
	assert_string_equal(name, "_my_prog-17");
	slice_name_make("/very/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			2147483647, name);
	assert_true(slice_name_is_valid(name));
	assert_non_null(strstr(name, "-2147483647"));
}

static int make(struct slice_dir *dir, const char *name, struct error *err)
{
	int r = slice_dir_make(dir, folder, name, err);

	if (r == 0)
		slice_dir_ready(dir);
	return r;
}

static int count_slices(const char *path, const char *name, void *arg)
{
	(*(int *)arg)++;
	return 0;
}

static void test_slice_dirs(void **state)
{
	struct slice_dir dir, other, third;
	char path[PATH_MAX];
	struct error err;
	int count = 0;
	pid_t child;
	int status;

	assert_int_equal(make(&dir, "one", &err), 0);
	assert_true(slice_is_alive(dir.path));
	assert_int_equal(make(&other, "one", &err), -EEXIST);
	assert_non_null(strstr(err.text, "one"));
	assert_int_equal(make(&other, "two", &err), 0);
	slices_each(folder, count_slices, &count);
	assert_int_equal(count, 2);
	slice_dir_done(&other);
	assert_int_equal(access(other.path, F_OK), -1);

	/* whoever made a slice may be killed: what is left is found dead, and cleaned away by the next one */
	child = fork();
	if (child == 0)
		_exit(make(&third, "three", &err) == 0 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	snprintf(path, sizeof(path), "%s/three", folder);
	assert_int_equal(access(path, F_OK), 0);
	assert_false(slice_is_alive(path));
	assert_int_equal(make(&third, "three", &err), 0);
	slice_dir_done(&third);
	assert_int_equal(make(&other, "two", &err), 0);
	assert_true(slice_is_alive(dir.path));
	slice_dir_done(&other);
	slice_dir_done(&dir);
	count = 0;
	slices_each(folder, count_slices, &count);
	assert_int_equal(count, 0);
}

static void write_file(const char *name, const void *content, size_t size, mode_t mode, char path[PATH_MAX])
{
	int fd;

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, size), size);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_find(void **state)
{
	char found[PATH_MAX], path[PATH_MAX], *saved = strdup(getenv("PATH"));
	struct error err;

	assert_int_equal(program_find("sh", found, &err), 0);
	assert_int_equal(found[0], '/');
	assert_int_equal(program_find("no-such-program", found, &err), -ENOENT);
	assert_int_equal(program_find("", found, &err), -ENOENT);
	assert_int_equal(program_find("/no/such/program", found, &err), -ENOENT);
	assert_int_equal(program_find("/tmp", found, &err), -EACCES);
	write_file("plain", "x", 1, 0644, path);
	assert_int_equal(program_find(path, found, &err), -EACCES);
	setenv("PATH", folder, 1);
	assert_int_equal(program_find("plain", found, &err), -EACCES);
	write_file("plain", "x", 1, 0755, path);
	assert_int_equal(program_find("plain", found, &err), 0);
	assert_string_equal(found, path);
	setenv("PATH", saved, 1);
	free(saved);
	unlink(path);
}

static void test_takes_preload(void **state)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
		char loader[32];
	} program = { .loader = "/lib/ld-musl-x86_64.so.1" };
	char path[PATH_MAX], script[PATH_MAX], text[PATH_MAX + 8];
	const char *library = NULL;
	struct error err;
	int fd;

	assert_int_equal(program_takes_preload("/proc/self/exe", &library, &err), 0);
	assert_string_equal(library, LIBRARY_GLIBC);

	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, &program.header, sizeof(program.header)), sizeof(program.header));
	close(fd);
	program.header.e_phoff = offsetof(typeof(program), segment);
	program.header.e_phnum = 1;
	program.segment.p_type = PT_INTERP;
	program.segment.p_offset = offsetof(typeof(program), loader);
	write_file("musl", &program, sizeof(program), 0755, path);
	assert_int_equal(program_takes_preload(path, &library, &err), 0);
	assert_string_equal(library, LIBRARY_MUSL);

	/* a script is as its interpreter is */
	snprintf(text, sizeof(text), "#! %s -x\n", path);
	write_file("script", text, strlen(text), 0755, script);
	assert_int_equal(program_takes_preload(script, &library, &err), 0);
	assert_string_equal(library, LIBRARY_MUSL);

	program.segment.p_type = PT_LOAD;
	write_file("musl", &program, sizeof(program), 0755, path);
	assert_int_equal(program_takes_preload(path, &library, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "static"));
	assert_non_null(strstr(err.text, "--door supervisor"));
	assert_int_equal(program_takes_preload(script, &library, &err), -ENOTSUP);

	program.segment.p_type = PT_INTERP;
	program.header.e_ident[EI_CLASS] = ELFCLASS32;
	write_file("musl", &program, sizeof(program), 0755, path);
	assert_int_equal(program_takes_preload(path, &library, &err), -ENOTSUP);
	program.header.e_ident[EI_CLASS] = ELFCLASS64;
	if (geteuid() == 0) {
		write_file("musl", &program, sizeof(program), 0755, path);
		assert_int_equal(chown(path, 1, 1), 0);
		assert_int_equal(chmod(path, 04755), 0);
		assert_int_equal(program_takes_preload(path, &library, &err), -ENOTSUP);
		assert_non_null(strstr(err.text, "rights"));
	}
	write_file("loop", text, (size_t)snprintf(text, sizeof(text), "#!%s/loop\n", folder), 0755, script);
	assert_int_equal(program_takes_preload(script, &library, &err), -ENOTSUP);
	unlink(path);
	unlink(script);
	snprintf(path, sizeof(path), "%s/script", folder);
	unlink(path);
}

static int read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	int number = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &number), 1);
	fclose(file);
	assert_true(number > 1);
	return number;
}

static int run_shell(const char *command)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };

	return program_run("/bin/sh", argv, NULL, NULL);
}

static void test_run(void **state)
{
	char *argv[] = { (char *)"x", (char *)"3", NULL };
	char path[PATH_MAX];

	assert_int_equal(run_shell("exit 0"), 0);
	assert_int_equal(run_shell("exit 77"), 77);
	assert_int_equal(run_shell("kill -KILL $$"), 128 + SIGKILL);
	/* what we are told goes on to the program, which decides; kill(1) sends it to us, its parent */
	assert_int_equal(run_shell("trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"), 5);
	assert_int_equal(run_shell("kill -HUP $PPID; while :; do sleep 0.05; done"), 128 + SIGHUP);
	/* what the program leaves behind belongs to the slice, and is waited for */
	assert_int_equal(run_shell("(sleep 0.2; echo 77 >$FOLDER/done) & exit 4"), 4);
	snprintf(path, sizeof(path), "%s/done", folder);
	assert_int_equal(read_number(path), 77);
	unlink(path);
	assert_int_equal(program_run("/no/such/file", argv, NULL, NULL), EXIT_NOT_FOUND);
	write_file("bad", "exit $1\n", 8, 0755, path); /* no "#!": the shell's */
	assert_int_equal(program_run(path, argv, NULL, NULL), 3);
	unlink(path);
}

static void test_preload_comes_first(void **state)
{
	setenv("LD_PRELOAD", "", 1);
	assert_int_equal(
		program_run("/bin/sh", (char *[]){ "sh", "-c", "test \"$LD_PRELOAD\" = /x", NULL }, "/x", NULL), 0);
	unsetenv("LD_PRELOAD");
}

static int prepare(void **state)
{
	return mkdtemp(folder) && setenv("FOLDER", folder, 1) == 0 ? 0 : -1;
}

static int clean(void **state)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/.lock", folder);
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_slice_dirs),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_takes_preload),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_preload_comes_first),
	};

	/* Ignored signals stay so in our children, and who is started by nohup, or in the background, ignores these. */
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	return cmocka_run_group_tests(tests, prepare, clean);
}
