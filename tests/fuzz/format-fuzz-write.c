/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing to a fuzzed image, within one window of the disk whose contents are followed. */
#include "format-fuzz-private.h"

#define WINDOW (96u << 10)
#define MAX_CHANGES 10u
#define MOST_CHANGED 20000u

typedef struct Window {
  Fuzz *fuzz;
  TnNode *node;
  uint64_t start, length;
  uint8_t *expected; /* NULL: nothing is known, the image is damaged */
} Window;

static void
compare (const Window *window, uint64_t start, uint64_t length, const char *when)
{
  g_autofree uint8_t *found = g_malloc (length);
  g_autoptr (GError) error = NULL;
  if (tn_node_read (window->node, window->start + start, found, length, &error) < 0) {
    fuzz_fail ("%s: reading at %" G_GUINT64_FORMAT " failed: %s", when, window->start + start,
               error->message);
  }
  const uint8_t *expected = window->expected + start;
  if (memcmp (found, expected, length) == 0) {
    return;
  }
  uint64_t i = 0;
  while (found[i] == expected[i]) {
    i++;
  }
  fuzz_fail ("%s: byte %" G_GUINT64_FORMAT " is 0x%02x instead of 0x%02x", when, window->start + start + i,
             found[i], expected[i]);
}

/* What was discarded, or should have been written but failed, may hold anything; but only there. */
static void
read_anew (Window *window, uint64_t start, uint64_t length)
{
  if (tn_node_read (window->node, window->start + start, window->expected + start, length, NULL) < 0) {
    g_clear_pointer (&window->expected, g_free);
  }
}

static int
write_bytes (Window *window, uint64_t start, uint64_t length, uint32_t flags)
{
  g_autofree uint8_t *bytes = g_malloc (length);
  /* Not the same everywhere, so that misplaced sectors show. */
  for (uint64_t i = 0; i < length; i += 512) {
    memset (bytes + i, (int) fuzz_random (window->fuzz, 256), MIN (512, length - i));
  }
  const struct iovec iov = { bytes, length };
  const int ret = tn_node_writev (window->node, window->start + start, &iov, 1, flags, NULL);
  if (ret == 0 && window->expected) {
    memcpy (window->expected + start, bytes, length);
  }
  return ret;
}

static int
write_zeroes (Window *window, uint64_t start, uint64_t length)
{
  const uint32_t flags = fuzz_random (window->fuzz, 2) ? TN_REQUEST_MAY_UNMAP : 0;
  const int ret = tn_node_write_zeroes (window->node, window->start + start, length, flags, NULL);
  if (ret == 0 && window->expected) {
    memset (window->expected + start, 0, length);
  }
  return ret;
}

static void
change_once (Window *window)
{
  uint64_t start = fuzz_random (window->fuzz, window->length);
  uint64_t length = 1 + fuzz_random (window->fuzz, MIN (MOST_CHANGED, window->length - start));
  if (fuzz_random (window->fuzz, 2)) {
    start &= ~UINT64_C (4095);
    length = MIN ((length | 4095) + 1, window->length - start);
  }
  int ret = -EINVAL;
  switch (fuzz_random (window->fuzz, 8)) {
  case 0:
    ret = write_zeroes (window, start, length);
    break;
  case 1:
    (void) tn_node_discard (window->node, window->start + start, length, NULL);
    break;
  case 2:
    ret = write_bytes (window, start, length, TN_REQUEST_PACKED);
    break;
  case 3:
    (void) tn_node_flush (window->node, NULL);
    return;
  default:
    ret = write_bytes (window, start, length, 0);
    break;
  }
  if (ret < 0 && window->expected) {
    read_anew (window, start, length);
  }
}

static bool
open_window (Window *window)
{
  window->node = fuzz_open (window->fuzz, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP);
  return window->node != NULL;
}

static void
place_window (Window *window)
{
  const uint64_t size = tn_node_size (window->node), room = size - MIN (size, WINDOW);
  window->length = MIN (size, WINDOW);
  switch (fuzz_random (window->fuzz, 3)) {
  case 0:
    window->start = room;
    break;
  case 1:
    window->start = fuzz_random (window->fuzz, room + 1) & ~UINT64_C (511);
    break;
  default:
    window->start = 0;
    break;
  }
}

static void
change_window (Window *window)
{
  for (unsigned i = 0; i < MAX_CHANGES && window->length; i++) {
    change_once (window);
  }
  if (fuzz_random (window->fuzz, 4) == 0) {
    (void) tn_node_resize (window->node, tn_node_size (window->node) + 65536, TN_PREALLOC_OFF, NULL);
  }
}

/* The same after it was closed and opened again, and nothing was broken on the way. */
static void
look_again (Window *window)
{
  if (!fuzz_is_whole (window->fuzz)) {
    fuzz_fail ("check finds errors in an image that was sound before it was written");
  }
  if (!window->expected || !window->length) {
    return;
  }
  if (!open_window (window)) {
    fuzz_fail ("an image that was sound does not open again after it was written");
  }
  compare (window, 0, window->length, "opened again");
  (void) tn_node_close (window->node, NULL);
}

void
fuzz_write (Fuzz *fuzz, bool sound)
{
  Window window = { .fuzz = fuzz };
  if (!open_window (&window)) {
    return;
  }
  place_window (&window);
  if (sound) {
    window.expected = g_malloc (window.length + 1);
    read_anew (&window, 0, window.length);
  }
  change_window (&window);
  if (window.expected && window.length) {
    compare (&window, 0, window.length, "written");
  }
  if (tn_node_close (window.node, NULL) == 0 && sound) {
    look_again (&window);
  }
  g_free (window.expected);
}
