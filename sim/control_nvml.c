/* SPDX-License-Identifier: Apache-2.0 */
/* Controls that NVML and nvidia-smi ask besides memory and processes. Facts: open-gpu-kernel-modules 535.261.03,
 * sdk/nvidia/inc/ctrl. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "sim/rm.h"
#include "sim/runlist.h"

enum {
	INFO_SMC_MODE = 0x2a, INFO_SM_VERSION = 0x2c,	/* NV2080_CTRL_GPU_INFO_INDEX_* */
	SMC_DISABLED = 2,
	ARCH_AMPERE = 0x170,
	SAMPLE_NS = 20000000,
	ECC_UNITS = 24, ECC_UNIT_SIZE = 40,
	/* NV2080_CTRL_THERMAL_SYSTEM_* */
	THERMAL_DONE = 16, THERMAL_COUNT = 20, THERMAL_LIST = 24, THERMAL_INSTRUCTION = 44,
	THERMAL_OPCODE = 8, THERMAL_OPERANDS = 12,
	THERMAL_TARGETS = 0x100, THERMAL_TARGET_TYPE = 0x101, THERMAL_PROVIDER_TYPE = 0x301, THERMAL_SENSORS = 0x500,
	THERMAL_SENSOR_PROVIDER = 0x510, THERMAL_SENSOR_TARGET = 0x520, THERMAL_READING_RANGE = 0x540,
	THERMAL_READING = 0x1500,
};

/* gpuId, drainState, flags: none is being drained. */
static uint32_t drain_state(struct sim_control_call *call, void *params, uint32_t size)
{
	put_u32(params, 4, 0);
	put_u32(params, 8, 0);
	return NV_OK;
}

static uint32_t virtualization_mode(struct sim_control_call *call, void *params, uint32_t size)
{
	put_u32(params, 0, 0);	/* none */
	return NV_OK;
}

static uint32_t arch_info(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	memset(params, 0, size);
	put_u32(params, 0, call->gpu->model.architecture);
	put_u32(params, 4, call->gpu->model.implementation);
	put_u32(params, 8, 0xa1);	/* revision */
	return NV_OK;
}

/* cpuClkId, sampleCount, samples of CPU and GPU time. The GPU's clock is ours in ns, that of the CPU in us or ns. */
static uint32_t time_correlation(struct sim_control_call *call, void *params, uint32_t size)
{
	const uint8_t *bytes = params;
	bool os_time = (bytes[0] & 0xf) == 1;	/* NV2080_TIMER_GPU_CPU_TIME_CPU_CLK_ID_OSTIME */
	struct timespec now;

	if (bytes[1] > 16)
		return NV_ERR_INVALID_ARGUMENT;
	clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < bytes[1]; i++) {
		put_u64(params, 8 + 16 * i, os_time ? (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 :
						      sim_now_ns());
		put_u64(params, 16 + 16 * i, sim_now_ns() & ~31ull);
	}
	return NV_OK;
}

/* Whether it is a card for data centers: with ECC, and from Ampere on with MIG. */
static bool is_data_center(const struct sim_gpu *gpu)
{
	return !strstr(gpu->model.name, "GeForce");
}

/* A count, then pairs of index and value. */
static uint32_t gpu_info(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t count = get_u32(params, 0);

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (size < 4 || count > (size - 4) / 8)
		return NV_ERR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t value = 0;

		switch (get_u32(params, 4 + 8 * (size_t)i)) {
		case INFO_SMC_MODE:
			if (is_data_center(call->gpu) && call->gpu->model.architecture >= ARCH_AMPERE)
				value = SMC_DISABLED;
			break;
		case INFO_SM_VERSION:
			value = call->gpu->model.cuda_major << 8 | call->gpu->model.cuda_minor << 4;
			break;
		default:
			break;
		}
		put_u32(params, 8 + 8 * (size_t)i, value);
	}
	return NV_OK;
}

static uint32_t name_string(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (get_u32(params, 0) != 0)	/* not ASCII */
		return NV_ERR_NOT_SUPPORTED;
	memset((uint8_t *)params + 4, 0, size - 4);
	memcpy((uint8_t *)params + 4, call->gpu->model.name, strlen(call->gpu->model.name));
	return NV_OK;
}

static uint32_t bus_pci_info(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u32(params, 0, call->gpu->model.pci_device_id);
	put_u32(params, 4, call->gpu->model.pci_subsystem_id);
	put_u32(params, 8, 0xa1);
	put_u32(params, 12, call->gpu->model.pci_device_id >> 16);
	return NV_OK;
}

