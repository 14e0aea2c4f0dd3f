/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in while sim/control_nvml.c is not there. */
#include "sim/sim.h"

const struct sim_control sim_nvml_controls[] = { { 0, 0, NULL, NULL } };
