/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile front end of the vhost-user-blk export.  The first byte of an input says whether a good front end
 * comes first, which shares memory and starts two rings, and whether the export is read-only.  The rest are
 * steps: messages with any descriptors, bytes that are no messages, changes of the shared memory (and so of
 * rings and requests), kicks, and memory that is taken away.
 *
 * All of it is handled, the connection ends with it, and nothing is written to what is exported read-only.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "block-fixture.h"

#include <tenon/export.h>

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_SIZE (256u << 10)
#define MEMORY (64u << 10)
#define USER UINT64_C (0x7000000000)
#define MOST_STEPS 400
#define QUEUES 2
#define RING_SIZE 16u

enum { GOOD = 1, READ_ONLY = 2 };

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

typedef struct Side {
  struct sockaddr_un address;
  socklen_t address_length;
  unsigned ended;
} Side;

typedef struct Front {
  int fd, memory, kicks[QUEUES];
  const uint8_t *data, *end;
} Front;

/* ---- The export ---- */

static int
refuse_writes (MemDisk *disk, const TnRequest *request)
{
  if (request->op != TN_REQUEST_READ && request->op != TN_REQUEST_FLUSH)
    abort ();
  return 0;
}

static void
noticed (const TnExportNotice *notice, void *opaque)
{
  Side *side = opaque;
  if (notice->event == TN_EXPORT_DISCONNECTED)
    side->ended++;
}

/* An abstract socket, whose name the kernel chooses. */
static int
listen_anywhere (Side *side)
{
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  side->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  side->address_length = sizeof side->address;
  if (fd < 0 || bind (fd, (struct sockaddr *) &side->address, sizeof (sa_family_t)) < 0 || listen (fd, 8) < 0
      || getsockname (fd, (struct sockaddr *) &side->address, &side->address_length) < 0)
    abort ();
  return fd;
}

static void
make_side (Side *side, const char *name, bool writable)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autofree char *text = g_strdup_printf ("driver=raw,file.driver=mem,file.filename=fuzz-vu-%s", name);
  g_autofree char *disk_name = g_strdup_printf ("fuzz-vu-%s", name);
  TnExport *export = NULL;
  MemDisk *disk = mem_disk (disk_name, DISK_SIZE);
  TnNode *node = open_node_text (text, writable ? TN_OPEN_WRITE : 0);
  TnDrive *drive = tn_drive_new (node, TN_CACHE_WRITEBACK, writable);
  tn_node_unref (node);
  if (!writable)
    disk->fault = refuse_writes;
  tn_options_set (options, "addr.type", "fd");
  tn_options_set_uint (options, "addr.str", (uint64_t) listen_anywhere (side));
  tn_options_set (options, "writable", writable ? "on" : "off");
  tn_options_set_uint (options, "num-queues", QUEUES);
  if (tn_export_new ("vhost-user-blk", NULL, drive, options, &export, NULL) < 0)
    abort ();
  tn_export_on_event (export, noticed, side);
}

/* ---- Sending ---- */

