/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The export as the core makes and ends it; the plugin. */
#include "fuse-export.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void
resized (void *opaque)
{
  export_size_changed (opaque);
}

static int
find_mountpoint (FuseExport *export, const char *path, GError **error)
{
  struct stat st;
  if (stat (path, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "the mount point '%s'", path);
  if (!S_ISREG (st.st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "the mount point '%s' is not a regular file", path);
  export->mountpoint = realpath (path, NULL);
  return export->mountpoint ? 0 : tn_fail_errno (error, TN_BLOCK_ERROR, errno, "the mount point '%s'", path);
}

static int
check_options (const FuseExport *export, GError **error)
{
  if (export->writable && tn_drive_is_read_only (export->drive))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "the image is read-only: export it without writable=on");
  if (export->growable && !export->writable)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "growable=on needs writable=on");
  return 0;
}

static struct stat
first_attributes (const FuseExport *export)
{
  struct stat st = { .st_ino = FUSE_ROOT_ID,
                     .st_nlink = 1,
                     .st_mode = S_IFREG | 0400 | (export->writable ? 0200 : 0),
                     .st_uid = getuid (),
                     .st_gid = getgid (),
                     .st_blksize = 65536 };
  clock_gettime (CLOCK_REALTIME, &st.st_mtim);
  st.st_atim = st.st_ctim = st.st_mtim;
  return st;
}

static int
export_open (TnExport *base, const TnOptions *options, GError **error)
{
  FuseExport *export = tn_export_state (base);
  *export = (FuseExport){ .base = base,
                          .loop = tn_loop_current (),
                          .drive = tn_export_drive (base),
                          .writable = tn_options_bool (options, "writable"),
                          .growable = tn_options_bool (options, "growable") };
  const char *others = tn_options_get (options, "allow-other");
  int rc = check_options (export, error);
  if (rc == 0)
    rc = find_mountpoint (export, tn_options_get (options, "mountpoint"), error);
  if (rc < 0)
    return rc;
  export->attributes = first_attributes (export);
  export->allow_other = strcmp (others, "off") != 0;
  rc = export_mount (export, strcmp (others, "auto") == 0 ? NULL : error);
  if (rc < 0 && strcmp (others, "auto") == 0) {
    export->allow_other = false;
    rc = export_mount (export, error);
  }
  if (rc < 0)
    free (export->mountpoint);
  else
    tn_drive_on_resize (export->drive, resized, export);
  return rc;
}

static void
export_close (TnExport *base)
{
  FuseExport *export = tn_export_state (base);
  tn_drive_on_resize (export->drive, NULL, NULL);
  export_unmount (export);
  free (export->mountpoint);
}

/* ---- The plugin ---- */

static const char *const allow_choices[] = { "on", "off", "auto", NULL };

static const TnOption export_options[] = {
  { .name = "mountpoint",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "the regular file in whose place the image appears" },
  { .name = "writable", .type = TN_OPTION_BOOL, .value = "off", .help = "the file may be written" },
  { .name = "growable",
    .type = TN_OPTION_BOOL,
    .value = "off",
    .help = "writing behind its end makes the image larger, and truncate() changes its size" },
  { .name = "allow-other",
    .type = TN_OPTION_ENUM,
    .value = "auto",
    .choices = allow_choices,
    .help = "other users may open it, as its mode says; auto: if the system lets us" },
  { .name = NULL },
};

static const TnExportOps fuse_ops = {
  .size = sizeof (TnExportOps),
  .instance_size = sizeof (FuseExport),
  .open = export_open,
  .close = export_close,
};

static const TnClass fuse_class = {
  TN_CLASS_HEAD (TN_KIND_EXPORT, TN_EXPORT_MAJOR, TN_EXPORT_MINOR),
  .name = "fuse",
  .summary = "image as a raw file, by a file system in user space",
  .options = export_options,
  .ops = &fuse_ops,
};

static const TnClass *const fuse_classes[] = { &fuse_class, NULL };

TN_PLUGIN_DEFINE (export_fuse, .security = TN_SECURITY_HARDENED, .name = "export-fuse", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-fuse", .classes = fuse_classes);
