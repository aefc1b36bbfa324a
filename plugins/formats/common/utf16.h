/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bounded text in UTF-16, as names stand in images. */
#ifndef FORMATS_COMMON_UTF16_H
#define FORMATS_COMMON_UTF16_H

#include <tenon/types.h>

/* As UTF-8, up to the first NUL; NULL when it is not valid or empty. */
static inline char *
utf16_to_utf8 (const uint8_t *bytes, size_t length, bool big)
{
  g_autofree gunichar2 *units = g_new (gunichar2, length / 2 + 1);
  size_t n = 0;
  while (n < length / 2) {
    units[n] = big ? tn_load_be16 (bytes + 2 * n) : tn_load_le16 (bytes + 2 * n);
    if (units[n] == 0)
      break;
    n++;
  }
  return n ? g_utf16_to_utf8 (units, (glong) n, NULL, NULL, NULL) : NULL;
}

/* Writes @text without a NUL and returns the bytes it took; 0 when it is not UTF-8 or does not fit. */
static inline size_t
utf16_store (const char *text, uint8_t *to, size_t room, bool big)
{
  glong n = 0;
  g_autofree gunichar2 *units = g_utf8_to_utf16 (text, -1, NULL, &n, NULL);
  if (!units || (size_t) n * 2 > room)
    return 0;
  for (glong i = 0; i < n; i++) {
    if (big)
      tn_store_be16 (to + 2 * i, units[i]);
    else
      tn_store_le16 (to + 2 * i, units[i]);
  }
  return (size_t) n * 2;
}

#endif
