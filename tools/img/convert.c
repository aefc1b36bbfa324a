/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img convert */
#include "convert.h"
#include "in-place.h"
#include "stream.h"

#include <signal.h>
#include <unistd.h>

#include <tenon/json.h>
#include <tenon/plugin.h>

/* ---- Sources and target ---- */

/* The name to open source @word by; what comes from a pipe is kept in a file first. */
static int
source_name (Convert *convert, const char *word, const char **name, GError **error)
{
  *name = word;
  if (cli_flag (convert->args, "image-opts") || !img_is_stdin (word))
    return 0;
  if (convert->spool_name)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "standard input can be read once only");
  if (cli_flag (convert->args, "resume"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "standard input cannot be read again; leave out --resume");
  int ret = img_spool_make (&convert->spool, &convert->spool_name, error);
  if (ret >= 0)
    ret = img_spool_stdin (convert->spool, error);
  *name = convert->spool_name;
  return ret;
}

static int
open_sources (Convert *convert, GError **error)
{
  CliArgs *args = convert->args;
  CliCache cache;
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *snapshot = cli_text (args, "snapshot"), *format = cli_text (args, "format");
  bool image_opts = cli_flag (args, "image-opts");
  int ret = cli_cache (args, "source-cache", TN_CACHE_WRITEBACK, &cache, error);
  if (ret >= 0 && snapshot && convert->n_sources > 1)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "-l is for a single image");
  if (ret >= 0 && snapshot)
    ret = img_snapshot_option (snapshot, options, error);
  for (unsigned i = 0; i < convert->n_sources && ret >= 0; i++) {
    const char *name;
    ret = source_name (convert, args->words[i], &name, error);
    if (ret < 0)
      return ret;
    ret =
        cli_open_as (args, name, image_opts, format, options, cache.open_flags, &convert->sources[i], error);
    if (ret >= 0
        && __builtin_add_overflow (convert->size, tn_node_size (convert->sources[i]), &convert->size))
      return tn_fail (error, TN_OPTION_ERROR, EFBIG, "the images together are larger than any disk can be");
    if (ret >= 0 && !convert->target.image_opts && !convert->target.stream)
      ret = img_check_not_source (convert->target.name, convert->sources[i], error);
  }
  return ret;
}

/* Goes on with what is there, or begins. */
static int
prepare_resumable (Convert *convert, GError **error)
{
  ImgTarget *target = &convert->target;
  ImgResume *resume = &convert->resume;
  int ret =
      img_resume_load (resume, convert->args, target->name, convert->sources, convert->n_sources, error);
  if (ret >= 0)
    ret = img_resume_reopen (resume, target, convert->options, error);
  if (ret == 0) {
    ret = img_target_create (target, convert->options, (convert->size + 511) & ~(uint64_t) 511, error);
    if (ret >= 0)
      ret = img_resume_begin (resume, target, img_target_is_zero (target), error);
  }
  if (ret < 0)
    return ret;
  convert->copy.start = resume->position;
  convert->copy.checkpoint_bytes = img_resume_interval (target->node, convert->copy.checkpoint_bytes);
  return 0;
}

static int
prepare_target (Convert *convert, GError **error)
{
  ImgTarget *target = &convert->target;
  if (target->resumable)
    return prepare_resumable (convert, error);
  if (target->stream) {
    int ret = img_target_stream (target, convert->size, error);
    if (ret < 0 || target->node)
      return ret;
  }
  if (!cli_flag (convert->args, "no-create"))
    return img_target_create (target, convert->options, (convert->size + 511) & ~(uint64_t) 511, error);
  int ret = img_target_open (target, error);
  if (ret >= 0 && tn_node_size (target->node) < convert->size)
    return tn_fail (error, TN_OPTION_ERROR, ENOSPC,
                    "'%s' is smaller (%" G_GUINT64_FORMAT
                    " bytes) than what is to be copied (%" G_GUINT64_FORMAT
                    "); enlarge it with tenon-img resize",
                    target->name, tn_node_size (target->node), convert->size);
  if (ret >= 0 && (convert->copy.flags & TN_COPY_TARGET_ZERO) && tn_node_child (target->node, "backing"))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "'%s' has a backing file and does not read as zeroes; leave out --target-is-zero",
                    target->name);
  return ret;
}