/* Among all classes NVML looks for those of programs that compute and that draw, and for MPS. */
static uint32_t class_list(struct sim_control_call *call, void *params, uint32_t size)
{
	const struct sim_model *model = call->gpu ? &call->gpu->model : NULL;
	uint32_t graphics_class = model ? (model->compute_class & 0xff00) | 0x97 : 0;
	const uint32_t classes[] = { 0x40, 0x3e, 0x41, 0x80, 0x2080, 0x90f1, 0xa06c, 0x900e, graphics_class,
				     model ? model->compute_class : 0, model ? model->channel_class : 0,
				     model ? model->copy_class : 0 };

	if (!model)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (size < 4 + sizeof(classes))
		return NV_ERR_INVALID_PARAM_STRUCT;
	memset(params, 0, size);
	put_u32(params, 0, sizeof(classes) / sizeof(classes[0]));
	memcpy((uint8_t *)params + 4, classes, sizeof(classes));
	return NV_OK;
}

/* For what is off, or zero, on every simulated GPU. */
static uint32_t zero(struct sim_control_call *call, void *params, uint32_t size)
{
	memset(params, 0, size);
	return NV_OK;
}

static uint32_t ecc_support(struct sim_control_call *call, void *params, uint32_t size)
{
	return call->gpu && is_data_center(call->gpu) ? NV_OK : NV_ERR_NOT_SUPPORTED;
}

static uint32_t ecc_configuration(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu || !is_data_center(call->gpu))
		return NV_ERR_NOT_SUPPORTED;
	put_u32(params, 0, 1);
	put_u32(params, 4, 1);
	return NV_OK;
}

/* Of each unit of the GPU three flags (enabled, scrubbed, supported), then counts: there are no errors. */
static uint32_t ecc_status(struct sim_control_call *call, void *params, uint32_t size)
{
	uint8_t *bytes = params;

	if (!call->gpu || !is_data_center(call->gpu))
		return NV_ERR_NOT_SUPPORTED;
	memset(params, 0, size);
	for (size_t i = 0; i < ECC_UNITS && (i + 1) * ECC_UNIT_SIZE <= size; i++)
		memset(bytes + i * ECC_UNIT_SIZE, 1, 3);
	return NV_OK;
}

/* The type in three letters, then version and subversion, of what is in the board's memory. */
static uint32_t inforom_version(struct sim_control_call *call, void *params, uint32_t size)
{
	uint8_t *bytes = params;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (memcmp(bytes, "OBD", 3) != 0 && (memcmp(bytes, "ECC", 3) != 0 || !is_data_center(call->gpu)))
		return NV_ERR_OBJECT_NOT_FOUND;
	bytes[3] = 2;
	bytes[4] = 1;
	return NV_OK;
}

/* P0: it is always ready to run. */
static uint32_t current_pstate(struct sim_control_call *call, void *params, uint32_t size)
{
	put_u32(params, 0, 1);
	return NV_OK;
}

/* ---- how busy, and what follows from it ---- */

static uint64_t start_ns;

static void __attribute__((constructor)) note_start(void)
{
	start_ns = sim_now_ns();
}

/* Per cent of the time since somebody asked (or since the start), if that is long enough to tell. */
uint32_t sim_busy_percent(struct sim_control_call *call)
{
	static struct {
		uint64_t at_ns, busy_ns;
		uint32_t percent;
	} last[SIM_GPUS], *l;
	uint8_t query[QUERY_SIZE] = { 0 };
	uint64_t now_ns, busy_ns;

	l = &last[call->gpu->index];
	if (!l->at_ns)
		l->at_ns = start_ns;
	sim_sched_query(call, query, sizeof(query));
	now_ns = get_u64(query, QUERY_NOW);
	busy_ns = get_u64(query, QUERY_TOTAL);
	if (now_ns - l->at_ns >= SAMPLE_NS) {
		l->percent = (uint32_t)((busy_ns - l->busy_ns) * 100 / (now_ns - l->at_ns));
		l->at_ns = now_ns;
		l->busy_ns = busy_ns;
	}
	return l->percent;
}

/* An idle GPU takes an eighth of its limit, a busy one nine tenths. */
static uint32_t power_mw(struct sim_control_call *call)
{
	uint32_t limit_mw = call->gpu->model.power_limit_mw;

	return limit_mw / 8 + limit_mw / 1000 * 775 / 100 * sim_busy_percent(call);
}

static uint32_t celsius(struct sim_control_call *call)
{
	return 31 + sim_busy_percent(call) * 35 / 100;
}

/* The rest of this section has no public header. Places of the fields were found by giving NVML 535.261.03 numbers and
 * looking at what it made of them. */
static uint32_t clock_domains(struct sim_control_call *call, void *params, uint32_t size)
{
	put_u32(params, 0, 0xf);
	put_u32(params, 4, 0xf);
	return NV_OK;
}

/* GPU at 8, memory at 24, per cent. Nothing simulated is bound by memory's speed. */
static uint32_t utilization(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u32(params, 8, sim_busy_percent(call));
	put_u32(params, 24, 0);
	return NV_OK;
}

