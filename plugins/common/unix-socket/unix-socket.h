/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef COMMON_UNIX_SOCKET_H
#define COMMON_UNIX_SOCKET_H

#include <tenon/error.h>

/* Listens at @path, in place of a socket that is left over there.  The descriptor does not wait. */
int unix_socket_listen (const char *path, int backlog, int *listener, GError **error);

#endif
