/* SPDX-License-Identifier: Apache-2.0 */
/* The config.json of an OCI bundle. */
#include "runtime/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/profile.h"
#include "wire/wire.h"

/* A number that jansson's 64-bit signed integers do not hold becomes a string that starts so, and back. */
static const char big_written[] = "\"\\u0001big:";

enum { BIG_DIGITS = 19, CONFIG_MAX = 16 << 20 };

static char *read_all(const char *path, struct error *err)
{
	cleanup_file FILE *file = fopen(strcmp(path, "-") == 0 ? "/dev/stdin" : path, "re");
	cleanup_free char *text = NULL;
	size_t size = 0;
	FILE *memory;
	char part[4096];
	size_t n;

	if (!file) {
		error_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
		return NULL;
	}
	memory = open_memstream(&text, &size);
	while (memory && size < CONFIG_MAX && (n = fread(part, 1, sizeof(part), file)) > 0)
		fwrite(part, 1, n, memory);
	if (!memory || fclose(memory) != 0 || ferror(file) || size >= CONFIG_MAX) {
		error_set(err, -EIO, "cannot read '%s'", path);
		return NULL;
	}
	return TAKE_PTR(text);
}

/* The text with every long whole number outside of strings made a string. NULL without memory. */
static char *quote_big(const char *text)
{
	cleanup_free char *quoted = NULL;
	size_t size;
	FILE *memory = open_memstream(&quoted, &size);
	bool in_string = false;

	while (memory && *text) {
		size_t digits = in_string ? 0 : strspn(text, "0123456789");

		if (digits >= BIG_DIGITS && !strchr(".eE", text[digits])) {
			fprintf(memory, "\"\\u0001big:%.*s\"", (int)digits, text);
			text += digits;
			continue;
		}
		if (digits) {
			fwrite(text, 1, digits, memory);
			text += digits;
			continue;
		}
		if (in_string && *text == '\\' && text[1])
			fputc(*text++, memory);
		else if (*text == '"')
			in_string = !in_string;
		fputc(*text++, memory);
	}
	if (!memory || fclose(memory) != 0)
		return NULL;
	return TAKE_PTR(quoted);
}

json_t *config_read(const char *path, struct error *err)
{
	cleanup_free char *text = read_all(path, err);
	cleanup_free char *quoted = NULL;
	json_error_t fault;
	json_t *config;

	if (!text)
		return NULL;
	quoted = quote_big(text);
	if (!quoted) {
		error_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	config = json_loads(quoted, JSON_REJECT_DUPLICATES, &fault);
	if (!config) {
		error_set(err, -EINVAL, "'%s', line %d, column %d: %s", path, fault.line, fault.column, fault.text);
		return NULL;
	}
	if (!json_is_object(config)) {
		json_decref(config);
		error_set(err, -EINVAL, "'%s' is JSON, but no object", path);
		return NULL;
	}
	return config;
}

static void print_unquoted(FILE *file, const char *text)
{
	const char *found;

	while ((found = strstr(text, big_written)) != NULL) {
		size_t digits = strspn(found + sizeof(big_written) - 1, "0123456789");

		fwrite(text, 1, (size_t)(found - text), file);
		fwrite(found + sizeof(big_written) - 1, 1, digits, file);
		text = found + sizeof(big_written) - 1 + digits + 1;
	}
	fputs(text, file);
}

int config_print(const json_t *config, FILE *file, struct error *err)
{
	cleanup_free char *text = json_dumps(config, JSON_INDENT(2));

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	print_unquoted(file, text);
	fputc('\n', file);
	return 0;
}

int config_write(const json_t *config, const char *path, struct error *err)
{
	cleanup_free char *text = json_dumps(config, JSON_COMPACT);
	char made[PATH_MAX];
	struct stat st;
	FILE *file;
	int fd;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	if (stat(path, &st) < 0)
		return error_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	snprintf(made, sizeof(made), "%s.fracgpu", path);
	unlink(made);
	fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 07777);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file)
		return error_set(err, -errno, "cannot make '%s': %s", made, strerror(errno));
	if (fchown(fd, st.st_uid, st.st_gid) < 0 && geteuid() == 0)
		error_set(err, -errno, "cannot give '%s' to its owner", made);
	print_unquoted(file, text);
	if (fflush(file) != 0 || ferror(file) || rename(made, path) < 0) {
		int code = error_set(err, errno ? -errno : -EIO, "cannot write '%s': %s", path, strerror(errno));

		fclose(file);
		unlink(made);
		return code;
	}
	fclose(file);
	return 0;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static const json_t *at(const json_t *object, const char *first, const char *second)
{
	const json_t *inner = json_object_get(object, first);

	return second ? json_object_get(inner, second) : inner;
}

static bool is_driver_path(const char *path)
{
	return strncmp(path, "/dev/nvidia", 11) == 0 || strcmp(path, "/dev") == 0;
}

/* Split "NAME=VALUE". False when it is no such thing. */
static bool split(const char *variable, char *ret_name, size_t size, const char **ret_value)
{
	const char *equals = strchr(variable, '=');

	if (!equals || (size_t)(equals - variable) >= size)
		return false;
	memcpy(ret_name, variable, (size_t)(equals - variable));
	ret_name[equals - variable] = '\0';
	*ret_value = equals + 1;
	return true;
}

