/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupted conversions: a record beside the target says how far it is certain to be filled.
 *
 * Every so often (a checkpoint) nothing is under way; the record is written with the position reached before
 * and the length that the target's file has now, the target is flushed, and the record is written again with
 * the new position.  Whoever finds the record cuts the file to that length: what the format wrote behind it
 * belongs to data behind the position, and the format's tables on the disk are those of the flush.  The data
 * is then written to the places that it would have had.  Should the image not be as it must be (the check
 * tells), the conversion begins anew, which is never wrong.
 */
#include "img.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tenon/format.h>
#include <tenon/plugin.h>

#define RESUME_MAGIC "tenon-resume 1"
#define RESUME_DATA (256u << 20) /* bytes between two checkpoints */
#define RESUME_UNITS                                                                                         \
  4096 /* clusters between two: their tables fit in the caches and are not written before */
#define RESUME_MAX_RECORD (1u << 20)

/* ---- What the conversion is ---- */

static bool
changes_nothing (const char *option)
{
  static const char *const neutral[] = {
    "resume", "checkpoint", "verify",     "sha256", "output",       "progress",
    "quiet",  "parallel",   "rate-limit", "cache",  "source-cache", NULL,
  };
  return g_strv_contains (neutral, option);
}

static void
describe_node (TnNode *node, const char *role, void *opaque)
{
  GString *text = opaque;
  struct stat st;
  if (tn_node_class (node)->kind == TN_KIND_FORMAT) {
    g_string_append_printf (text, "%s: %s, %" G_GUINT64_FORMAT " bytes\n", role, tn_node_class_name (node),
                            tn_node_size (node));
    tn_node_foreach_child (node, describe_node, text);
    return;
  }
  g_autofree char *name = g_strescape (tn_node_filename (node), NULL);
  g_string_append_printf (text, "%s: %s", role, name);
  if (stat (tn_node_filename (node), &st) == 0)
    g_string_append_printf (text, ", %" G_GINT64_FORMAT " bytes of %" G_GINT64_FORMAT ".%09ld, inode %ju",
                            (int64_t) st.st_size, (int64_t) st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                            (uintmax_t) st.st_ino);
  g_string_append_c (text, '\n');
}

/* A line for everything that the result depends on. */
static char *
describe_conversion (const CliArgs *args, TnNode *const *sources, unsigned n)
{
  GString *text = g_string_new (NULL);
  for (unsigned i = 0; i < args->n_given; i++) {
    const CliGiven *given = &args->given[i];
    if (changes_nothing (given->option->name))
      continue;
    g_autofree char *value = given->value ? g_strescape (given->value, NULL) : NULL;
    g_string_append_printf (text, "option: --%s %s\n", given->option->name, value ? value : "");
  }
  for (unsigned i = 0; i < n; i++)
    describe_node (sources[i], "source", text);
  return g_string_free (text, FALSE);
}

/* ---- The record ---- */

/* The name of the file that becomes the record is always the same: a killed program leaves one at most. */
static char *
new_name (const char *path)
{
  return g_strconcat (path, ".new", NULL);
}

/* There is always the old record or the new one, and it is on stable storage: 0 or an errno value. */
static int
replace_file (const char *path, const char *text)
{
  g_autofree char *new = new_name (path);
  int fd = open (new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0)
    return errno;
  int failed = cli_write (fd, text, strlen (text));
  if (!failed && fsync (fd) < 0)
    failed = errno;
  close (fd);
  if (!failed && rename (new, path) < 0)
    failed = errno;
  return failed;
}

static int
write_record (const ImgResume *resume, uint64_t length, GError **error)
{
  g_autofree char *text =
      g_strdup_printf ("%s\n%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %d\n%s",
                       RESUME_MAGIC, resume->position, length, resume->inode, resume->zero, resume->identity);
  int failed = replace_file (resume->path, text);
  return failed ? tn_fail_errno (error, TN_BLOCK_ERROR, failed, "cannot write '%s'", resume->path) : 0;
}

static int
target_stat (const ImgTarget *target, struct stat *st, GError **error)
{
  if (stat (target->name, st) == 0)
    return 0;
  return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot look at '%s'", target->name);
}

