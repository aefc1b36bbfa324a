/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TN_IO_SANDBOX_H
#define TN_IO_SANDBOX_H

#include <tenon/sandbox.h>

/* Refuses, in this thread and those that it starts, the system calls that images have no use for. */
int tn_syscall_filter_install (bool sockets, GError **error);

/* For a worker, between two jobs: is confined as the rest of the process has been meanwhile. */
void tn_sandbox_follow (void);

#endif
