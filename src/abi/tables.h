/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tables of this folder only. */
#ifndef FG_ABI_TABLES_H
#define FG_ABI_TABLES_H

#include "abi/calls.h"

/* The row with this number, NULL when there is none. The rows ascend by number, each number once: a test
 * checks. */
const struct abi_row *abi_row_find(const struct abi_row *rows, size_t count, uint32_t number);

#endif
