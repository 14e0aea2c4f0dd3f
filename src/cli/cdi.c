/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu cdi generate: shares of GPUs as devices of the Container Device Interface; and the hook that they
 * bring. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/compute.h"
#include "cli/options.h"
#include "cli/output.h"
#include "rm/rm.h"
#include "runtime/config.h"
#include "wire/wire.h"

static const char *opt_output, *opt_hook, *opt_spec = "0.6.0";
static const char *opt_memory =
	"1GiB,2GiB,3GiB,4GiB,6GiB,8GiB,10GiB,12GiB,16GiB,20GiB,24GiB,32GiB,40GiB,48GiB,64GiB,80GiB,"
	"96GiB,128GiB";
static const char *opt_compute = "10%,20%,25%,33%,50%,75%";

static const struct option_row options[] = {
	{ "output", "FILE", "write it there, not to standard output", &opt_output },
	{ "memory", "LIST", "sizes to offer: 4GiB,8GiB; without it 1GiB to 128GiB", &opt_memory },
	{ "compute", "LIST", "shares of GPU time to offer: 25%,50%; without it 10% to 75%", &opt_compute },
	{ "spec", "VERSION", "0.6.0, or 0.5.0 for engines that know no later one; without it 0.6.0",
	  &opt_spec },
	{ "hook", "PATH", "where this program is on the host; without it where it is now", &opt_hook },
	{ NULL },
};

static const char *opt_hook_memory, *opt_hook_compute;

static const struct option_row hook_options[] = {
	{ "memory", "LIMIT", "for fracgpud to read", &opt_hook_memory },
	{ "compute", "SHARE", "likewise", &opt_hook_compute },
	{ NULL },
};

enum { ITEMS = 64, ITEM = 24, ALL_GPUS = -1 };

struct list {
	uint32_t count;
	char items[ITEMS][ITEM];
};

struct spec {
	const struct rm *rm;
	struct list sizes, shares;
	char hook[PATH_MAX];
	json_t *devices;
};

/* ---- what a device brings ---- */

/* Whether a file is a device: asked from the kernel, since the simulator's libraries tell programs that its
 * files are. */
static bool is_device_node(const char *path)
{
	struct stat st;

	return syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) == 0 && S_ISCHR(st.st_mode);
}

static void add_file(json_t *edits, const char *path)
{
	const char *key = is_device_node(path) ? "deviceNodes" : "mounts";
	json_t *list = json_object_get(edits, key), *entry;

	if (access(path, F_OK) < 0)
		return;
	if (!list) {
		list = json_array();
		json_object_set_new(edits, key, list);
	}
	if (strcmp(key, "mounts") == 0)
		entry = json_pack("{s:s,s:s,s:[s,s]}", "hostPath", path, "containerPath", path, "options",
				  "bind", "rw");
	else
		entry = json_pack("{s:s,s:s,s:s}", "hostPath", path, "path", path, "permissions", "rw");
	json_array_append_new(list, entry);
}

static void add_files(const struct spec *spec, json_t *edits, int gpu)
{
	static const char *const common[] = { "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
					      "/dev/nvidia-modeset" };
	char path[32];

	for (uint32_t i = 0; i < spec->rm->gpu_count; i++) {
		if (gpu != ALL_GPUS && (uint32_t)gpu != i)
			continue;
		snprintf(path, sizeof(path), "/dev/nvidia%" PRIu32, spec->rm->gpus[i].gpu.minor);
		add_file(edits, path);
	}
	for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		add_file(edits, common[i]);
}