/* What the environment asks for, and whether NVIDIA's toolkit would give it a GPU. */
static int read_environment(const json_t *config, struct wire_ask *ask, bool *ret_toolkit, struct error *err)
{
	const json_t *environment = at(config, "process", "env");

	*ret_toolkit = false;
	for (size_t i = 0; i < json_array_size(environment); i++) {
		const char *variable = json_string_value(json_array_get(environment, i));
		char name[128];
		const char *value;

		if (!variable || !split(variable, name, sizeof(name), &value))
			continue;
		if (strcmp(name, "NVIDIA_VISIBLE_DEVICES") == 0 && *value && strcmp(value, "void") != 0 &&
		    strcmp(value, "none") != 0)
			*ret_toolkit = true;
		if (wire_ask_variable(ask, name, value) < 0)
			return error_set(err, -EINVAL, "the container's environment says %s='%s', which is no limit that "
					 "can be understood", name, value);
	}
	return 0;
}

/* The value after an option among a hook's arguments. */
static const char *option_of(const json_t *args, const char *option)
{
	for (size_t i = 0; i + 1 < json_array_size(args); i++) {
		const char *word = json_string_value(json_array_get(args, i));

		if (word && strcmp(word, option) == 0)
			return json_string_value(json_array_get(args, i + 1));
	}
	return NULL;
}

/* Whether a hook is that of our CDI devices. */
static bool is_device_hook(const json_t *hook)
{
	const char *path = text_of(hook, "path"), *slash = strrchr(path, '/');
	const char *verb = json_string_value(json_array_get(json_object_get(hook, "args"), 1));

	return slash && strcmp(slash + 1, "fracgpu") == 0 && verb && strcmp(verb, "cdi-hook") == 0;
}

/* What a device gives. Several devices are a list, which has no room for a limit of all GPUs. */
static int add_device(struct wire_terms *terms, const json_t *args, struct error *err)
{
	const char *memory = option_of(args, "--memory"), *compute = option_of(args, "--compute");
	size_t used = strlen(terms->limit), size = sizeof(terms->limit);

	if (memory && (size_t)snprintf(terms->limit + used, size - used, "%s%s", used ? "," : "", memory) >= size - used)
		return error_set(err, -EINVAL, "the container has too many devices of fracgpu");
	if (compute)
		snprintf(terms->compute, sizeof(terms->compute), "%s", compute);
	return 0;
}

/* CDI devices are the host's to define, and nothing in a container's image or environment can undo their hooks. */
static int read_devices(const json_t *config, struct wire_terms *terms, struct error *err)
{
	const json_t *hooks = at(config, "hooks", "createRuntime");
	int r = 0;

	for (size_t i = 0; i < json_array_size(hooks) && r == 0; i++) {
		const json_t *hook = json_array_get(hooks, i);

		if (is_device_hook(hook))
			r = add_device(terms, json_object_get(hook, "args"), err);
	}
	return r;
}

int config_terms(const json_t *config, struct wire_metadata *ret_metadata, struct error *err)
{
	struct wire_metadata m = { .is_given = true };
	struct wire_ask ask = { 0 };
	bool has_toolkit;
	int r = read_devices(config, &m.terms, err);

	if (r == 0 && !wire_has_terms(&m.terms)) {
		r = read_environment(config, &ask, &has_toolkit, err);
		m.is_given = false;
		m.terms = ask.terms;
	}
	if (r == 0)
		*ret_metadata = m;
	return r;
}

bool config_uses_gpu(const json_t *config)
{
	static const char *const hooks[] = { "prestart", "createRuntime", "createContainer" };
	const json_t *devices = at(config, "linux", "devices"), *mounts = json_object_get(config, "mounts");
	struct wire_ask ask = { 0 };
	bool has_toolkit, uses;
	struct error err;

	uses = read_environment(config, &ask, &has_toolkit, &err) < 0 || has_toolkit || wire_has_terms(&ask.terms);
	for (size_t i = 0; i < json_array_size(devices); i++)
		uses |= is_driver_path(text_of(json_array_get(devices, i), "path"));
	for (size_t i = 0; i < json_array_size(mounts); i++)
		uses |= is_driver_path(text_of(json_array_get(mounts, i), "source")) ||
			strncmp(text_of(json_array_get(mounts, i), "destination"), "/dev/nvidia", 11) == 0;
	for (size_t h = 0; h < sizeof(hooks) / sizeof(hooks[0]); h++) {
		const json_t *list = at(config, "hooks", hooks[h]);

		for (size_t i = 0; i < json_array_size(list); i++)
			uses |= strstr(text_of(json_array_get(list, i), "path"), "nvidia") != NULL ||
				is_device_hook(json_array_get(list, i));
	}
	return uses;
}

int config_harden(json_t *config, const char *socket, bool wait_killable, struct error *err)
{
	struct wire_metadata metadata;
	struct profile_options options = { .socket = socket, .wait_killable = wait_killable };
	char text[WIRE_METADATA];
	json_t *box = json_object_get(config, "linux"), *section;
	const json_t *path;
	int r = config_terms(config, &metadata, err);

	if (r < 0)
		return r;
	if (!json_is_object(box))
		return error_set(err, -EINVAL, "the container is not one of Linux");
	section = json_object_get(box, "seccomp");
	/* a profile of `fracgpu seccomp-profile` has done it already, with a limit of its own */
	path = json_object_get(section, "listenerPath");
	if (path && json_is_string(path) && strcmp(json_string_value(path), socket) == 0)
		return 0;
	r = wire_metadata_pack(&metadata, text);
	if (r < 0)
		return error_set(err, r, "the limit '%s' is too long", metadata.terms.limit);
	options.metadata = text;
	if (!json_is_object(section)) {
		section = profile_new();
		if (!section || json_object_set_new(box, "seccomp", section) < 0)
			return error_set(err, -ENOMEM, "out of memory");
	}
	return profile_harden(section, &options, err);
}
