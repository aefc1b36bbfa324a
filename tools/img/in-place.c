/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tenon-img convert --in-place
 *
 * The new image is made as a sparse file in a folder beside the old one: its metadata, and the data that has
 * to move.  Everything else is linked to where it stands in the old file and stays a hole in the new one.
 * Then the new file becomes the journal of the old one (tenon/inplace.h): up to that the old image is
 * untouched, from then on it is the new one, and what remains to be done is copying the journal over it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SEEK_DATA */
#endif
#include "in-place.h"

#include <tenon/format.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SHADOW_SUFFIX TN_INPLACE_SUFFIX TN_INPLACE_SHADOW_SUFFIX
#define STATIC_UNIT 4096u
#define METADATA_ROOM (4u << 20)

typedef struct InPlace {
  CliArgs *args;
  const TnOptions *options;
  const char *name, *format;
  char *path;            /* of the image, links followed */
  char *folder, *shadow; /* where the new file is made */
  struct stat before;
  TnNode *source_node;
  InPlaceSource source;
  InPlaceLayout layout;
} InPlace;

/* ---- What was asked for ---- */

static int
check_options (const InPlace *job, GError **error)
{
  static const char *const allowed[] = { "in-place", "output-format", "options",   "format",
                                         "quiet",    "progress",      "untrusted", NULL };
  for (unsigned i = 0; i < job->args->n_given; i++) {
    const char *name = job->args->given[i].option->name;
    if (!g_strv_contains (allowed, name))
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--%s cannot be combined with --in-place", name);
  }
  if (job->args->n_words != 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--in-place takes the name of one image");
  return 0;
}

static int
check_target (const InPlace *job, GError **error)
{
  const TnClass *class;
  if (job->format == NULL)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "--in-place needs the new format: -O FORMAT");
  int ret = cli_find_format (job->format, &class, error);
  if (ret >= 0)
    ret = img_check_create_options (job->name, job->format, job->options, error);
  if (ret >= 0
      && (tn_options_has (job->options, "backing_file") || tn_options_has (job->options, "data_file")))
    ret = tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                   "an image converted in place stands alone: leave out backing_file and data_file");
  return MIN (ret, 0);
}

static int
find_image (InPlace *job, GError **error)
{
  job->path = realpath (job->name, NULL);
  if (job->path == NULL || stat (job->path, &job->before) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not open '%s'", job->name);
  if (!S_ISREG (job->before.st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: only plain files can be converted in place",
                    job->name);
  g_autofree char *base = g_path_get_basename (job->path);
  job->folder = g_strconcat (job->path, SHADOW_SUFFIX, NULL);
  job->shadow = g_build_filename (job->folder, base, NULL);
  return 0;
}

/* ---- The new file ---- */

static void
remove_shadow (const InPlace *job)
{
  GDir *dir = job->folder ? g_dir_open (job->folder, 0, NULL) : NULL;
  const char *name;
  if (dir == NULL)
    return;
  while ((name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *path = g_build_filename (job->folder, name, NULL);
    (void) unlink (path);
  }
  g_dir_close (dir);
  (void) rmdir (job->folder);
}

/* Some kinds of images are several files; only one can take the place of the old one. */
static int
check_single_file (const InPlace *job, GError **error)
{
  unsigned n = 0;
  GDir *dir = g_dir_open (job->folder, 0, error);
  if (dir == NULL)
    return -EIO;
  while (g_dir_read_name (dir))
    n++;
  g_dir_close (dir);
  if (n == 1)
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, ENOTSUP,
      "%s: cannot be converted in place: an image of format '%s' with these options is several files; "
      "choose another kind (-o help), or copy it with tenon-img convert",
      job->name, job->format);
}

static int
open_target (InPlace *job, GError **error)
{
  return tn_node_open_file (job->shadow, job->format, NULL, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_NO_FLUSH,
                            &job->layout.target, error);
}

static int
check_geometry (const InPlace *job, GError **error)
{
  const uint64_t wanted = (job->source.size + 511) & ~(uint64_t) 511, got = tn_node_size (job->layout.target);
  if (got == wanted)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                  "%s: cannot be converted in place: as '%s' its disk would have %" G_GUINT64_FORMAT
                  " bytes instead of %" G_GUINT64_FORMAT "; resize it first%s",
                  job->name, job->format, got, wanted,
                  got > wanted ? ", or keep the size if the format has an option for that (force_size=on)"
                               : "");
}

/* Whether the whole disk has its place in the file from the beginning. */
static int
is_preallocated (TnNode *target, bool *is, GError **error)
{
  TnExtent extent;
  *is = false;
  if (tn_node_size (target) == 0)
    return 0;
  const int ret = tn_node_map (target, 0, tn_node_size (target), 0, &extent, error);
  *is = ret == 0 && extent.kind == TN_EXTENT_DATA;
  return ret;
}

static int
check_abilities (const InPlace *job, bool preallocated, GError **error)
{
  if (preallocated || tn_node_can_adopt (job->layout.target) || tn_node_size (job->layout.target) == 0)
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, ENOTSUP,
      "%s: cannot be converted in place: format '%s' with these options cannot take over data where it "
      "is; choose a fixed or preallocated kind (-o help), or copy it with tenon-img convert",
      job->name, job->format);
}

