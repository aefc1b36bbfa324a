/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One row of an option table at work. */
#ifndef TN_UTIL_OPTION_TABLE_H
#define TN_UTIL_OPTION_TABLE_H

#include <tenon/option.h>

/* Checks @value against @row and spells it canonically: g_free() *canonical.  A type that this core does not
 * know (a newer SDK's) is taken as text. */
int tn_option_canonical (const TnOption *row, const char *value, const char *what, char **canonical,
                         GError **error);

#endif
