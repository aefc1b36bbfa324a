/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options that every node has, and the flags that come of them. */
#include "block/internal.h"

static const char *const discard_choices[] = { "ignore", "unmap", "off", "on", NULL };
static const char *const detect_choices[] = { "off", "on", "unmap", NULL };

static const TnOption common_options[] = {
  { "driver", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "format or protocol", 0, 0, NULL },
  { "node-name", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "name to refer to the node by", 0, 0, NULL },
  { "read-only", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "refuse writes", 0, 0, NULL },
  { "auto-read-only", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "open read-only when writing is not permitted", 0,
    0, NULL },
  { "force-share", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "read while others write", 0, 0, NULL },
  { "cache.direct", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "bypass the host's page cache", 0, 0, NULL },
  { "cache.no-flush", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "ignore flushes", 0, 0, NULL },
  { "discard", TN_OPTION_ENUM, TN_OPTION_OPEN, NULL, "what becomes of discards", 0, 0, discard_choices },
  { "detect-zeroes", TN_OPTION_ENUM, TN_OPTION_OPEN, NULL, "turn writes of zeroes into zero areas", 0, 0,
    detect_choices },
  { NULL },
};

int
tn_block_take_common (TnOptions *options, TnOptions **common, GError **error)
{
  g_autoptr (TnOptions) taken = tn_options_new ();
  for (const TnOption *row = common_options; row->name; row++) {
    const char *value = tn_options_get (options, row->name);
    if (!value)
      continue;
    tn_options_set (taken, row->name, value);
    tn_options_set (options, row->name, NULL);
  }
  int rc = tn_options_check (taken, common_options, sizeof *common_options, TN_OPTION_OPEN, "node", error);
  if (!rc)
    *common = g_steal_pointer (&taken);
  return rc;
}

static uint32_t
switch_flag (uint32_t flags, const TnOptions *options, const char *key, uint32_t bit)
{
  if (!tn_options_has (options, key))
    return flags;
  return tn_options_bool (options, key) ? flags | bit : flags & ~bit;
}

uint32_t
tn_block_apply_common (const TnOptions *common, uint32_t flags)
{
  flags = switch_flag (flags, common, "cache.direct", TN_OPEN_DIRECT);
  flags = switch_flag (flags, common, "cache.no-flush", TN_OPEN_NO_FLUSH);
  flags = switch_flag (flags, common, "force-share", TN_OPEN_SHARED);
  if (tn_options_bool (common, "read-only"))
    flags &= ~(TN_OPEN_WRITE | TN_OPEN_RESIZE);
  const char *discard = tn_options_get (common, "discard");
  if (discard)
    flags = g_str_equal (discard, "unmap") || g_str_equal (discard, "on") ? flags | TN_OPEN_UNMAP
                                                                          : flags & ~TN_OPEN_UNMAP;
  return flags;
}

uint8_t
tn_block_detect_zeroes (const TnOptions *common)
{
  const char *value = tn_options_get (common, "detect-zeroes");
  if (!value || g_str_equal (value, "off"))
    return 0;
  return g_str_equal (value, "unmap") ? 2 : 1;
}