/* ---- Copying ---- */

static int
show_progress (uint64_t done, void *opaque)
{
  Convert *convert = opaque;
  cli_progress_set (&convert->progress, done);
  return convert->stream_failed ? -convert->stream_failed : cli_progress_stop (&convert->progress);
}

static void
show_unreadable (uint64_t offset, uint64_t length, const GError *why, void *opaque)
{
  Convert *convert = opaque;
  if (!cli_quiet (convert->args))
    cli_warning (convert->args, "offset %" G_GUINT64_FORMAT " cannot be read and becomes zeroes: %s", offset,
                 why ? why->message : "unknown error");
}

static void
show_content (const void *data, uint64_t length, void *opaque)
{
  Convert *convert = opaque;
  if (convert->digest)
    img_digest_update (convert->digest, data, length);
  else if (!convert->stream_failed)
    convert->stream_failed = img_stream_write (data, length);
}

static bool
is_raw_stream (const Convert *convert)
{
  return convert->target.stream && !convert->target.spool_name;
}

/* The rest of the last sector, or why there is none. */
static int
end_raw_stream (Convert *convert, int ret, GError **error)
{
  if (ret >= 0 && !convert->stream_failed)
    convert->stream_failed = img_stream_write (NULL, -convert->size & 511);
  if (!convert->stream_failed)
    return ret;
  g_clear_error (error);
  return img_stream_fail (convert->stream_failed, error);
}

static int
checkpoint (uint64_t position, void *opaque, GError **error)
{
  Convert *convert = opaque;
  return img_resume_checkpoint (&convert->resume, &convert->target, position, error);
}

static bool
target_is_zero (const Convert *convert)
{
  return convert->target.resumable ? convert->resume.zero : img_target_is_zero (&convert->target);
}

/* What an earlier run has copied belongs to the digest. */
static int
digest_earlier (Convert *convert, GError **error)
{
  uint64_t left = convert->digest ? convert->copy.start : 0;
  for (unsigned i = 0; left > 0 && i < convert->n_sources; i++) {
    uint64_t n = MIN (left, tn_node_size (convert->sources[i]));
    int ret = img_digest_node (convert->digest, convert->sources[i], n, error);
    if (ret < 0)
      return ret;
    left -= n;
  }
  return 0;
}

static int
copy (Convert *convert, GError **error)
{
  TnCopy *job = &convert->copy;
  TnNode *target = convert->target.node;
  bool overlay = tn_node_child (target, "backing") != NULL;
  job->size = sizeof *job;
  job->sources = convert->sources;
  job->n_sources = convert->n_sources;
  job->length = convert->size;
  job->target = target;
  job->progress = show_progress;
  job->unreadable = show_unreadable;
  job->content = convert->digest || is_raw_stream (convert) ? show_content : NULL;
  job->opaque = convert;
  /* What the new backing file is to provide, as the old one did, is not copied. */
  if (overlay && tn_options_has (convert->options, "backing_file"))
    job->base = tn_node_child (convert->sources[0], "backing");
  if (!overlay && (is_raw_stream (convert) || target_is_zero (convert)))
    job->flags |= TN_COPY_TARGET_ZERO;
  if (convert->target.resumable)
    job->checkpoint = checkpoint;
  int ret = digest_earlier (convert, error);
  if (ret >= 0)
    ret = tn_copy_run (job, error);
  return is_raw_stream (convert) ? end_raw_stream (convert, ret, error) : ret;
}

/* ---- Proving ---- */

static int
show_verified (uint64_t done, void *opaque)
{
  Convert *convert = opaque;
  cli_progress_set (&convert->progress, convert->size + done);
  return cli_progress_stop (&convert->progress);
}

/* Reads what has reached stable storage, through an image that is opened anew. */
static int
verify (Convert *convert, GError **error)
{
  int ret = img_target_settle (&convert->target, error);
  if (ret < 0)
    return ret;
  const ImgVerify job = { .sources = convert->sources,
                          .n_sources = convert->n_sources,
                          .target = convert->target.node,
                          .made = convert->target.made,
                          .progress = show_verified,
                          .opaque = convert };
  return img_verify (&job, error);
}