static void
fetch (const Front *front)
{
  uint8_t buffer[4096];
  while (recv (front->fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
    continue;
}

static void
pump (const Front *front)
{
  for (unsigned i = 0; i < 8 && tn_loop_iterate (tn_loop_current (), false); i++)
    continue;
  fetch (front);
}

static void
send_with (const Front *front, const void *bytes, size_t length, const int *fds, unsigned n)
{
  union {
    char bytes[CMSG_SPACE (16 * sizeof (int))];
    struct cmsghdr align;
  } control = { { 0 } };
  struct iovec iov = { (void *) (uintptr_t) bytes, length };
  struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
  if (n) {
    header.msg_control = &control;
    header.msg_controllen = CMSG_SPACE (n * sizeof (int));
    struct cmsghdr *part = CMSG_FIRSTHDR (&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN (n * sizeof (int));
    memcpy (CMSG_DATA (part), fds, n * sizeof (int));
  }
  if (length)
    (void) !sendmsg (front->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
say (const Front *front, uint32_t request, uint32_t flags, const void *payload, uint32_t size, int fd)
{
  uint8_t bytes[12 + 512];
  const uint32_t head[3] = { request, flags, size };
  memcpy (bytes, head, sizeof head);
  memcpy (bytes + sizeof head, payload, size);
  send_with (front, bytes, sizeof head + size, &fd, fd >= 0 ? 1 : 0);
  pump (front);
}

/* ---- The good part ---- */

static void
start_ring (const Front *front, uint32_t index)
{
  const uint64_t at = USER + index * 0x2000;
  const uint64_t address[5] = { index, at, at + 0x1000, at + 0x800, 0 }, place[1] = { index };
  say (front, 8, 1, (uint32_t[]){ index, RING_SIZE }, 8, -1);
  say (front, 10, 1, (uint32_t[]){ index, 0 }, 8, -1);
  say (front, 9, 1, address, sizeof address, -1);
  const int call = eventfd (0, EFD_CLOEXEC);
  say (front, 13, 1, place, sizeof place, call);
  close (call);
  say (front, 12, 1, place, sizeof place, front->kicks[index]);
  say (front, 18, 1, (uint32_t[]){ index, 1 }, 8, -1);
}

static void
be_good (const Front *front, bool read_only)
{
  const uint64_t features = UINT64_C (0x170000044) | (read_only ? 1 << 5 : 0), protocol = 0x8229;
  const uint64_t table[5] = { 1, 0, MEMORY, USER, 0 };
  say (front, 2, 1, &features, sizeof features, -1);
  say (front, 16, 1, &protocol, sizeof protocol, -1);
  say (front, 5, 1, table, sizeof table, front->memory);
  for (uint32_t i = 0; i < QUEUES; i++)
    start_ring (front, i);
}

/* ---- Steps ---- */

static unsigned
byte (Front *front)
{
  return front->data < front->end ? *front->data++ : 0;
}

static size_t
take (Front *front, size_t most, const uint8_t **bytes)
{
  const size_t n = MIN (most, (size_t) (front->end - front->data));
  *bytes = front->data;
  front->data += n;
  return n;
}

static void
step_message (Front *front)
{
  const uint32_t request = byte (front), flags = byte (front), n = byte (front) & 15, kind = byte (front);
  const uint32_t size = byte (front);
  const uint8_t *payload;
  uint8_t bytes[12 + 256] = { 0 };
  int fds[16], ends[2] = { -1, -1 };
  if (kind % 4 == 3 && pipe (ends) < 0)
    abort ();
  for (unsigned i = 0; i < 16; i++)
    fds[i] = kind % 4 == 0   ? front->memory
             : kind % 4 == 1 ? front->kicks[0]
             : kind % 4 == 2 ? front->fd
                             : ends[1];
  memcpy (bytes, (const uint32_t[]){ request, flags, size }, 12);
  const size_t have = take (front, size, &payload);
  memcpy (bytes + 12, payload, have);
  send_with (front, bytes, 12 + size, fds, n);
  if (ends[0] >= 0) {
    close (ends[0]);
    close (ends[1]);
  }
}

static void
step_memory (Front *front)
{
  const unsigned at = byte (front) << 8 | byte (front);
  const uint8_t *bytes;
  const size_t n = take (front, MIN (byte (front), MEMORY - at), &bytes);
  /* By the file, since it may have been cut short. */
  (void) !pwrite (front->memory, bytes, n, at);
}

static void
step (Front *front)
{
  const uint64_t one = 1;
  const uint8_t *bytes;
  size_t n;
  switch (byte (front) % 6) {
  case 0:
  case 1:
    step_message (front);
    break;
  case 2:
    n = take (front, byte (front) % 32, &bytes);
    send_with (front, bytes, n, NULL, 0);
    break;
  case 3:
    step_memory (front);
    break;
  case 4:
    (void) !write (front->kicks[byte (front) % QUEUES], &one, sizeof one);
    break;
  default:
    (void) !ftruncate (front->memory, byte (front) % 4 == 0 ? 0 : MEMORY);
  }
  pump (front);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static Side sides[2];
  if (size < 2 || size > 16384)
    return 0;
  if (!sides[0].address_length) {
    make_side (&sides[0], "w", true);
    make_side (&sides[1], "r", false);
  }
  const bool read_only = data[0] & READ_ONLY;
  Side *side = &sides[read_only];
  Front front = { .data = data + 1, .end = data + size };
  front.fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  front.memory = memfd_create ("fuzz", MFD_CLOEXEC);
  for (unsigned i = 0; i < QUEUES; i++)
    front.kicks[i] = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (front.fd < 0 || front.memory < 0 || ftruncate (front.memory, MEMORY) < 0
      || connect (front.fd, (struct sockaddr *) &side->address, side->address_length) < 0)
    abort ();
  side->ended = 0;
  pump (&front);
  if (data[0] & GOOD)
    be_good (&front, read_only);
  for (unsigned i = 0; i < MOST_STEPS && front.data < front.end; i++)
    step (&front);
  shutdown (front.fd, SHUT_WR);
  while (!side->ended) {
    tn_loop_iterate (tn_loop_current (), false);
    fetch (&front);
  }
  close (front.fd);
  close (front.memory);
  for (unsigned i = 0; i < QUEUES; i++)
    close (front.kicks[i]);
  while (tn_loop_iterate (tn_loop_current (), false))
    continue;
  return 0;
}
