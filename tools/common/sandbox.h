/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TENON_TOOLS_SANDBOX_H
#define TENON_TOOLS_SANDBOX_H

#include "cli.h"

#include <tenon/sandbox.h>

/* Before anything of an image or a plugin is touched; nothing happens with --no-sandbox. */
int cli_confine (CliArgs *args, GError **error);
/* When all files are open.  @more: TN_SANDBOX_PLUGINS when decoders may be loaded yet.  The folder of
 * @target, which may be NULL, stays within reach for @access. */
int cli_seal (const CliArgs *args, uint32_t more, const char *target, uint32_t access, GError **error);

#endif
