/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A device of the kernel as the client of this process's own server.  A thread negotiates for the kernel and
 * then stays in the kernel while the device is connected; everything else happens on the loop.
 */
#include "device.h"

#include <tenon/loop.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEGOTIATION_NS INT64_C (30000000000)
#define PATIENCE_NS INT64_C (10000000000)

typedef enum Stage { STARTING, STANDING, ENDED } Stage;

struct NbdAttachment {
  const NbdDeviceOps *ops;
  char *path, *export;
  int fd;
  NbdChannel channel; /* the client's end */
  TnLoop *loop;
  GThread *thread;
  Stage stage; /* the loop's */
  bool stood;
  GError *error; /* the thread's until it ends */
  void (*ended) (const char *why, void *opaque);
  void *opaque;
};

int
nbd_attach_new (const NbdDeviceOps *ops, const char *path, NbdAttachment **result, int *server_fd,
                GError **error)
{
  int ends[2], fd;
  const int rc = nbd_device_open (ops, path, &fd, error);
  if (rc < 0)
    return rc;
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
    ops->close (fd);
    return tn_fail_errno (error, TN_OPTION_ERROR, errno, "cannot make a connection for '%s'", path);
  }
  NbdAttachment *attachment = g_new0 (NbdAttachment, 1);
  *attachment = (NbdAttachment){
    .ops = ops, .path = g_strdup (path), .fd = fd, .channel = { .fd = ends[0] }, .loop = tn_loop_current ()
  };
  *server_fd = ends[1];
  *result = attachment;
  return 0;
}

/* ---- On the loop ---- */

static void
stands (void *opaque)
{
  NbdAttachment *attachment = opaque;
  attachment->stage = STANDING;
  attachment->stood = true;
}

static void
has_ended (void *opaque)
{
  NbdAttachment *attachment = opaque;
  attachment->stage = ENDED;
  if (attachment->stood && attachment->ended)
    attachment->ended (attachment->error ? attachment->error->message : NULL, attachment->opaque);
}

/* ---- The thread ---- */

static int
negotiate (NbdAttachment *attachment)
{
  NbdOffer offer;
  /* The kernel understands simple replies only. */
  const NbdTalk talk = { .channel = &attachment->channel,
                         .deadline = tn_clock_ns () + NEGOTIATION_NS,
                         .simple = true };
  const int rc = nbd_handshake (&talk, attachment->export, NULL, &offer, &attachment->error);
  return rc < 0 ? rc
                : nbd_device_set_up (attachment->ops, attachment->fd, attachment->path,
                                     attachment->channel.fd, &offer, &attachment->error);
}

static gpointer
attach_main (gpointer opaque)
{
  NbdAttachment *attachment = opaque;
  if (negotiate (attachment) == 0) {
    tn_loop_post (attachment->loop, stands, attachment);
    nbd_device_run (attachment->ops, attachment->fd, attachment->path, &attachment->error);
  }
  tn_loop_post (attachment->loop, has_ended, attachment);
  return NULL;
}

int
nbd_attach_start (NbdAttachment *attachment, const char *export,
                  void (*ended) (const char *why, void *opaque), void *opaque, GError **error)
{
  attachment->export = g_strdup (export);
  attachment->ended = ended;
  attachment->opaque = opaque;
  attachment->thread = g_thread_new ("nbd-device", attach_main, attachment);
  while (attachment->stage == STARTING)
    tn_loop_iterate (attachment->loop, true);
  if (attachment->stood)
    return 0;
  const int rc = tn_error_to_errno (attachment->error);
  g_propagate_error (error, g_steal_pointer (&attachment->error));
  return rc;
}

/* ---- Its end ---- */

/* The kernel did not say goodbye, or the server did not hear it. */
static void
cut (void *opaque)
{
  const NbdAttachment *attachment = opaque;
  shutdown (attachment->channel.fd, SHUT_RDWR);
}

static void
disconnect (NbdAttachment *attachment)
{
  TnTimer *timer = tn_timer_new (attachment->loop, cut, attachment);
  tn_timer_set (timer, tn_clock_ns () + PATIENCE_NS);
  attachment->ended = NULL;
  if (attachment->stage == STANDING
      && attachment->ops->control (attachment->fd, NBD_DEVICE_DISCONNECT, 0) < 0)
    cut (attachment);
  while (attachment->stage != ENDED)
    tn_loop_iterate (attachment->loop, true);
  tn_timer_free (timer);
}

void
nbd_attach_free (NbdAttachment *attachment)
{
  if (!attachment)
    return;
  if (attachment->thread) {
    disconnect (attachment);
    g_thread_join (attachment->thread);
  }
  attachment->ops->close (attachment->fd);
  nbd_channel_close (&attachment->channel);
  g_clear_error (&attachment->error);
  g_free (attachment->export);
  g_free (attachment->path);
  g_free (attachment);
}