/* Newest sample's index, how many there are, then samples of 88 bytes: time, ..., power at 36. */
static uint32_t power_samples(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u32(params, 8, 0);
	put_u32(params, 12, 1);
	put_u64(params, 24, sim_now_ns());
	put_u32(params, 24 + 36, power_mw(call));
	return NV_OK;
}

static uint32_t power_limit(struct sim_control_call *call, void *params, uint32_t size)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u32(params, 4, call->gpu->model.power_limit_mw);
	return NV_OK;
}

/* ---- temperature: ctrl2080thermal.h of 580.142 ---- */

/* One instruction: result, executed, opcode, operands. There is one sensor, and it looks at the GPU. */
static bool thermal_instruction(struct sim_control_call *call, uint8_t *instruction)
{
	uint32_t index = get_u32(instruction, THERMAL_OPERANDS);

	switch (get_u32(instruction, THERMAL_OPCODE)) {
	case THERMAL_TARGETS:
	case THERMAL_SENSORS:
		put_u32(instruction, THERMAL_OPERANDS, 1);
		return true;
	case THERMAL_TARGET_TYPE:
	case THERMAL_PROVIDER_TYPE:
		put_u32(instruction, THERMAL_OPERANDS + 4, 1);
		return index == 0;
	case THERMAL_SENSOR_PROVIDER:
	case THERMAL_SENSOR_TARGET:
		put_u32(instruction, THERMAL_OPERANDS + 4, 0);
		return index == 0;
	case THERMAL_READING_RANGE:
		put_u32(instruction, THERMAL_OPERANDS + 4, (uint32_t)-256);
		put_u32(instruction, THERMAL_OPERANDS + 8, 255);
		return index == 0;
	case THERMAL_READING:
		put_u32(instruction, THERMAL_OPERANDS + 4, celsius(call));
		return index == 0;
	default:
		return false;
	}
}

static uint32_t thermal_execute(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t count = get_u32(params, THERMAL_COUNT);
	uint32_t done = 0;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (count > (size - THERMAL_LIST) / THERMAL_INSTRUCTION)
		return NV_ERR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *instruction = (uint8_t *)params + THERMAL_LIST + i * THERMAL_INSTRUCTION;
		bool known = thermal_instruction(call, instruction);

		put_u32(instruction, 0, known ? NV_OK : NV_ERR_NOT_SUPPORTED);
		put_u32(instruction, 4, 1);
		done += known;
	}
	put_u32(params, THERMAL_DONE, done);
	return NV_OK;
}

const struct sim_control sim_nvml_controls[] = {
	{ 0x279, 12, drain_state, "GPU_QUERY_DRAIN_STATE" },
	{ 0x800289, 4, virtualization_mode, "GPU_GET_VIRTUALIZATION_MODE" },
	{ 0x20800406, 264, time_correlation, "TIMER_GET_GPU_CPU_TIME_CORRELATION_INFO" },
	{ 0x20801701, 16, arch_info, "MC_GET_ARCH_INFO" },
	{ 0x20800102, 0, gpu_info, "GPU_GET_INFO_V2" },
	{ 0x20800110, 132, name_string, "GPU_GET_NAME_STRING" },
	{ 0x20801801, 16, bus_pci_info, "BUS_GET_PCI_INFO" },
	{ 0x800292, 0, class_list, "GPU_GET_CLASSLIST_V2" },
	{ 0x800288, 4, zero, "GPU_QUERY_SW_STATE_PERSISTENCE" },	/* 0: on */
	{ 0x80028e, 1, zero, "GPU_GET_VGX_CAPS" },
	{ 0x800294, 4, zero, "GPU_GET_BRAND_CAPS" },
	{ 0x730102, 12, zero, "SYSTEM_GET_NUM_HEADS" },
	{ 0x20800131, 4, zero, "GPU_QUERY_COMPUTE_MODE_RULES" },
	{ 0x20800157, 0, ecc_support, "GPU_QUERY_INFOROM_ECC_SUPPORT" },
	{ 0x20800133, 8, ecc_configuration, "GPU_QUERY_ECC_CONFIGURATION" },
	{ 0x2080012f, 0, ecc_status, "GPU_QUERY_ECC_STATUS" },
	{ 0x2080014b, 5, inforom_version, "GPU_GET_INFOROM_OBJECT_VERSION" },
	{ 0x2080a068, 4, current_pstate, "PERF_GET_CURRENT_PSTATE" },
	{ 0x20809009, 8, clock_domains, "clock domains" },
	{ 0x20809064, 520, zero, "clocks" },
	{ 0x2080a097, 1168, utilization, "utilization" },
	{ 0x2080a637, 88024, power_samples, "power samples" },
	{ 0x2080a61d, 12, power_limit, "power limit" },
	{ 0x20808513, 1432, thermal_execute, "THERMAL_SYSTEM_EXECUTE_V2" },
	{ 0, 0, NULL, NULL },
};