static void
print_json (Convert *convert, const char *sum)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "filename", convert->target.name);
  tn_json_uint (json, "virtual-size", tn_node_size (convert->target.node));
  if (sum)
    tn_json_string (json, "sha256", sum);
  if (convert->target.resumable)
    tn_json_uint (json, "resumed-from", convert->copy.start);
  if (cli_flag (convert->args, "verify"))
    tn_json_bool (json, "verified", true);
  tn_json_object_end (json);
  cli_print (convert->args, "%s\n", text->str);
}

/* A raw target ends at a sector even when the sources do not. */
static void
report (Convert *convert)
{
  g_autofree char *sum = NULL;
  if (convert->digest && convert->target.made)
    img_digest_update (convert->digest, NULL, -convert->size & 511);
  if (convert->digest)
    sum = img_digest_finish (convert->digest);
  if (cli_json (convert->args))
    print_json (convert, sum);
  else if (sum)
    cli_print (convert->args, "sha256: %s\n", sum);
}

static int
convert (Convert *convert, GError **error)
{
  bool verified = cli_flag (convert->args, "verify"), bitmaps = cli_flag (convert->args, "bitmaps");
  int ret = open_sources (convert, error);
  if (ret >= 0 && bitmaps)
    ret = img_bitmaps_check (convert->args, convert->sources[0], error);
  if (ret >= 0 && cli_flag (convert->args, "sha256"))
    ret = img_digest_new ("sha256", &convert->digest, error);
  if (ret >= 0) {
    cli_progress_begin (&convert->progress, convert->args, convert->size * (verified ? 2 : 1), 1.0);
    cli_progress_catch_stop (&convert->progress);
    ret = prepare_target (convert, error);
  }
  if (ret >= 0)
    ret = img_target_seal (&convert->target, verified, error);
  if (ret >= 0)
    ret = copy (convert, error);
  if (ret >= 0 && bitmaps)
    ret = img_bitmaps_copy (convert->sources[0], convert->target.node, error);
  if (ret >= 0 && verified)
    ret = verify (convert, error);
  if (ret >= 0)
    report (convert);
  return ret;
}

