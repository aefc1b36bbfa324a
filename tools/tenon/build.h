/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the command line to a machine. */
#ifndef TENON_TOOL_BUILD_H
#define TENON_TOOL_BUILD_H

#include <poll.h>

#include "options.h"

int tenon_build (const TenonArgs *args, TnMachine **machine, GError **error);

#endif
