/* SPDX-License-Identifier: Apache-2.0 */
/* Whole lines for the file that FRACGPU_DEBUG names, and for nothing else. */
#include "preload/debug.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/syscall.h"

static char debug_file[256];	/* empty: no lines */
static bool debug_calls;

void debug_init(void)
{
	static const char calls[] = "calls:";
	const char *value = secure_getenv("FRACGPU_DEBUG");

	if (!value)
		return;
	if (!strncmp(value, calls, sizeof(calls) - 1)) {
		debug_calls = true;
		value += sizeof(calls) - 1;
	}
	/* a relative name would follow the program's working directory */
	if (value[0] == '/' && strlen(value) < sizeof(debug_file))
		memcpy(debug_file, value, strlen(value) + 1);
}

bool debug_is_on(void)
{
	return debug_file[0];
}

bool debug_has_calls(void)
{
	return debug_file[0] && debug_calls;
}

void debug_text(struct debug_line *line, const char *text)
{
	while (*text && line->used < sizeof(line->text))
		line->text[line->used++] = *text++;
}

static void debug_digits(struct debug_line *line, uint64_t number, unsigned int base)
{
	char digits[24];
	size_t n = sizeof(digits);

	digits[--n] = '\0';
	do {
		digits[--n] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	debug_text(line, digits + n);
}

void debug_number(struct debug_line *line, int64_t number)
{
	if (number < 0)
		debug_text(line, "-");
	debug_digits(line, number < 0 ? -(uint64_t)number : (uint64_t)number, 10);
}

void debug_hex(struct debug_line *line, uint64_t number)
{
	debug_text(line, "0x");
	debug_digits(line, number, 16);
}

void debug_write(const struct debug_line *line)
{
	struct debug_line whole = { 0 };
	int fd;

	if (!debug_file[0])
		return;
	fd = sys_openat(AT_FDCWD, debug_file,
			O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	if (fd < 0)
		return;
	debug_text(&whole, "fracgpu pid=");
	debug_number(&whole, sys_getpid());
	debug_text(&whole, " ");
	for (size_t i = 0; i < line->used && whole.used < sizeof(whole.text) - 1; i++)
		whole.text[whole.used++] = line->text[i];
	if (whole.used == sizeof(whole.text))
		whole.used--;
	whole.text[whole.used++] = '\n';
	/* one write: lines of many processes do not mix */
	SYS_CALL(SYS_write, fd, whole.text, whole.used);
	sys_close(fd);
}
