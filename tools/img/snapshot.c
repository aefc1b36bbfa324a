/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img snapshot, and lists of snapshots */
#include "img.h"
#include "units.h"

#include <time.h>

typedef struct SnapshotList {
  CliArgs *args;
  unsigned n;
} SnapshotList;

static void
print_snapshot (const TnSnapshot *snapshot, void *opaque)
{
  SnapshotList *list = opaque;
  if (list->n++ == 0)
    cli_print (list->args, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
               "VM CLOCK", "ICOUNT");
  char date[32] = "", clock[48], icount[24] = "";
  time_t seconds = snapshot->date_sec;
  struct tm tm;
  if (localtime_r (&seconds, &tm))
    strftime (date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
  uint64_t up = snapshot->vm_clock_nsec / 1000000000;
  g_snprintf (clock, sizeof clock, "%02" G_GUINT64_FORMAT ":%02u:%02u.%03u", up / 3600,
              (unsigned) (up / 60 % 60), (unsigned) (up % 60),
              (unsigned) (snapshot->vm_clock_nsec / 1000000 % 1000));
  if (snapshot->icount != UINT64_MAX)
    g_snprintf (icount, sizeof icount, "%" G_GUINT64_FORMAT, snapshot->icount);
  cli_print (list->args, "%-9s %-16s %8s%20s%13s%11s\n", snapshot->id, snapshot->name,
             cli_human_size (snapshot->vm_state_size).text, date, clock, icount);
}

int
img_print_snapshots (CliArgs *args, TnNode *node, GError **error)
{
  SnapshotList list = { .args = args };
  int ret = tn_node_snapshots (node, print_snapshot, &list, error);
  return ret == -ENOTSUP ? 0 : ret;
}

int
img_snapshot_option (const char *text, TnOptions *options, GError **error)
{
  if (!strstr (text, "snapshot.id=") && !strstr (text, "snapshot.name=")) {
    tn_options_set (options, "snapshot", text);
    return 0;
  }
  g_autoptr (TnOptions) given = tn_options_new ();
  int ret = tn_options_parse (given, text, NULL, error);
  if (ret < 0)
    return ret;
  const char *id = tn_options_get (given, "snapshot.id"), *name = tn_options_get (given, "snapshot.name");
  if (tn_options_count (given) != 1 || (!id && !name))
    return tn_fail (
        error, TN_OPTION_ERROR, EINVAL,
        "-l '%s' is not a snapshot; write snapshot.id=ID, snapshot.name=NAME, or an id or name alone", text);
  tn_options_set (options, "snapshot", id ? id : name);
  return 0;
}

static int
list_snapshots (CliArgs *args, GError **error)
{
  g_autoptr (TnNode) node = NULL;
  int ret = cli_open (args, args->words[0], TN_OPEN_NO_BACKING, &node, error);
  if (ret < 0)
    return ret;
  g_autoptr (GError) why = NULL;
  ret = img_print_snapshots (args, node, &why);
  if (ret < 0)
    g_propagate_error (error, g_steal_pointer (&why));
  return ret;
}

typedef struct SnapshotChange {
  const char *option;
  TnSnapshotAction action;
} SnapshotChange;

static const SnapshotChange changes[] = {
  { "create", TN_SNAPSHOT_CREATE },
  { "apply", TN_SNAPSHOT_APPLY },
  { "delete", TN_SNAPSHOT_DELETE },
};

static int
change_snapshots (CliArgs *args, const SnapshotChange *change)
{
  TnNode *node = NULL;
  GError *error = NULL;
  if (cli_open (args, args->words[0], TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP | TN_OPEN_NO_BACKING,
                &node, &error)
      < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  int status = EXIT_SUCCESS;
  if (tn_node_snapshot (node, change->action, cli_text (args, change->option), &error) < 0)
    status = cli_fail (args, EXIT_FAILURE, &error);
  return cli_close (args, node, status);
}

static int
snapshot_run (CliArgs *args)
{
  const SnapshotChange *wanted = NULL;
  GError *error = NULL;
  unsigned n = cli_flag (args, "list");
  for (unsigned i = 0; i < G_N_ELEMENTS (changes); i++)
    if (cli_flag (args, changes[i].option)) {
      wanted = &changes[i];
      n++;
    }
  if (n > 1) {
    cli_error (args, "give one of -l, -c, -a and -d");
    return EXIT_FAILURE;
  }
  if (wanted)
    return change_snapshots (args, wanted);
  if (list_snapshots (args, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  return EXIT_SUCCESS;
}

static const CliOption snapshot_options[] = {
  { "list", 'l', NULL, "list the internal snapshots (this is the default)", NULL },
  { "create", 'c', "NAME", "keep the present contents as snapshot NAME", NULL },
  { "apply", 'a', "SNAPSHOT", "bring back the contents of the snapshot with that id or name", NULL },
  { "delete", 'd', "SNAPSHOT", "delete the snapshot with that id or name", NULL },
  { 0 }
};

const CliCommand img_snapshot = {
  .name = "snapshot",
  .summary = "list, create, apply or delete internal snapshots of an image",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_QUIET,
  .options = snapshot_options,
  .run = snapshot_run,
};
