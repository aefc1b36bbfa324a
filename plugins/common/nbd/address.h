/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a server is, and how to get there. */
#ifndef NBD_ADDRESS_H
#define NBD_ADDRESS_H

#include "channel.h"

#include <tenon/option.h>

/* What users write, into options: server.type=unix|inet, server.path, server.host, server.port, export, tls.
 * Takes nbd://HOST[:PORT]/[EXPORT], nbd+unix:///[EXPORT]?socket=PATH, nbds…, and the older
 * unix:PATH[:exportname=EXPORT] and HOST:PORT[:exportname=EXPORT]. */
int nbd_parse_name (const char *text, TnOptions *options, GError **error);

/* As people write it, for messages; g_free() it. */
char *nbd_address_text (const TnOptions *options);
/* Whether the options name a server at all. */
int nbd_address_check (const TnOptions *options, GError **error);
/* Blocks the calling thread. */
int nbd_address_connect (const TnOptions *options, NbdChannel *channel, int64_t deadline, const int *cancel,
                         GError **error);

/* The name that the server's certificate has to bear, or NULL. */
const char *nbd_address_hostname (const TnOptions *options);
/* The credentials that tls-creds names; *@credentials is NULL when TLS is not asked for. */
int nbd_address_credentials (const TnOptions *options, TnTlsCredentials **credentials, GError **error);

#endif