/* One device. size NULL: all of the memory; share NULL: all of the time. */
static void add_device(struct spec *spec, int gpu, const char *size, const char *share)
{
	json_t *edits = json_object(), *env = json_array(), *args = json_pack("[s,s]", "fracgpu", "cdi-hook"),
	       *device;
	const char *memory = size ? size : "100%";
	char name[64], index[16] = "", limit[64];

	if (gpu != ALL_GPUS)
		snprintf(index, sizeof(index), "%" PRIu32, spec->rm->gpus[gpu].gpu.index);
	snprintf(name, sizeof(name), "%s%s%s%s%.*s", gpu == ALL_GPUS && !size ? "all" : index,
		 *index && size ? ":" : "", size ? size : "", share ? ":" : "",
		 share ? (int)strcspn(share, "%") : 0, share ? share : "");
	snprintf(limit, sizeof(limit), "%s%s%s", index, *index ? "=" : "", memory);
	json_array_append_new(env, json_sprintf("FRACGPU_MEMORY%s%s=%s", *index ? "_" : "", index, memory));
	json_array_append_new(args, json_string("--memory"));
	json_array_append_new(args, json_string(limit));
	if (share) {
		json_array_append_new(env, json_sprintf("FRACGPU_COMPUTE=%s", share));
		json_array_append_new(args, json_string("--compute"));
		json_array_append_new(args, json_string(share));
	}
	json_object_set_new(edits, "env", env);
	add_files(spec, edits, gpu);
	json_object_set_new(
		edits, "hooks",
		json_pack("[{s:s,s:s,s:o}]", "hookName", "createRuntime", "path", spec->hook, "args", args));
	device = json_pack("{s:s,s:o}", "name", name, "containerEdits", edits);
	if (strcmp(opt_spec, "0.5.0") != 0)
		json_object_set_new(
			device, "annotations",
			json_pack("{s:s,s:s*}", "fracgpu.io/memory", limit, "fracgpu.io/compute", share));
	json_array_append_new(spec->devices, device);
}

/* ---- which devices there are ---- */

static bool fits(const struct spec *spec, int gpu, const char *size)
{
	uint64_t bytes;

	if (size_parse(size, &bytes) < 0)
		return false;
	for (uint32_t i = 0; i < spec->rm->gpu_count; i++) {
		if ((gpu == ALL_GPUS || (uint32_t)gpu == i) && bytes > spec->rm->gpus[i].gpu.total_bytes)
			return false;
	}
	return true;
}

static void add_devices(struct spec *spec, int gpu)
{
	add_device(spec, gpu, NULL, NULL);
	for (uint32_t i = 0; i < spec->sizes.count; i++) {
		if (!fits(spec, gpu, spec->sizes.items[i]))
			continue;
		add_device(spec, gpu, spec->sizes.items[i], NULL);
		for (uint32_t k = 0; k < spec->shares.count; k++)
			add_device(spec, gpu, spec->sizes.items[i], spec->shares.items[k]);
	}
}

/* A device's name is made of them: letters, digits and "_-.:" (CDI's specification), and a bare number is a
 * GPU. */
static bool is_item(const char *text, bool is_size)
{
	uint64_t bytes;
	uint32_t permille;

	if (!is_size)
		return percent_parse(text, &permille) == 0 && !strpbrk(text, " \t+");
	return size_parse(text, &bytes) == 0 && bytes && !strpbrk(text, " \t+") &&
	       text[strspn(text, "0123456789.")];
}

static bool has_item(const struct list *list, const char *item)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], item) == 0)
			return true;
	}
	return false;
}

static int read_list(const char *option, const char *text, bool is_size, struct list *ret)
{
	ret->count = 0;
	while (*text) {
		size_t length = strcspn(text, ",");
		char *item = ret->items[ret->count];

		if (ret->count == ITEMS || length >= ITEM) {
			complain("cdi: --%s: the list is too long", option);
			return EXIT_USAGE;
		}
		memcpy(item, text, length);
		item[length] = '\0';
		if (!is_item(item, is_size)) {
			complain("cdi: --%s '%s' is not like %s", option, item, is_size ? "8GiB" : "25%");
			return EXIT_USAGE;
		}
		if (!has_item(ret, item))
			ret->count++;
		text += length + (text[length] == ',');
	}
	return 0;
}

