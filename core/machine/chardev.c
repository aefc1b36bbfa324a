/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine/chardev.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define OUTPUT_LIMIT (1024 * 1024)
#define ESCAPE_KEY 0x01 /* Ctrl-A */

struct TnChardev {
  TnLoop *loop;
  TnChardevBackend backend;
  TnChardevEscape escape;
  void *escape_opaque;
  bool escaped;  /* the escape key came; the loop's thread */
  bool monitor;  /* input goes to the monitor; the loop's thread */
  bool in_ended; /* the loop's thread */
  bool freed;
  unsigned posts; /* calls that the loop still owes us; under lock */

  pthread_mutex_t lock;
  TnChardevHandler handler; /* size 0: nobody is connected */
  void *handler_opaque;
  GByteArray *output;
  bool output_watched;
};

static void chardev_update_input (TnChardev *chardev);

/* ---- Output ---- */

/* How much can be written without blocking. */
static size_t
output_writable (const TnChardev *chardev)
{
  struct pollfd out = { .fd = chardev->backend.out, .events = POLLOUT };
  if (!chardev->backend.may_block)
    return SIZE_MAX;
  /* Whatever is ready takes at least this much. */
  return poll (&out, 1, 0) > 0 ? 512 : 0;
}

/* Writes what the host takes at once.  The caller holds the lock. */
static void
output_flush (TnChardev *chardev)
{
  while (chardev->output->len > 0) {
    const size_t room = output_writable (chardev);
    if (room == 0)
      return;
    ssize_t n = write (chardev->backend.out, chardev->output->data, MIN (chardev->output->len, room));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (n < 0) {
      /* The reader is gone for good. */
      g_byte_array_set_size (chardev->output, 0);
      return;
    }
    g_byte_array_remove_range (chardev->output, 0, (guint) n);
  }
}

static void
output_ready (int fd, short events, void *opaque)
{
  TnChardev *chardev = opaque;
  pthread_mutex_lock (&chardev->lock);
  output_flush (chardev);
  if (chardev->output->len == 0) {
    chardev->output_watched = false;
    tn_loop_watch_fd (chardev->loop, fd, 0, NULL, NULL, NULL);
  }
  pthread_mutex_unlock (&chardev->lock);
}

/* Gives up one posted call; frees the device if it was only waiting for that. */
static bool
chardev_posted (TnChardev *chardev)
{
  pthread_mutex_lock (&chardev->lock);
  bool last = --chardev->posts == 0 && chardev->freed;
  bool gone = chardev->freed;
  pthread_mutex_unlock (&chardev->lock);
  if (last) {
    pthread_mutex_destroy (&chardev->lock);
    g_free (chardev);
  }
  return !gone;
}

static void
output_watch (void *opaque)
{
  TnChardev *chardev = opaque;
  if (!chardev_posted (chardev))
    return;
  pthread_mutex_lock (&chardev->lock);
  const bool same = chardev->backend.out == chardev->backend.in;
  pthread_mutex_unlock (&chardev->lock);
  if (same)
    chardev_update_input (chardev);
  else
    tn_loop_watch_fd (chardev->loop, chardev->backend.out, POLLOUT, output_ready, chardev, NULL);
}

void
tn_chardev_write (TnChardev *chardev, const void *data, size_t length)
{
  pthread_mutex_lock (&chardev->lock);
  if (chardev->backend.out >= 0) {
    const size_t room = OUTPUT_LIMIT - MIN (chardev->output->len, OUTPUT_LIMIT);
    g_byte_array_append (chardev->output, data, (guint) MIN (length, room));
    output_flush (chardev);
    if (chardev->output->len > 0 && !chardev->output_watched) {
      chardev->output_watched = true;
      chardev->posts++;
      tn_loop_post (chardev->loop, output_watch, chardev);
    }
  }
  pthread_mutex_unlock (&chardev->lock);
}

/* ---- Input ---- */