/* New space is to come from behind all that the old file holds. */
static int
extend_shadow (InPlace *job, GError **error)
{
  const uint64_t unit = job->layout.unit, size = job->source.file_size;
  const uint64_t end = MAX ((size + unit - 1) / unit * unit, job->layout.occupied);
  job->layout.end = end;
  g_clear_pointer (&job->layout.target, tn_node_unref);
  if (end > job->layout.occupied && truncate (job->shadow, (off_t) end) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "'%s' could not grow", job->shadow);
  return open_target (job, error);
}

static int
create_shadow (InPlace *job, GError **error)
{
  const uint64_t size = (tn_node_size (job->source_node) + 511) & ~(uint64_t) 511;
  remove_shadow (job); /* of a conversion that was cut short before anything had changed */
  if (mkdir (job->folder, 0700) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not make the folder '%s'", job->folder);
  const int ret = tn_image_create (job->shadow, job->format, job->options, size, error);
  return ret < 0 ? ret : open_target (job, error);
}

static int
make_shadow (InPlace *job, GError **error)
{
  struct stat st;
  bool preallocated = false;
  int ret = check_single_file (job, error);
  if (ret == 0)
    ret = check_geometry (job, error);
  if (ret == 0)
    ret = is_preallocated (job->layout.target, &preallocated, error);
  if (ret == 0)
    ret = check_abilities (job, preallocated, error);
  if (ret < 0)
    return ret;
  if (stat (job->shadow, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s", job->shadow);
  const uint32_t unit = tn_node_allocation_unit (job->layout.target);
  job->layout.unit = unit ? unit : STATIC_UNIT;
  job->layout.occupied = preallocated ? 0 : (uint64_t) st.st_size;
  job->layout.trailed = preallocated && (uint64_t) st.st_size > tn_node_size (job->layout.target);
  return preallocated ? 0 : extend_shadow (job, error);
}

static int
check_room (const InPlace *job, GError **error)
{
  struct statvfs fs;
  if (statvfs (job->folder, &fs) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s", job->folder);
  /* What moves is written to the journal and from there to its place. */
  const uint64_t room = (uint64_t) fs.f_bavail * fs.f_frsize,
                 needed = 2 * job->layout.moved_bytes + METADATA_ROOM;
  if (needed <= room)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ENOSPC,
                  "%s: %" G_GUINT64_FORMAT " bytes cannot stay where they are, which needs %" G_GUINT64_FORMAT
                  " bytes of free space, and there are %" G_GUINT64_FORMAT,
                  job->name, job->layout.moved_bytes, needed, room);
}

static int
check_shadow (const InPlace *job, GError **error)
{
  TnCheck check = { .size = sizeof check };
  int ret = tn_node_flush (job->layout.target, error);
  if (ret < 0)
    return ret;
  ret = tn_node_check (job->layout.target, 0, &check, error);
  if (ret == -ENOTSUP) {
    g_clear_error (error);
    return 0;
  }
  if (ret == 0 && (check.corruptions || check.check_errors))
    ret = tn_fail (error, TN_BLOCK_ERROR, EIO,
                   "%s: the new image would not be sound; nothing has been changed", job->name);
  return ret;
}

/* What is kept must not have been written to. */
static int
check_kept (const InPlace *job, GError **error)
{
  const int fd = open (job->shadow, O_RDONLY | O_CLOEXEC);
  int ret = fd < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s", job->shadow) : 0;
  for (guint i = 0; ret == 0 && i < job->layout.kept->len; i++) {
    const TnRange *range = &g_array_index (job->layout.kept, TnRange, i);
    const uint64_t end = range->offset + range->length;
    const off_t data = lseek (fd, (off_t) range->offset, SEEK_DATA);
    const bool overlaps = i && range->offset < range[-1].offset + range[-1].length;
    if (overlaps || (data >= 0 && (uint64_t) data < end))
      ret = tn_fail (error, TN_BLOCK_ERROR, EIO,
                     "%s: the new metadata would be where data is (offset %" G_GUINT64_FORMAT
                     "); nothing has been changed",
                     job->name, range->offset);
  }
  if (fd >= 0)
    close (fd);
  return ret;
}

static bool
wants_no_gaps (TnNode *target)
{
  const TnFormatOps *ops = tn_node_class (target)->ops;
  return tn_node_can_adopt (target) && (ops->flags & TN_FORMAT_NO_GAPS);
}

static int
build (InPlace *job, GError **error)
{
  int ret = make_shadow (job, error);
  if (ret == 0)
    ret = in_place_adopt (&job->layout, &job->source, error);
  if (ret == 0)
    ret = check_room (job, error);
  if (ret == 0 && wants_no_gaps (job->layout.target))
    ret = in_place_fill_gaps (&job->layout, error);
  if (ret == 0) {
    /* Carrying out the journal takes as long again, and is not finished before it is. */
    cli_progress_begin (&job->layout.progress, job->args, 2 * job->layout.moved_bytes + 1, 1.0);
    ret = in_place_move (&job->layout, &job->source, error);
  }
  if (ret == 0)
    ret = check_shadow (job, error);
  if (ret < 0)
    return ret;
  ret = tn_node_close (job->layout.target, error);
  job->layout.target = NULL;
  return ret < 0 ? ret : check_kept (job, error);
}

/* ---- The switch ---- */

/* From here on nobody else has the image; and nobody has written to it since it was first looked at. */
static int
lock_image (const InPlace *job, TnNode **lock, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  struct stat now;
  tn_options_set (options, "driver", "file");
  tn_options_set (options, "filename", job->path);
  const int ret = tn_node_open (options, TN_OPEN_WRITE | TN_OPEN_RESIZE, lock, error);
  if (ret < 0)
    return ret;
  if (stat (job->path, &now) == 0 && now.st_ino == job->before.st_ino && now.st_size == job->before.st_size
      && now.st_mtim.tv_sec == job->before.st_mtim.tv_sec
      && now.st_mtim.tv_nsec == job->before.st_mtim.tv_nsec)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EBUSY, "%s: was written to by another program meanwhile; try again",
                  job->name);
}

/* What an earlier attempt left to be carried out: opening does it.  1 when there was something. */
static int
finish_earlier (const InPlace *job, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (TnNode) node = NULL;
  if (!tn_inplace_pending (job->name))
    return 0;
  tn_options_set (options, "driver", "file");
  tn_options_set (options, "filename", job->name);
  const int ret = tn_node_open (options, TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, error);
  return ret < 0 ? ret : 1;
}

static int
change_over (InPlace *job, GError **error)
{
  g_autoptr (TnNode) lock = NULL;
  struct stat st;
  g_clear_pointer (&job->source_node, tn_node_unref);
  int ret = lock_image (job, &lock, error);
  if (ret < 0)
    return ret;
  if (stat (job->shadow, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "%s", job->shadow);
  const GArray *kept = job->layout.kept;
  ret = tn_inplace_publish (job->path, job->shadow, (uint64_t) st.st_size,
                            (const TnRange *) (void *) kept->data, kept->len, error);
  return ret < 0 ? ret : MIN (tn_inplace_finish (job->path, true, error), 0);
}

/* ---- Where only names change ---- */

static int
change_names (InPlace *job, const char *old_data, const char *new_data, GError **error)
{
  g_autoptr (TnNode) lock = NULL;
  job->layout.kept_bytes = tn_node_size (job->source_node);
  int ret = tn_node_close (job->layout.target, error);
  job->layout.target = NULL;
  g_clear_pointer (&job->source_node, tn_node_unref);
  if (ret == 0)
    ret = lock_image (job, &lock, error);
  if (ret < 0)
    return ret;
  return strcmp (old_data, job->path) != 0 ? in_place_take_name (old_data, job->path, error)
                                           : in_place_give_name (job->path, job->shadow, new_data, error);
}

/* A plain disk becomes one that a small file names, or the reverse: *done. */
static int
try_names (InPlace *job, bool *done, GError **error)
{
  g_autofree char *old_data = NULL, *new_data = NULL;
  *done = false;
  int ret = in_place_data_file (job->source_node, &old_data, error);
  if (ret == 0 && old_data)
    ret = in_place_data_file (job->layout.target, &new_data, error);
  if (ret < 0 || old_data == NULL || new_data == NULL
      || tn_node_size (job->source_node) != tn_node_size (job->layout.target))
    return ret;
  const bool was_plain = strcmp (old_data, job->path) == 0, is_plain = strcmp (new_data, job->shadow) == 0;
  *done = was_plain != is_plain;
  return *done ? change_names (job, old_data, new_data, error) : 0;
}

static int
convert (InPlace *job, GError **error)
{
  bool done = false;
  int ret = cli_open_as (job->args, job->path, false, cli_text (job->args, "format"), NULL,
                         TN_OPEN_NO_BACKING, &job->source_node, error);
  if (ret >= 0)
    ret = create_shadow (job, error);
  if (ret >= 0)
    ret = try_names (job, &done, error);
  if (ret < 0 || done)
    return ret;
  ret = in_place_source (&job->source, job->source_node, error);
  if (ret >= 0)
    ret = build (job, error);
  return ret < 0 ? ret : change_over (job, error);
}

static void
clear (InPlace *job)
{
  tn_node_unref (job->layout.target);
  tn_node_unref (job->source_node);
  remove_shadow (job);
  in_place_source_clear (&job->source);
  g_clear_pointer (&job->layout.kept, g_array_unref);
  g_clear_pointer (&job->layout.moved, g_array_unref);
  free (job->path);
  g_free (job->folder);
  g_free (job->shadow);
}

int
img_convert_in_place (CliArgs *args, const TnOptions *options)
{
  GError *error = NULL;
  InPlace job = { .args = args, .options = options, .format = cli_text (args, "output-format") };
  job.name = args->n_words ? args->words[0] : "";
  int ret = check_options (&job, &error);
  const int finished = ret < 0 ? 0 : finish_earlier (&job, &error);
  if (finished > 0) {
    if (!cli_quiet (args))
      cli_print (args, "%s: the conversion that was interrupted is finished\n", job.name);
    return EXIT_SUCCESS;
  }
  ret = MIN (ret, finished);
  if (ret == 0)
    ret = check_target (&job, &error);
  if (ret == 0)
    ret = find_image (&job, &error);
  if (ret == 0)
    ret = convert (&job, &error);
  cli_progress_end (&job.layout.progress, ret == 0);
  if (ret == 0 && !cli_quiet (args))
    cli_print (args,
               "%s: %" G_GUINT64_FORMAT " bytes stay where they are, %" G_GUINT64_FORMAT " were moved\n",
               job.name, job.layout.kept_bytes, job.layout.moved_bytes);
  clear (&job);
  return ret < 0 ? cli_fail (args, EXIT_FAILURE, &error) : EXIT_SUCCESS;
}
