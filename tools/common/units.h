/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes and times as people read them. */
#ifndef TENON_TOOLS_UNITS_H
#define TENON_TOOLS_UNITS_H

#include <stdint.h>

/* "10 MiB", "2.25 MiB", "512 B": three significant digits.  The buffer holds the longest one. */
typedef struct CliUnits {
  char text[32];
} CliUnits;
CliUnits cli_human_size (uint64_t bytes);
/* "0:07", "1:02:03" */
CliUnits cli_human_time (double seconds);

#endif