static size_t
input_room (TnChardev *chardev)
{
  if (chardev->monitor)
    return 256;
  pthread_mutex_lock (&chardev->lock);
  const TnChardevHandler handler = chardev->handler;
  void *opaque = chardev->handler_opaque;
  pthread_mutex_unlock (&chardev->lock);
  if (handler.receive == NULL)
    return 0;
  return handler.can_receive != NULL ? handler.can_receive (opaque) : 256;
}

static void
input_deliver (TnChardev *chardev, const uint8_t *data, size_t length)
{
  if (length == 0)
    return;
  if (chardev->monitor) {
    chardev->escape.monitor_input (chardev->escape_opaque, chardev, data, length);
    return;
  }
  pthread_mutex_lock (&chardev->lock);
  const TnChardevHandler handler = chardev->handler;
  void *opaque = chardev->handler_opaque;
  pthread_mutex_unlock (&chardev->lock);
  if (handler.receive != NULL)
    handler.receive (opaque, data, length);
}

static void
monitor_set (TnChardev *chardev, bool monitor)
{
  if (chardev->escape.monitor_input == NULL || chardev->monitor == monitor)
    return;
  chardev->monitor = monitor;
  chardev->escape.monitor_focus (chardev->escape_opaque, chardev, monitor);
}

static void
escape_help (TnChardev *chardev)
{
  static const char text[] = "\r\n"
                             "Ctrl-A h       this help\r\n"
                             "Ctrl-A x       end the machine\r\n"
                             "Ctrl-A c       switch between console and monitor\r\n"
                             "Ctrl-A Ctrl-A  send Ctrl-A\r\n";
  tn_chardev_write (chardev, text, sizeof text - 1);
}

/* Handles the key after Ctrl-A. */
static void
escape_key (TnChardev *chardev, uint8_t key)
{
  switch (key) {
  case 'x':
    tn_chardev_write (chardev, "\r\ntenon: ended by Ctrl-A x\r\n", 28);
    chardev->escape.quit (chardev->escape_opaque);
    break;
  case 'h':
  case '?':
    escape_help (chardev);
    break;
  case 'c':
    monitor_set (chardev, !chardev->monitor);
    break;
  case ESCAPE_KEY:
    input_deliver (chardev, &key, 1);
    break;
  default:
    break;
  }
}

static void
input_split (TnChardev *chardev, const uint8_t *data, size_t length)
{
  size_t start = 0;
  for (size_t i = 0; i < length; i++) {
    if (chardev->escaped) {
      chardev->escaped = false;
      escape_key (chardev, data[i]);
      start = i + 1;
    } else if (data[i] == ESCAPE_KEY) {
      chardev->escaped = true;
      input_deliver (chardev, data + start, i - start);
      start = i + 1;
    }
  }
  input_deliver (chardev, data + start, length - start);
}

static void
input_ready (int fd, short events, void *opaque)
{
  TnChardev *chardev = opaque;
  uint8_t data[256];
  if (events & POLLOUT)
    output_ready (-1, POLLOUT, chardev);
  if (events & (POLLIN | POLLHUP | POLLERR)) {
    const size_t room = MIN (input_room (chardev), sizeof data);
    ssize_t n = room > 0 ? read (fd, data, room) : -1;
    if (n == 0 || (room > 0 && n < 0 && errno != EAGAIN && errno != EINTR))
      chardev->in_ended = true;
    else if (n > 0 && chardev->backend.mux)
      input_split (chardev, data, (size_t) n);
    else if (n > 0)
      input_deliver (chardev, data, (size_t) n);
  }
  chardev_update_input (chardev);
}

/* For a descriptor that can't be watched, such as a file: it is always ready. */
static void
input_posted (void *opaque)
{
  TnChardev *chardev = opaque;
  if (chardev_posted (chardev))
    input_ready (chardev->backend.in, POLLIN, chardev);
}

