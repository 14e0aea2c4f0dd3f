/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU models: sim/models/ID.ini, built in as text (sim/models.h.in) and read when asked for. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "sim/rm.h"
#include "sim/models.h"

static const struct {
	const char *id, *text;
} models[] = {
	{ "h200", MODEL_H200 },	      { "h100", MODEL_H100 },	    { "a100", MODEL_A100 },
	{ "rtx4090", MODEL_RTX4090 }, { "gtx1080", MODEL_GTX1080 }, { "p100", MODEL_P100 },
};

static const struct {
	const char *key;
	size_t offset;
} numbers[] = {
	{ "pci_device_id", offsetof(struct sim_model, pci_device_id) },
	{ "pci_subsystem_id", offsetof(struct sim_model, pci_subsystem_id) },
	{ "architecture", offsetof(struct sim_model, architecture) },
	{ "implementation", offsetof(struct sim_model, implementation) },
	{ "compute_class", offsetof(struct sim_model, compute_class) },
	{ "channel_class", offsetof(struct sim_model, channel_class) },
	{ "copy_class", offsetof(struct sim_model, copy_class) },
	{ "sm_count", offsetof(struct sim_model, sm_count) },
	{ "cuda_major", offsetof(struct sim_model, cuda_major) },
	{ "cuda_minor", offsetof(struct sim_model, cuda_minor) },
	{ "power_limit_mw", offsetof(struct sim_model, power_limit_mw) },
}, sizes[] = {
	{ "total", offsetof(struct sim_model, total_bytes) },
	{ "reserved", offsetof(struct sim_model, reserved_bytes) },
	{ "context", offsetof(struct sim_model, context_bytes) },
};

const char *sim_model_id(unsigned int index)
{
	return index < sizeof(models) / sizeof(models[0]) ? models[index].id : NULL;
}

static int model_set(struct sim_model *model, const char *key, const char *value)
{
	if (strcmp(key, "name") == 0) {
		snprintf(model->name, sizeof(model->name), "%s", value);
		return 0;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint32_t number = (uint32_t)strtoul(value, NULL, 0);

		if (strcmp(key, numbers[i].key) == 0) {
			memcpy((char *)model + numbers[i].offset, &number, sizeof(number));
			return 0;
		}
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t bytes = 0;

		if (strcmp(key, sizes[i].key) == 0 && size_parse(value, &bytes) == 0) {
			memcpy((char *)model + sizes[i].offset, &bytes, sizeof(bytes));
			return 0;
		}
	}
	return -EINVAL;
}

static int model_read(const char *text, struct sim_model *model)
{
	char line[160];
	char key[32], value[96];

	while (*text) {
		size_t length = strcspn(text, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)length, text);
		text += length + (text[length] == '\n');
		if (sscanf(line, "%31[a-z_0-9] = %95[^#;]", key, value) != 2)
			continue;	/* a comment, a section */
		for (size_t end = strlen(value); end && value[end - 1] == ' '; end--)
			value[end - 1] = '\0';
		if (model_set(model, key, value) < 0)
			return -EINVAL;
	}
	return 0;
}

int sim_model_find(const char *id, struct sim_model *ret_model)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		struct sim_model model = { 0 };

		if (strcmp(id, models[i].id) != 0)
			continue;
		snprintf(model.id, sizeof(model.id), "%s", id);
		if (model_read(models[i].text, &model) < 0)
			return -EINVAL;
		*ret_model = model;
		return 0;
	}
	return -ENOENT;
}

static int hex_digit(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* "GPU-..." of nvidia-smi has the bytes in order, with dashes. */
void sim_uuid_bytes(const char *text, uint8_t bytes[16])
{
	int digits = 0;

	for (const char *at = text + 4; *at && digits < 32; at++) {
		if (*at == '-')
			continue;
		if (digits % 2)
			bytes[digits / 2] = (uint8_t)(bytes[digits / 2] << 4 | hex_digit(*at));
		else
			bytes[digits / 2] = (uint8_t)hex_digit(*at);
		digits++;
	}
}
