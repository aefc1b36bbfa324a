/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection to a front end, from beginning to end. */
#include "vhost-user.h"

#include <poll.h>
#include <unistd.h>

/* Messages handled at a time: other exports want their turn. */
#define BATCH 16

static void
notify (VuExport *export, TnExportEvent event, const char *text)
{
  tn_export_notify (
      export->base,
      &(TnExportNotice){ .event = event, .connections = export->fd >= 0, .attached = true, .text = text });
}

/* ---- Messages ---- */

static void front_ready (int fd, short events, void *opaque);

static void
watch (VuExport *export, bool on)
{
  tn_loop_watch_fd (export->loop, export->fd, on ? POLLIN : 0, front_ready, export, NULL);
}

/* Handles the message that is there; false when nothing more can be handled for now. */
static bool
handle (VuExport *export)
{
  g_autoptr (GError) error = NULL;
  const int rc = vu_handle (export, &error);
  const bool waits = rc == -EAGAIN && !error;
  export->waiting = waits;
  if (waits)
    return false;
  vu_input_clear (export);
  if (rc < 0)
    vu_front_drop (export, error->message);
  return rc == 0 && !export->leaving;
}

static void
front_ready (int fd, short events, void *opaque)
{
  VuExport *export = opaque;
  for (unsigned i = 0; i < BATCH; i++) {
    g_autoptr (GError) error = NULL;
    const int rc = vu_receive (export, &error);
    if (rc == 0)
      return;
    if (rc < 0) {
      vu_front_drop (export, error ? error->message : NULL);
      return;
    }
    if (handle (export))
      continue;
    if (export->waiting)
      watch (export, false);
    return;
  }
}

/* ---- What waits for requests ---- */

static void
front_end (VuExport *export)
{
  export->leaving = false;
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    vu_ring_reset (&export->rings[i]);
  vu_memory_clear (export);
  virtio_blk_reset (&export->blk);
  if (export->backend_fd >= 0)
    close (export->backend_fd);
  close (export->fd);
  export->fd = export->backend_fd = -1;
  export->features = export->protocol = 0;
  notify (export, TN_EXPORT_DISCONNECTED, NULL);
  vu_listen_update (export);
}

static void
go_on (void *opaque)
{
  VuExport *export = opaque;
  export->posted = false;
  if (vu_rings_in_flight (export) > 0)
    return;
  if (export->leaving) {
    front_end (export);
    return;
  }
  if (!export->waiting)
    return;
  handle (export);
  if (export->leaving || export->waiting)
    return;
  watch (export, true);
  vu_rings_serve (export);
}

void
vu_continue_soon (VuExport *export)
{
  if (export->posted || !(export->leaving || export->waiting))
    return;
  export->posted = true;
  tn_loop_post (export->loop, go_on, export);
}

/* ---- Beginning and end ---- */

void
vu_front_new (VuExport *export, int fd)
{
  export->fd = fd;
  vu_listen_update (export);
  watch (export, true);
  notify (export, TN_EXPORT_CONNECTED, NULL);
}

void
vu_front_drop (VuExport *export, const char *why)
{
  if (export->fd < 0 || export->leaving)
    return;
  export->leaving = true;
  export->waiting = false;
  watch (export, false);
  vu_input_clear (export);
  vu_rings_stop (export);
  if (why)
    notify (export, TN_EXPORT_PEER_ERROR, why);
  vu_continue_soon (export);
}
