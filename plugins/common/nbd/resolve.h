/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses of names, within a limit of time. */
#ifndef NBD_RESOLVE_H
#define NBD_RESOLVE_H

#include <tenon/error.h>

#include <netdb.h>

/* As getaddrinfo(3) for a stream socket; freeaddrinfo() the result.  Blocks the calling thread, but no longer
 * than until @deadline (CLOCK_MONOTONIC, nanoseconds) or until *@cancel (may be NULL) is set.  A name server
 * that is silent is then left to a thread that ends when the system's resolver gives up; of such threads
 * there are few, and while there are none left, names are refused. */
int nbd_resolve (const char *host, const char *port, int64_t deadline, const int *cancel,
                 struct addrinfo **found, GError **error);

#endif