/* The first line that is not the same in both. */
static int
fail_changed (const ImgResume *resume, const char *old, const char *new, GError **error)
{
  g_auto (GStrv) then = g_strsplit (old, "\n", -1), now = g_strsplit (new, "\n", -1);
  unsigned i = 0;
  while (then[i] && now[i] && strcmp (then[i], now[i]) == 0)
    i++;
  return tn_fail (
      error, TN_OPTION_ERROR, EINVAL,
      "'%s' is of another conversion (then '%s', now '%s'); use the same source and options, or remove it "
      "to begin anew",
      resume->path, then[i] ? then[i] : "", now[i] ? now[i] : "");
}

static int
read_record (ImgResume *resume, const char *text, GError **error)
{
  int zero = 0, used = 0;
  resume->found = false;
  if (!g_str_has_prefix (text, RESUME_MAGIC "\n")
      || sscanf (text + strlen (RESUME_MAGIC "\n"),
                 "%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %d%n", &resume->position,
                 &resume->length, &resume->inode, &zero, &used)
             != 4
      || text[strlen (RESUME_MAGIC "\n") + used] != '\n')
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "'%s' is no record of a conversion; remove it to begin anew", resume->path);
  const char *identity = text + strlen (RESUME_MAGIC "\n") + used + 1;
  if (strcmp (identity, resume->identity) != 0)
    return fail_changed (resume, identity, resume->identity, error);
  resume->zero = zero;
  resume->found = true;
  return 0;
}

int
img_resume_load (ImgResume *resume, const CliArgs *args, const char *target, TnNode *const *sources,
                 unsigned n, GError **error)
{
  struct stat st;
  g_autofree char *text = NULL;
  g_autoptr (GError) why = NULL;
  resume->path = g_strconcat (target, ".tenon-resume", NULL);
  resume->identity = describe_conversion (args, sources, n);
  if (stat (resume->path, &st) < 0 && errno == ENOENT)
    return 0;
  if (st.st_size > RESUME_MAX_RECORD || !g_file_get_contents (resume->path, &text, NULL, &why))
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "cannot read '%s'%s%s", resume->path, why ? ": " : "",
                    why ? why->message : "");
  return read_record (resume, text, error);
}

/* ---- Going on ---- */

/* Where the space of the target lies in one file, which is cut back when the conversion goes on. */
static int
check_resumable (const ImgTarget *target, GError **error)
{
  const TnClass *class = tn_node_class (target->node);
  const TnFormatOps *ops = class->ops;
  TnNode *file = tn_node_child (target->node, "file");
  struct stat st;
  if (!file || strcmp (tn_node_class_name (file), "file") != 0 || stat (target->name, &st) < 0
      || !S_ISREG (st.st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "'%s' is not one plain file: --resume is for such targets", target->name);
  if (tn_node_always_packed (target->node) || ops->flags & TN_FORMAT_ALWAYS_PACKS
      || (!ops->check && strcmp (class->name, "raw") != 0))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "an image of format '%s' as it is to be made cannot be gone on with; leave out --resume",
                    class->name);
  return 0;
}

static void
note_finding (const char *line, bool is_error, void *opaque)
{
  char **first = opaque;
  if (is_error && !*first)
    *first = g_strdup (line);
}

static int
check_once (TnNode *node, uint32_t fix, uint64_t *leaks, GError **error)
{
  g_autofree char *first = NULL;
  TnCheck check = { .size = sizeof check, .report = note_finding, .opaque = &first };
  int ret = tn_node_check (node, fix, &check, error);
  *leaks = check.leaks;
  if (ret >= 0 && (check.corruptions || check.check_errors))
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "%s", first ? first : "its check finds errors");
  return ret;
}

