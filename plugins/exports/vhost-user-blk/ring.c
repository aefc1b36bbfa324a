/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rings: what the front end says of each, and when it runs. */
#include "vhost-user.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_MASK 0xffu
#define NO_FD 0x100u

/* ---- Eventfds ---- */

/* Anonymous files only: a pipe or a socket might raise signals, and anything else might wait. */
static bool
is_eventfd (int fd)
{
  struct stat st;
  return fstat (fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

/* When it is full the other side has been told already.  Whether writing waits is shared with the front end,
 * which may count on waiting itself; so it is not changed, but asked first. */
static void
signal_fd (int fd)
{
  const uint64_t one = 1;
  struct pollfd room = { .fd = fd, .events = POLLOUT };
  if (fd < 0 || poll (&room, 1, 0) != 1 || !(room.revents & POLLOUT))
    return;
  if (write (fd, &one, sizeof one) < 0)
    return;
}

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

/* ---- Serving ---- */

static void
ring_serve (VuRing *ring)
{
  if (ring->running && !ring->export->waiting && !ring->export->leaving)
    virtio_blk_serve (&ring->export->blk, ring->queue);
}

static void
kick_ready (int fd, short events, void *opaque)
{
  VuRing *ring = opaque;
  uint64_t count;
  const ssize_t got = read (fd, &count, sizeof count);
  if (got < 0 && errno != EAGAIN && errno != EINTR) {
    vu_front_drop (ring->export, "the descriptor for kicks cannot be read");
    return;
  }
  ring_serve (ring);
}

static void
interrupt (void *opaque)
{
  const VuRing *ring = opaque;
  signal_fd (ring->call);
}

static void
broken (const char *why, void *opaque)
{
  VuRing *ring = opaque;
  signal_fd (ring->err);
  vu_front_drop (ring->export, why);
}

static void
idle (void *opaque)
{
  const VuRing *ring = opaque;
  vu_continue_soon (ring->export);
}

/* ---- Beginning and end ---- */

void
vu_ring_init (VuExport *export, unsigned index)
{
  static const TnVirtqOps ops = {
    .size = sizeof (TnVirtqOps), .interrupt = interrupt, .broken = broken, .idle = idle
  };
  VuRing *ring = &export->rings[index];
  *ring = (VuRing){ .export = export, .index = index, .kick = -1, .call = -1, .err = -1 };
  ring->queue = tn_virtq_new (TN_VIRTIO_QUEUE_MAX, &ops, ring);
}

static void
ring_watch (VuRing *ring, bool on)
{
  if (ring->kick >= 0)
    tn_loop_watch_fd (ring->export->loop, ring->kick, on ? POLLIN : 0, kick_ready, ring, NULL);
}

static void
ring_stop (VuRing *ring)
{
  if (!ring->running)
    return;
  ring_watch (ring, false);
  ring->next = tn_virtq_stop (ring->queue);
  ring->running = false;
}

void
vu_ring_reset (VuRing *ring)
{
  ring_stop (ring);
  close_fd (&ring->kick);
  close_fd (&ring->call);
  close_fd (&ring->err);
  ring->descriptors = ring->available = ring->used = 0;
  ring->size = ring->next = 0;
  ring->kicked = ring->enabled = false;
}

void
vu_ring_clear (VuRing *ring)
{
  vu_ring_reset (ring);
  g_clear_pointer (&ring->queue, tn_virtq_free);
}

static int
ring_start (VuRing *ring, GError **error)
{
  VuExport *export = ring->export;
  uint64_t descriptors, available, used;
  if (!export->space || !vu_guest_address (export, ring->descriptors, &descriptors)
      || !vu_guest_address (export, ring->available, &available)
      || !vu_guest_address (export, ring->used, &used)
      || !tn_virtq_start (ring->queue, export->space, export->features, ring->size, descriptors, available,
                          used, ring->next))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "ring %u cannot run: its size (%u) or addresses are wrong, or not in shared memory",
                    ring->index, ring->size);
  ring->running = true;
  ring_watch (ring, true);
  ring_serve (ring);
  return 0;
}

/* Without protocol features a ring is enabled from the beginning. */
static bool
shall_run (const VuRing *ring)
{
  const bool enabled = ring->enabled || !(ring->export->features & (1ull << VU_F_PROTOCOL_FEATURES));
  return ring->kicked && enabled;
}

int
vu_ring_update (VuRing *ring, GError **error)
{
  if (shall_run (ring) && !ring->running)
    return ring_start (ring, error);
  if (!shall_run (ring))
    ring_stop (ring);
  return 0;
}

int
vu_rings_renew (VuExport *export, GError **error)
{
  int rc = 0;
  for (unsigned i = 0; i < export->blk.n_queues && rc == 0; i++) {
    ring_stop (&export->rings[i]);
    rc = vu_ring_update (&export->rings[i], error);
  }
  return rc;
}

void
vu_rings_stop (VuExport *export)
{
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    ring_stop (&export->rings[i]);
}

void
vu_rings_serve (VuExport *export)
{
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    ring_serve (&export->rings[i]);
}

unsigned
vu_rings_in_flight (const VuExport *export)
{
  unsigned n = 0;
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    n += tn_virtq_in_flight (export->rings[i].queue);
  return n;
}

/* ---- Messages ---- */

static int
find_ring (VuExport *export, uint32_t index, VuRing **ring, GError **error)
{
  if (index >= export->blk.n_queues)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "there is no ring %u", index);
  *ring = &export->rings[index];
  return 0;
}