static int
list_options (CliArgs *args, const ImgTarget *target)
{
  GError *error = NULL;
  const TnClass *classes[2];
  unsigned n;
  if (img_create_classes (target->name, target->format, classes, &n, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  return cli_print_options (args, classes, n, TN_OPTION_CREATE);
}

static int
run (Convert *job)
{
  GError *error = NULL;
  job->sources = g_new0 (TnNode *, job->n_sources);
  int status = EXIT_SUCCESS;
  if (job->target.stream)
    signal (SIGPIPE, SIG_IGN); /* writing fails instead, and the command tidies up */
  if (convert (job, &error) < 0) {
    cli_progress_end (&job->progress, false);
    status = cli_fail (job->args, EXIT_FAILURE, &error);
  }
  if (job->target.keep && job->target.resumable && status != EXIT_SUCCESS)
    img_resume_interrupt (&job->resume);
  status = img_target_finish (&job->target, status);
  img_resume_clear (&job->resume, status == EXIT_SUCCESS);
  if (status != EXIT_SUCCESS)
    cli_discard (job->args);
  cli_progress_end (&job->progress, status == EXIT_SUCCESS);
  for (unsigned i = 0; i < job->n_sources; i++)
    tn_node_unref (job->sources[i]);
  g_free (job->sources);
  if (job->spool_name)
    close (job->spool);
  g_free (job->spool_name);
  img_digest_free (job->digest);
  return status;
}

static int
convert_run (CliArgs *args)
{
  GError *error = NULL;
  bool help;
  g_autoptr (TnOptions) options = tn_options_new ();
  const char *format = cli_text (args, "output-format");
  if (cli_is_help (format))
    return cli_print_formats (args);
  if (img_create_options (args, options, &help, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  Convert job = { .args = args, .options = options, .target = { .args = args } };
  if (help) {
    job.target.name = args->n_words ? args->words[args->n_words - 1] : "image";
    job.target.format = format ? format : "raw";
    return list_options (args, &job.target);
  }
  if (cli_flag (args, "in-place"))
    return img_convert_in_place (args, options);
  if (args->n_words < 2) {
    cli_error (
        args,
        "convert: the names of the source and of the target are needed; see 'tenon-img convert --help'");
    return EXIT_FAILURE;
  }
  return img_convert_parse (&job, &error) < 0 ? cli_fail (args, EXIT_FAILURE, &error) : run (&job);
}

static const CliOption convert_options[] = {
  { "output-format", 'O', "FMT", "format of the target (default: raw; 'help' lists them)", NULL },
  { "options", 'o', "OPTIONS", "options of the target, name=value,…; 'help' lists them", NULL },
  { "backing", 'B', "FILE",
    "make the target an overlay of this image, which the source's backing file equals", NULL },
  { "backing-format", 'F', "FMT", "format of the target's backing file", NULL },
  { "compress", 'c', NULL, "compress the target", NULL },
  { "in-place", 0, NULL, "change the format of the one image named, leaving its data where it is", NULL },
  { "no-create", 'n', NULL, "the target exists; fill it", NULL },
  { "target-image-opts", 0, NULL, "the target is given as key=value options", NULL },
  { "target-is-zero", 0, NULL, "the target reads as zeroes already", NULL },
  { "sparse", 'S', "SIZE", "zeroes of this length are not written (default: 4k; 0: write everything)", NULL },
  { "parallel", 'm', "N", "requests under way at a time (default: at most 8)", NULL },
  { "out-of-order", 'W', NULL, "write to the target in any order", NULL },
  { "copy-range", 'C', NULL, "let the kernel copy data where it can", NULL },
  { "no-reflink", 0, NULL, "copy data also where the file system could let both files share it", NULL },
  { "rate-limit", 'r', "SIZE", "bytes per second at most", NULL },
  { "snapshot", 'l', "SNAPSHOT", "convert an internal snapshot of the source", NULL },
  { "sha256", 0, NULL, "print the SHA-256 digest of what the target holds", NULL },
  { "verify", 0, NULL, "then read source and target, and fail unless they are the same", NULL },
  { "resume", 0, NULL, "go on with an interrupted conversion, and be ready to be interrupted", NULL },
  { "checkpoint", 0, "SIZE", "with --resume: data that may have to be copied again (default: 256M)", NULL },
  { "salvage", 0, NULL, "what cannot be read becomes zeroes", NULL },
  { "bitmaps", 0, NULL, "copy the dirty bitmaps, too", NULL },
  { "skip-broken-bitmaps", 0, NULL, "with --bitmaps: leave out those that are inconsistent", NULL },
  { 0 }
};

const CliCommand img_convert = {
  .name = "convert",
  .summary = "copy images into a new one, of another format perhaps",
  .words = "FILENAME... TARGET",
  .max_words = G_MAXUINT,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_CACHE | CLI_SOURCE_CACHE | CLI_PROGRESS | CLI_QUIET | CLI_OUTPUT,
  .options = convert_options,
  .details =
      "Several images are copied one behind the other.  The target is on stable storage when the command\n"
      "ends with status 0 (unless -t unsafe is given), and is removed if it could not be completed.\n"
      "FILENAME - (or /dev/stdin) is standard input, TARGET - (or /dev/stdout) standard output.  A raw "
      "target is\n"
      "written as it is read; other targets, and what comes from standard input, pass through a temporary\n"
      "file in $TMPDIR.\n"
      "--resume keeps a record, TARGET.tenon-resume, of what is on stable storage.  The same command, given\n"
      "again after an interruption of any kind, goes on from there; sources and options must be the same.\n"
      "--sha256 counts areas of zeroes as what they are: for a raw target, it is the digest of the file.\n"
      "--verify closes the target, opens it again and compares; a difference ends the command with status 1\n"
      "and the offset of its first byte.\n"
      "\n"
      "convert --in-place -O FMT [-f FMT] [-o OPTIONS] FILENAME needs free space for metadata and for the\n"
      "data that FMT cannot have where it is.  It may be interrupted anywhere: before its last step the "
      "image\n"
      "is as it was, from then on the same command (or opening the image for writing) finishes it.\n",
  .run = convert_run,
};