/* Leaks are room for data whose place in the tables had not been written; they are given back. */
static int
check_sound (TnNode *node, GError **error)
{
  uint64_t leaks;
  const TnFormatOps *ops = tn_node_class (node)->ops;
  if (!ops->check)
    return 0;
  int ret = check_once (node, 0, &leaks, error);
  if (ret >= 0 && leaks)
    ret = check_once (node, TN_CHECK_FIX_LEAKS, &leaks, error);
  if (ret >= 0 && leaks)
    ret = check_once (node, 0, &leaks, error);
  if (ret >= 0 && leaks)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "space that it has lost cannot be given back");
  return ret;
}

/* Takes away what was written behind the position. */
static int
cut (const ImgResume *resume, const ImgTarget *target, GError **error)
{
  g_autoptr (TnNode) file = NULL;
  struct stat st;
  int ret = target_stat (target, &st, error);
  if (ret < 0)
    return ret;
  if (st.st_ino != resume->inode)
    return tn_fail (error, TN_BLOCK_ERROR, ESTALE, "it is another file");
  if (resume->length == UINT64_MAX || (uint64_t) st.st_size == resume->length)
    return 0;
  if ((uint64_t) st.st_size < resume->length)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "it is shorter than it was");
  ret = tn_node_open_file (target->name, "raw", NULL, TN_OPEN_WRITE | TN_OPEN_RESIZE, &file, error);
  return ret < 0 ? ret : tn_node_resize (file, resume->length, TN_PREALLOC_OFF, error);
}

int
img_resume_reopen (ImgResume *resume, ImgTarget *target, const TnOptions *options, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (!resume->found)
    return 0;
  int ret = cut (resume, target, &why);
  if (ret >= 0)
    ret = img_target_reopen (target, options, &why);
  if (ret >= 0)
    ret = check_sound (target->node, &why);
  if (ret >= 0) {
    target->made = target->keep = true;
    return 1;
  }
  tn_node_unref (g_steal_pointer (&target->node));
  if (ret == -EAGAIN || ret == -EACCES || ret == -EPERM) {
    g_propagate_error (error, g_steal_pointer (&why));
    return ret;
  }
  cli_warning (target->args, "'%s' is not as it was left and is begun anew: %s", target->name, why->message);
  resume->position = 0;
  return 0;
}

int
img_resume_begin (ImgResume *resume, ImgTarget *target, bool zero, GError **error)
{
  struct stat st;
  int ret = check_resumable (target, error);
  if (ret >= 0)
    ret = tn_node_flush (target->node, error);
  if (ret >= 0)
    ret = target_stat (target, &st, error);
  if (ret < 0)
    return ret;
  resume->position = 0;
  resume->inode = st.st_ino;
  resume->zero = zero;
  ret = write_record (resume, st.st_size, error);
  target->keep = ret >= 0;
  return ret;
}

/* ---- Checkpoints ---- */

uint64_t
img_resume_interval (TnNode *target, uint64_t wanted)
{
  TnInfo info = { .size = sizeof info };
  uint64_t interval = wanted ? wanted : RESUME_DATA;
  if (tn_node_info (target, &info, NULL) >= 0 && info.cluster_size)
    interval = MIN (interval, (uint64_t) info.cluster_size * RESUME_UNITS);
  return interval;
}

int
img_resume_checkpoint (ImgResume *resume, ImgTarget *target, uint64_t position, GError **error)
{
  struct stat st;
  /* Nothing but tables is written meanwhile, in an order that is sound wherever it ends: nothing to cut off.
   */
  int ret = write_record (resume, UINT64_MAX, error);
  if (ret >= 0)
    ret = tn_node_flush (target->node, error);
  if (ret >= 0)
    ret = target_stat (target, &st, error);
  if (ret < 0)
    return ret;
  resume->position = position;
  return write_record (resume, st.st_size, error);
}

void
img_resume_interrupt (ImgResume *resume)
{
  /* What closing writes is whole: nothing is to be cut off. */
  write_record (resume, UINT64_MAX, NULL);
}

void
img_resume_clear (ImgResume *resume, bool done)
{
  g_autofree char *new = resume->path ? new_name (resume->path) : NULL;
  if (done && new) {
    unlink (new);
    unlink (resume->path);
  }
  g_clear_pointer (&resume->path, g_free);
  g_clear_pointer (&resume->identity, g_free);
}
