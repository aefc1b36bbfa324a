/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers as users write them. */
#ifndef TN_UTIL_NUMBER_H
#define TN_UTIL_NUMBER_H

#include <tenon/types.h>

/* Each parses all of @text; -EINVAL: not such a thing; -ERANGE: does not fit in 64 bits. */
int tn_number_parse_uint (const char *text, uint64_t *value);
int tn_number_parse_size (const char *text, uint64_t *value);
int tn_number_parse_bool (const char *text, bool *value);

#endif
