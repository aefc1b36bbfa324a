/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The export as the core makes and ends it; the plugin. */
#include "vhost-user.h"

static void
resized (void *opaque)
{
  vu_tell_config_changed (opaque);
}

static void
broken (void *opaque, const char *why)
{
  vu_front_drop (opaque, why);
}

static int
check_options (const VuExport *export, const TnOptions *options, GError **error)
{
  const uint32_t block_size = export->blk.block_size;
  if (block_size & (block_size - 1))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "vhost-user-blk: logical-block-size=%u is not a power of two", block_size);
  if (tn_options_bool (options, "writable") && tn_drive_is_read_only (export->blk.drive))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "the image is read-only: export it without writable=on");
  const char *serial = tn_options_get (options, "serial");
  if (strlen (serial) > VIRTIO_BLK_ID_LENGTH)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "vhost-user-blk: serial '%s' is longer than %d characters", serial, VIRTIO_BLK_ID_LENGTH);
  return 0;
}

static int
export_open (TnExport *base, const TnOptions *options, GError **error)
{
  VuExport *export = tn_export_state (base);
  TnDrive *drive = tn_export_drive (base);
  *export =
      (VuExport){ .base = base, .loop = tn_loop_current (), .listener = -1, .fd = -1, .backend_fd = -1 };
  export->blk = (VirtioBlk){ .drive = drive,
                             .block_size = (uint32_t) tn_options_uint (options, "logical-block-size"),
                             .queue_size = VU_QUEUE_SIZE,
                             .n_queues = (uint16_t) tn_options_uint (options, "num-queues"),
                             .read_only = !tn_options_bool (options, "writable"),
                             .wce_default = tn_drive_write_cache (drive),
                             .broken = broken,
                             .opaque = export };
  int rc = check_options (export, options, error);
  if (rc == 0)
    rc = vu_listen (export, options, error);
  if (rc < 0)
    return rc;
  const char *serial = tn_options_get (options, "serial");
  memcpy (export->blk.serial, serial, strlen (serial));
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    vu_ring_init (export, i);
  tn_drive_on_resize (drive, resized, export);
  return 0;
}

static void
export_close (TnExport *base)
{
  VuExport *export = tn_export_state (base);
  tn_drive_on_resize (export->blk.drive, NULL, NULL);
  vu_listen_close (export);
  vu_front_drop (export, NULL);
  while (export->fd >= 0 || export->posted)
    tn_loop_iterate (export->loop, true);
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    vu_ring_clear (&export->rings[i]);
}

/* ---- The plugin ---- */

static const char *const address_types[] = { "unix", "fd", NULL };

static const TnOption export_options[] = {
  { .name = "addr.type",
    .type = TN_OPTION_ENUM,
    .value = "unix",
    .choices = address_types,
    .help = "a path (unix), or the number of a socket that listens already (fd)" },
  { .name = "addr.path", .type = TN_OPTION_STRING, .help = "path of the Unix socket to listen at" },
  { .name = "addr.str", .type = TN_OPTION_STRING, .help = "number of the file descriptor" },
  { .name = "writable", .type = TN_OPTION_BOOL, .value = "off", .help = "the front end may write" },
  { .name = "num-queues",
    .type = TN_OPTION_UINT,
    .value = "1",
    .min = 1,
    .max = VU_MAX_QUEUES,
    .help = "how many request queues there are" },
  { .name = "logical-block-size",
    .type = TN_OPTION_SIZE,
    .value = "512",
    .min = 512,
    .max = 32768,
    .help = "smallest unit that the guest may address" },
  { .name = "serial",
    .type = TN_OPTION_STRING,
    .value = "vhost_user_blk",
    .help = "serial number shown to the guest, up to 20 characters" },
  { .name = NULL },
};

static const TnExportOps vhost_user_ops = {
  .size = sizeof (TnExportOps),
  .instance_size = sizeof (VuExport),
  .open = export_open,
  .close = export_close,
};

static const TnClass vhost_user_class = {
  TN_CLASS_HEAD (TN_KIND_EXPORT, TN_EXPORT_MAJOR, TN_EXPORT_MINOR),
  .name = "vhost-user-blk",
  .summary = "disk for virtual machines and programs, over shared memory",
  .options = export_options,
  .ops = &vhost_user_ops,
};

static const TnClass *const vhost_user_classes[] = { &vhost_user_class, NULL };

TN_PLUGIN_DEFINE (export_vhost_user_blk, .security = TN_SECURITY_HARDENED, .name = "export-vhost-user-blk",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-vhost-user-blk",
                  .classes = vhost_user_classes);
