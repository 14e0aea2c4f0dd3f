/* SPDX-License-Identifier: Apache-2.0 */
/* Inodes of the simulated device files. Not small numbers: one is looked for in /proc/PID/maps, where device numbers
 * cannot be trusted, and chardev.c knows the files by them. */
#ifndef FG_SIM_INODES_H
#define FG_SIM_INODES_H

#define INODE_BASE 0x6672616367000000ull
enum { INODE_CTL = 1, INODE_UVM, INODE_UVM_TOOLS, INODE_STATE, INODE_GPU = 16 /* and up */ };

#endif
