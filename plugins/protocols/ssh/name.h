/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and options as users know them, brought into one form. */
#ifndef SSH_NAME_H
#define SSH_NAME_H

#include <tenon/option.h>

/* `ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=…]` into options. */
int ssh_parse_name (const char *text, TnOptions *options, GError **error);
/* A copy in which older spellings (host, port, host_key_check) have become the present ones, checked as a
 * whole. */
int ssh_settle_options (const TnOptions *options, TnOptions **settled, GError **error);
/* The name for messages. */
char *ssh_shown_name (const TnOptions *options);

#endif
