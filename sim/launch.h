/* SPDX-License-Identifier: Apache-2.0 */
/* A program in a mount namespace that has the simulated device files. */
#ifndef FG_SIM_LAUNCH_H
#define FG_SIM_LAUNCH_H

#include "base/error.h"
#include "sim/rm.h"

/* Run argv with the device files of sim, forward signals to it, and end everything that it left behind.
 * Returns its exit status (128 + signal when one ended it), or negative errno with a sentence in err. */
int launch(struct sim *sim, char **argv, struct error *err);

#endif
