/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The format "luks": what its files share. */
#ifndef FORMATS_LUKS_H
#define FORMATS_LUKS_H

#include "../common/luks/luks.h"
#include "luks2.h"

#include <tenon/format.h>

typedef struct Luks {
  TnNode *file;   /* the data */
  TnNode *header; /* the file again, or the child "header" */
  unsigned version;
  Luks1 v1;
  Luks2 *v2;
  uint64_t payload;    /* where the data begins */
  uint64_t fixed_size; /* of the data when the header gives one; 0: to the file's end */
  uint32_t sector_size;
  char *secret_id; /* of the secret that it was opened with */
} Luks;

/* An error that names the file. */
int luks_fail (Luks *s, GError **error, int errnum, const char *format, ...) TN_PRINTF (4, 5);
bool luks_is_detached (const Luks *s);

int luks_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
int luks_close (TnNode *node, GError **error);
int luks_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error);
int luks_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure,
                  GError **error);
int luks_amend (TnNode *node, const TnOptions *options, GError **error);
int luks_info (TnNode *node, TnInfo *info, GError **error);
char *luks_info_specific (TnNode *node, GError **error);

#endif
