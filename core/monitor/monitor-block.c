/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "monitor/monitor-block.h"

#include "machine/machine-private.h"
#include "util/number.h"

#include <tenon/drive.h>

/* ---- info ---- */

static const char *
describe_medium (TnNode *node)
{
  return tn_node_is_inserted (node, NULL) == 0 ? ", no medium" : "";
}

static void
describe_drive (const char *id, TnDrive *drive, GString *out)
{
  TnNode *node = tn_drive_node (drive);
  g_string_append_printf (
      out, "%s: %s (%s%s%s), %" G_GUINT64_FORMAT " bytes, cache=%s, guest's write cache %s\n", id,
      tn_node_filename (node), tn_node_class_name (node), tn_drive_is_read_only (drive) ? ", read-only" : "",
      describe_medium (node), tn_drive_size (drive), tn_cache_mode_name (tn_drive_cache_mode (drive)),
      tn_drive_write_cache (drive) ? "on" : "off");
}

static void
describe_requests (const char *id, TnDrive *drive, GString *out)
{
  TnDriveStats s = { .size = sizeof s };
  tn_drive_stats (drive, &s);
  g_string_append_printf (out,
                          "%s: reads %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                          " errors), writes %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT
                          " bytes, %" G_GUINT64_FORMAT " errors), flushes %" G_GUINT64_FORMAT
                          ", discards %" G_GUINT64_FORMAT ", in flight %u\n",
                          id, s.read_requests, s.read_bytes, s.read_errors, s.write_requests, s.write_bytes,
                          s.write_errors, s.flush_requests, s.discard_requests, s.in_flight);
}

static void
describe_all (TnMachine *machine, void (*describe) (const char *id, TnDrive *drive, GString *out),
              GString *out)
{
  GHashTableIter iter;
  gpointer id, drive;
  g_hash_table_iter_init (&iter, machine->drives);
  while (g_hash_table_iter_next (&iter, &id, &drive))
    describe (id, drive, out);
  if (out->len == 0)
    g_string_append (out, "there are no drives\n");
}

void
tn_monitor_info_block (TnMachine *machine, GString *out)
{
  describe_all (machine, describe_drive, out);
}

void
tn_monitor_info_blockstats (TnMachine *machine, GString *out)
{
  describe_all (machine, describe_requests, out);
}

/* ---- Changes ---- */

/* The drive that @argument begins with, and what follows its id. */
static TnDrive *
find_drive (TnMachine *machine, const char *argument, const char **rest, GString *out)
{
  const size_t length = strcspn (argument, " ");
  g_autofree char *id = g_strndup (argument, length);
  TnDrive *drive = g_hash_table_lookup (machine->drives, id);
  if (drive == NULL)
    g_string_append_printf (out, "there is no drive '%s': info block lists them\n", id);
  *rest = argument + length + strspn (argument + length, " ");
  return drive;
}

static void
say_error (GString *out, const char *id, const GError *error)
{
  g_string_append_printf (out, "%s: %s\n", id, error->message);
}

void
tn_monitor_block_resize (TnMachine *machine, const char *argument, GString *out)
{
  g_autoptr (GError) error = NULL;
  const char *rest;
  uint64_t size;
  TnDrive *drive = find_drive (machine, argument, &rest, out);
  if (drive == NULL)
    return;
  if (tn_number_parse_size (rest, &size) < 0)
    g_string_append_printf (out, "'%s' is not a size: write bytes, or 10G\n", rest);
  else if (tn_drive_resize (drive, size, &error) < 0)
    say_error (out, "block_resize", error);
}

void
tn_monitor_block_reopen (TnMachine *machine, const char *argument, GString *out)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *rest;
  TnDrive *drive = find_drive (machine, argument, &rest, out);
  if (drive == NULL)
    return;
  if (tn_options_parse (options, rest, NULL, &error) < 0 || tn_drive_reopen (drive, options, &error) < 0)
    say_error (out, "block_reopen", error);
}

/* With -f it is unlocked before. */
void
tn_monitor_eject (TnMachine *machine, const char *argument, GString *out)
{
  g_autoptr (GError) error = NULL;
  const char *rest;
  const bool force = g_str_has_prefix (argument, "-f ");
  TnDrive *drive = find_drive (machine, force ? argument + strlen ("-f ") : argument, &rest, out);
  if (drive == NULL)
    return;
  TnNode *node = tn_drive_node (drive);
  if ((force && tn_node_lock_medium (node, false, &error) < 0) || tn_node_eject (node, true, &error) < 0)
    say_error (out, "eject", error);
}
