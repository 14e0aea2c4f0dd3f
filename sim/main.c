/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu-sim: programs with a simulated NVIDIA driver. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "sim/launch.h"
#include "sim/serve.h"

#define DEFAULT_GPU "h200"
#define DEFAULT_DRIVER "580.159.04"

static const char help[] =
	"usage: fracgpu-sim [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
	"       fracgpu-sim [OPTIONS] mount DIR\n"
	"       fracgpu-sim --list\n"
	"\n"
	"Runs a program with simulated NVIDIA GPUs, or serves their device files in a folder.\n"
	"\n"
	"  -g, --gpu MODEL[,MODEL...]  the GPUs (default " DEFAULT_GPU ")\n"
	"  -d, --driver VERSION        the driver's version (default " DEFAULT_DRIVER ")\n"
	"  -l, --list                  show the models and exit\n"
	"  -h, --help                  show this and exit\n"
	"  -V, --version               show the version and exit\n";

static const struct option options[] = {
	{ "gpu", required_argument, NULL, 'g' },     { "driver", required_argument, NULL, 'd' },
	{ "list", no_argument, NULL, 'l' },	     { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },	     { NULL, 0, NULL, 0 },
};

static int list(void)
{
	const char *id;

	for (unsigned int i = 0; (id = sim_model_id(i)); i++) {
		struct sim_model model;
		char total[SIZE_TEXT], heap[SIZE_TEXT];

		if (sim_model_find(id, &model) < 0)
			return 1;
		printf("%-8s  %-24s  total %s, heap %s, %u SMs, compute %u.%u\n", id, model.name,
		       size_format(total, model.total_bytes), size_format(heap, model.total_bytes - model.reserved_bytes),
		       model.sm_count, model.cuda_major, model.cuda_minor);
	}
	return 0;
}

/* Names that stay the same from run to run, and differ from GPU to GPU. */
static void gpu_identify(struct sim_gpu *gpu, uint32_t index)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (const char *c = gpu->model.id; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
	gpu->index = index;
	gpu->pci_bus = 0x10 + index;
	gpu->gpu_id = gpu->pci_domain << 16 | gpu->pci_bus << 8 | gpu->pci_slot;
	snprintf(gpu->uuid, sizeof(gpu->uuid), "GPU-%08x-%04x-%04x-%04x-%012x", (uint32_t)(hash >> 32),
		 (uint32_t)(hash >> 16 & 0xffff), (uint32_t)(hash & 0xffff), 0xf5a0u, index);
}

static int add_gpus(struct sim *sim, const char *models, struct error *err)
{
	cleanup_free char *copy = strdup(models);
	char *rest = NULL;

	for (char *id = copy ? strtok_r(copy, ",", &rest) : NULL; id; id = strtok_r(NULL, ",", &rest)) {
		struct sim_gpu *gpu = &sim->gpus[sim->gpu_count];

		if (sim->gpu_count == SIM_GPUS)
			return error_set(err, -EINVAL, "too many GPUs: %d at the most", SIM_GPUS);
		if (sim_model_find(id, &gpu->model) < 0)
			return error_set(err, -EINVAL, "no GPU model '%s' (see fracgpu-sim --list)", id);
		gpu_identify(gpu, sim->gpu_count++);
	}
	if (!sim->gpu_count)
		return error_set(err, -EINVAL, "no GPU model in '%s' (see fracgpu-sim --list)", models);
	return 0;
}

static int set_driver(struct sim *sim, const char *version, struct error *err)
{
	if (strlen(version) >= sizeof(sim->version_text) || abi_version_parse(version, &sim->version) < 0)
		return error_set(err, -EINVAL, "'%s' is no driver version", version);
	strcpy(sim->version_text, version);
	if (abi_layout_find(sim->version, &sim->layout) < 0)
		return error_set(err, -EINVAL, "driver %s is not known: %s are", version, abi_supported());
	return 0;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* In the foreground, until a signal. */
static int serve_at(struct sim *sim, const char *dir, struct error *err)
{
	sigset_t signals;
	cleanup_close int end = -1;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	end = signalfd(-1, &signals, SFD_CLOEXEC);
	if (end < 0)
		return error_set(err, -errno, "cannot wait for signals: %s", strerror(errno));
	return serve(sim, dir, end, say_ready, err);
}

int main(int argc, char **argv)
{
	static struct sim sim;
	const char *opt_gpu = DEFAULT_GPU, *opt_driver = DEFAULT_DRIVER;
	struct error err = { 0 };
	int option;
	int r;

	while ((option = getopt_long(argc, argv, "+g:d:lhV", options, NULL)) >= 0) {
		switch (option) {
		case 'g':
			opt_gpu = optarg;
			break;
		case 'd':
			opt_driver = optarg;
			break;
		case 'l':
			return list();
		case 'h':
			fputs(help, stdout);
			return 0;
		case 'V':
			puts("fracgpu-sim " FRACGPU_VERSION);
			return 0;
		default:
			return 2;
		}
	}
	sim_init(&sim);
	if (add_gpus(&sim, opt_gpu, &err) < 0 || set_driver(&sim, opt_driver, &err) < 0) {
		fprintf(stderr, "fracgpu-sim: %s\n", err.text);
		return 2;
	}
	if (optind == argc) {
		fputs("fracgpu-sim: no program to run (see --help)\n", stderr);
		return 2;
	}
	/* "--" makes a program of the name mount */
	if (strcmp(argv[optind], "mount") == 0 && strcmp(argv[optind - 1], "--") != 0) {
		if (argc - optind != 2) {
			fputs("fracgpu-sim: mount needs one folder\n", stderr);
			return 2;
		}
		r = serve_at(&sim, argv[optind + 1], &err);
	} else {
		r = launch(&sim, argv + optind, &err);
	}
	if (r < 0) {
		fprintf(stderr, "fracgpu-sim: %s\n", err.text);
		return 1;
	}
	return r;
}