static int
set_addresses (VuRing *ring, const uint8_t *payload, GError **error)
{
  uint64_t addresses[4];
  uint32_t flags;
  memcpy (&flags, payload + 4, sizeof flags);
  memcpy (addresses, payload + 8, sizeof addresses);
  if (flags)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "SET_VRING_ADDR has the flags 0x%x", flags);
  ring_stop (ring);
  ring->descriptors = addresses[0];
  ring->used = addresses[1];
  ring->available = addresses[2];
  return vu_ring_update (ring, error);
}

static int
set_state (VuExport *export, VuRing *ring, const VuMessage *message, uint32_t value, GError **error)
{
  switch (message->request) {
  case VU_GET_VRING_BASE:
    ring->kicked = false;
    ring_stop (ring);
    return vu_reply (export, message, (uint32_t[]){ ring->index, ring->next }, 8, error);
  case VU_SET_VRING_ENABLE:
    ring->enabled = value != 0;
    return vu_ring_update (ring, error);
  default:
    break;
  }
  if (ring->running || value > UINT16_MAX)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u sets ring %u to %u%s", message->request,
                    ring->index, value, ring->running ? " while it runs" : "");
  if (message->request == VU_SET_VRING_NUM)
    ring->size = (uint16_t) value;
  else
    ring->next = (uint16_t) value;
  return 0;
}

int
vu_ring_message (VuExport *export, const VuMessage *message, GError **error)
{
  const bool addresses = message->request == VU_SET_VRING_ADDR;
  uint32_t state[2] = { 0, 0 };
  VuRing *ring = NULL;
  if (message->size != (addresses ? 40 : sizeof state))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has %u bytes", message->request,
                    message->size);
  memcpy (state, message->payload, sizeof state);
  const int rc = find_ring (export, state[0], &ring, error);
  if (rc < 0)
    return rc;
  return addresses ? set_addresses (ring, message->payload, error)
                   : set_state (export, ring, message, state[1], error);
}

static int
set_fd (VuRing *ring, uint32_t request, int fd, GError **error)
{
  switch (request) {
  case VU_SET_VRING_CALL:
    close_fd (&ring->call);
    ring->call = fd;
    return 0;
  case VU_SET_VRING_ERR:
    close_fd (&ring->err);
    ring->err = fd;
    return 0;
  default:
    ring_stop (ring);
    close_fd (&ring->kick);
    ring->kick = fd;
    ring->kicked = true;
    return vu_ring_update (ring, error);
  }
}

int
vu_ring_fd (VuExport *export, const VuMessage *message, GError **error)
{
  uint64_t value;
  VuRing *ring = NULL;
  if (message->size != sizeof value)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has %u bytes", message->request,
                    message->size);
  memcpy (&value, message->payload, sizeof value);
  const int rc = find_ring (export, value & INDEX_MASK, &ring, error);
  if (rc < 0)
    return rc;
  const bool none = value & NO_FD;
  if (none && message->request == VU_SET_VRING_KICK)
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "ring %u would have to be polled, which is not supported: it needs a descriptor for kicks",
        ring->index);
  if (none)
    return set_fd (ring, message->request, -1, error);
  if (export->input.n_fds != 1 || !is_eventfd (export->input.fds[0]))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u came without an eventfd", message->request);
  const int fd = vu_take_fd (export);
  if (message->request == VU_SET_VRING_KICK)
    fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK);
  return set_fd (ring, message->request, fd, error);
}