static int check_words(struct spec *spec, int count, char **words)
{
	ssize_t n;
	int r;

	if (count != 1 || strcmp(words[0], "generate") != 0) {
		complain("cdi: what to do? generate (see 'fracgpu cdi --help')");
		return EXIT_USAGE;
	}
	if (strcmp(opt_spec, "0.5.0") != 0 && strcmp(opt_spec, "0.6.0") != 0) {
		complain("cdi: --spec '%s' is not one of 0.5.0, 0.6.0", opt_spec);
		return EXIT_USAGE;
	}
	r = read_list("memory", opt_memory, true, &spec->sizes);
	if (r == 0)
		r = read_list("compute", opt_compute, false, &spec->shares);
	if (r)
		return r;
	if (opt_hook) {
		snprintf(spec->hook, sizeof(spec->hook), "%s", opt_hook);
	} else {
		n = readlink("/proc/self/exe", spec->hook, sizeof(spec->hook) - 1);
		spec->hook[n > 0 ? n : 0] = '\0';
	}
	/* by its name fracgpu-runtime knows it */
	if (spec->hook[0] != '/' || strcmp(strrchr(spec->hook, '/'), "/fracgpu") != 0) {
		complain("cdi: the hook '%s' must start at '/' and be called fracgpu", spec->hook);
		return EXIT_USAGE;
	}
	return 0;
}

static int cdi(int count, char **words)
{
	static struct spec spec;
	struct error err;
	struct rm rm;
	json_t *all;
	int r = check_words(&spec, count, words);

	if (r)
		return r;
	if (rm_open(&rm, &err) < 0)
		return complain("cdi: %s", err.text);
	spec.rm = &rm;
	spec.devices = json_array();
	add_devices(&spec, ALL_GPUS);
	for (uint32_t i = 0; i < rm.gpu_count; i++)
		add_devices(&spec, (int)i);
	rm_close(&rm);
	all = json_pack("{s:s,s:s,s:o}", "cdiVersion", opt_spec, "kind", "fracgpu.io/gpu", "devices",
			spec.devices);
	r = all ? output_json(all, opt_output, &err) : error_set(&err, -ENOMEM, "out of memory");
	json_decref(all);
	return r < 0 ? complain("cdi: %s", err.text) : 0;
}

/* ---- the hook ---- */

/* Whether a container asks fracgpud, as its bundle says. */
static int check_bundle(const char *bundle, struct error *err)
{
	char path[PATH_MAX + 16];
	struct wire_metadata m;
	const char *metadata;
	const json_t *section;
	json_t *config;
	int r = 0;

	snprintf(path, sizeof(path), "%s/config.json", bundle);
	config = config_read(path, err);
	if (!config)
		return err->code;
	section = json_object_get(json_object_get(config, "linux"), "seccomp");
	metadata = json_string_value(json_object_get(section, "listenerMetadata"));
	if (!json_object_get(section, "listenerPath") || !metadata || wire_metadata_unpack(metadata, &m) < 0)
		r = error_set(
			err, -EPERM,
			"this container has a device of fracgpu and nothing that limits it: start it with "
			"'--runtime fracgpu', or with a profile of 'fracgpu seccomp-profile'");
	json_decref(config);
	return r;
}

/* The engine makes the files of a device visible to any container that names it: one that nobody limits must
 * not start. */
static int cdi_hook(int count, char **words)
{
	json_error_t fault;
	json_t *state = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, &fault);
	const char *bundle = json_string_value(json_object_get(state, "bundle"));
	struct error err;
	int r;

	if (!bundle || strlen(bundle) >= PATH_MAX)
		r = error_set(&err, -EINVAL, "this is no state of a container");
	else
		r = check_bundle(bundle, &err);
	json_decref(state);
	return r < 0 ? complain("%s", err.text) : 0;
}

const struct verb verb_cdi = {
	.name = "cdi",
	.synopsis = "generate [OPTIONS]",
	.summary = "Describe shares of GPUs as devices for containers (CDI)",
	.options = options,
	.takes_words = true,
	.is_mixed = true,
	.run = cdi,
};

const struct verb verb_cdi_hook = {
	.name = "cdi-hook",
	.synopsis = "",
	.summary = "Refuse a container that has a device of fracgpu without limits",
	.options = hook_options,
	.run = cdi_hook,
};
