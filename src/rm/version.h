/* SPDX-License-Identifier: Apache-2.0 */
/* Inside src/rm: the steps of finding the driver's version, apart so that they can be tested. */
#ifndef FG_RM_VERSION_H
#define FG_RM_VERSION_H

#include "abi/version.h"
#include "base/error.h"

#define RM_DRIVER_CONF "/etc/fracgpu/driver.conf"

/* Ask the driver behind an open /dev/nvidiactl. Returns 0 or -ENODATA. */
int rm_version_ask(int ctl, char ret_text[32]);

/* The version in the first line of /proc/driver/nvidia/version, of the closed and of the open module.
 * Returns 0 or -EINVAL. */
int rm_version_in_line(const char *line, char ret_text[32]);

/* Ask the driver (ctl may be -1), then /sys, then /proc. Returns 0 or -ENODEV. */
int rm_version_find(int ctl, char ret_text[32], struct error *err);

/* Read `assume_layout = VERSION` from a file that belongs to root and that nobody else may write.
 * Returns 0, -ENOENT (no file, no such line), -EPERM, -EINVAL. */
int rm_assume_read(const char *path, char ret_text[32], struct error *err);

/* The layout for a version, or for the one the configuration says to assume. ret_text: the version that was
 * chosen. Returns 0, -ENOTSUP, or an error of rm_assume_read(). */
int rm_layout_choose(const char *text, const char *assume_path, struct abi_version *ret_version,
		     char ret_text[32], struct abi_layout *ret_layout, struct error *err);

#endif