/* Watches the input descriptor exactly while somebody can take a byte. */
static void
chardev_update_input (TnChardev *chardev)
{
  if (chardev->backend.in < 0)
    return;
  short events = !chardev->in_ended && input_room (chardev) > 0 ? POLLIN : 0;
  pthread_mutex_lock (&chardev->lock);
  if (chardev->output_watched && chardev->backend.out == chardev->backend.in)
    events |= POLLOUT;
  pthread_mutex_unlock (&chardev->lock);
  if (tn_loop_watch_fd (chardev->loop, chardev->backend.in, events, input_ready, chardev, NULL) < 0
      && events != 0) {
    pthread_mutex_lock (&chardev->lock);
    chardev->posts++;
    pthread_mutex_unlock (&chardev->lock);
    tn_loop_post (chardev->loop, input_posted, chardev);
  }
}

static void
accept_posted (void *opaque)
{
  if (chardev_posted (opaque))
    chardev_update_input (opaque);
}

void
tn_chardev_accept (TnChardev *chardev)
{
  pthread_mutex_lock (&chardev->lock);
  const bool post = chardev->backend.in >= 0 && !chardev->freed;
  if (post) {
    chardev->posts++;
    tn_loop_post (chardev->loop, accept_posted, chardev);
  }
  pthread_mutex_unlock (&chardev->lock);
}

/* ---- Life ---- */

int
tn_chardev_connect (TnChardev *chardev, const TnChardevHandler *handler, void *opaque, GError **error)
{
  pthread_mutex_lock (&chardev->lock);
  if (handler != NULL && chardev->handler.size != 0) {
    pthread_mutex_unlock (&chardev->lock);
    return tn_fail (error, TN_MACHINE_ERROR, EBUSY,
                    "the character device is taken by another device already");
  }
  memset (&chardev->handler, 0, sizeof chardev->handler);
  if (handler != NULL)
    memcpy (&chardev->handler, handler, MIN (handler->size, sizeof chardev->handler));
  chardev->handler_opaque = opaque;
  pthread_mutex_unlock (&chardev->lock);
  tn_chardev_accept (chardev);
  return 0;
}

bool
tn_chardev_is_connected (TnChardev *chardev)
{
  pthread_mutex_lock (&chardev->lock);
  bool connected = chardev->handler.size != 0;
  pthread_mutex_unlock (&chardev->lock);
  return connected;
}

const char *
tn_chardev_path (TnChardev *chardev)
{
  return chardev->backend.path;
}

TnChardev *
tn_chardev_new (TnLoop *loop, const TnChardevBackend *backend, const TnChardevEscape *escape, void *opaque)
{
  TnChardev *chardev = g_new0 (TnChardev, 1);
  chardev->loop = loop;
  chardev->backend = *backend;
  chardev->escape = *escape;
  chardev->escape_opaque = opaque;
  chardev->output = g_byte_array_new ();
  pthread_mutex_init (&chardev->lock, NULL);
  if (backend->mux)
    tn_chardev_accept (chardev);
  return chardev;
}

/* Waits for a slow reader, but not for one that doesn't read. */
static void
output_drain (TnChardev *chardev)
{
  pthread_mutex_lock (&chardev->lock);
  const gint64 until = g_get_monotonic_time () + G_USEC_PER_SEC;
  while (chardev->output->len > 0 && g_get_monotonic_time () < until) {
    struct pollfd out = { .fd = chardev->backend.out, .events = POLLOUT };
    poll (&out, 1, 100);
    output_flush (chardev);
  }
  pthread_mutex_unlock (&chardev->lock);
}

void
tn_chardev_free (TnChardev *chardev)
{
  if (chardev == NULL)
    return;
  if (chardev->backend.in >= 0)
    tn_loop_watch_fd (chardev->loop, chardev->backend.in, 0, NULL, NULL, NULL);
  if (chardev->backend.out >= 0)
    tn_loop_watch_fd (chardev->loop, chardev->backend.out, 0, NULL, NULL, NULL);
  output_drain (chardev);
  tn_chardev_backend_close (&chardev->backend);
  pthread_mutex_lock (&chardev->lock);
  g_byte_array_unref (chardev->output);
  chardev->backend.in = chardev->backend.out = -1;
  chardev->freed = true;
  const bool idle = chardev->posts == 0;
  pthread_mutex_unlock (&chardev->lock);
  if (!idle)
    return;
  pthread_mutex_destroy (&chardev->lock);
  g_free (chardev);
}
