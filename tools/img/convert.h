/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A conversion: what was asked for (convert-options.c), and doing it (convert.c). */
#ifndef TENON_TOOLS_IMG_CONVERT_H
#define TENON_TOOLS_IMG_CONVERT_H

#include "img.h"
#include "progress.h"

#include <tenon/copy.h>

typedef struct Convert {
  CliArgs *args;
  TnNode **sources;
  unsigned n_sources;
  ImgTarget target;
  TnOptions *options; /* of the target, for creating it */
  CliProgress progress;
  TnCopy copy;
  uint64_t size;     /* of the sources together */
  ImgDigest *digest; /* of what is copied, or NULL */
  ImgResume resume;  /* with target.resumable */
  int stream_failed; /* errno value of writing to standard output */
  int spool;         /* what has come from standard input */
  char *spool_name;
} Convert;

/* Reads and checks the options; nothing is opened or made before. */
int img_convert_parse (Convert *convert, GError **error);

#endif
