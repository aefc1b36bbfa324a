/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile server for the NBD client.  The first byte of an input says how far the server behaves: not at
 * all, or through the negotiation with simple, structured or extended replies.  Then follow records, one for
 * each request that arrives: what kind of answer, and bytes that are laid over the right one (see answer()).
 * When the records are used up, the server hangs up.
 *
 * Every request of the client ends, and the node can be closed.
 */
#include "../../plugins/common/nbd/wire.h"
#include "block-fixture.h"

#include <tenon/loop.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_SIZE (1u << 20)
#define MOST_INPUT (64u << 10)
#define N_READS 3
#define READ_SIZE 8192u
#define SILENCE_US 30000

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* ---- The server ---- */

typedef struct Liar {
  int fd;
  const uint8_t *at, *end;
  unsigned mode;
} Liar;

enum { RAW, SIMPLE, STRUCTURED, EXTENDED };

static bool
take (const Liar *liar, void *buffer, size_t length)
{
  for (size_t done = 0; done < length;) {
    const ssize_t got = recv (liar->fd, (char *) buffer + done, length - done, 0);
    if (got <= 0)
      return false;
    done += (size_t) got;
  }
  return true;
}

static void
give (const Liar *liar, const void *buffer, size_t length)
{
  for (size_t done = 0; done < length;) {
    const ssize_t sent = send (liar->fd, (const char *) buffer + done, length - done, MSG_NOSIGNAL);
    if (sent <= 0)
      return;
    done += (size_t) sent;
  }
}

static void
give_option_reply (const Liar *liar, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
  uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];
  tn_store_be64 (header, NBD_OPTION_REPLY_MAGIC);
  tn_store_be32 (header + 8, option);
  tn_store_be32 (header + 12, type);
  tn_store_be32 (header + 16, length);
  give (liar, header, sizeof header);
  give (liar, data, length);
}

static void
give_option (const Liar *liar, uint32_t option)
{
  uint8_t info[12] = { 0 }, context[4 + 15] = { 0, 0, 0, 9 };
  uint32_t type = NBD_REP_ACK;
  if (option == NBD_OPT_EXTENDED_HEADERS && liar->mode != EXTENDED)
    type = NBD_REP_ERR_UNSUP;
  if (option == NBD_OPT_STRUCTURED_REPLY && liar->mode == SIMPLE)
    type = NBD_REP_ERR_UNSUP;
  if (option == NBD_OPT_SET_META_CONTEXT) {
    memcpy (context + 4, NBD_CONTEXT_ALLOCATION, 15);
    give_option_reply (liar, option, NBD_REP_META_CONTEXT, context, sizeof context);
  }
  if (option == NBD_OPT_GO) {
    tn_store_be64 (info + 2, DISK_SIZE);
    tn_store_be16 (info + 10, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA
                                  | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF);
    give_option_reply (liar, option, NBD_REP_INFO, info, sizeof info);
  }
  give_option_reply (liar, option, type, "", 0);
}

static bool
negotiate (const Liar *liar)
{
  uint8_t greeting[NBD_GREETING_SIZE], header[NBD_OPTION_HEADER_SIZE], data[8192];
  tn_store_be64 (greeting, NBD_MAGIC);
  tn_store_be64 (greeting + 8, NBD_OPTION_MAGIC);
  tn_store_be16 (greeting + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
  give (liar, greeting, sizeof greeting);
  if (!take (liar, data, 4))
    return false;
  while (take (liar, header, sizeof header)) {
    const uint32_t option = tn_load_be32 (header + 8), length = tn_load_be32 (header + 12);
    if (length > sizeof data || !take (liar, data, length))
      abort ();
    give_option (liar, option);
    if (option == NBD_OPT_GO)
      return true;
  }
  return false;
}

enum { KIND = 7, MORE = 8, HANG_UP = 16 };

static size_t
put_reply (const Liar *liar, const NbdRequestHeader *request, unsigned kind, uint8_t *out)
{
  static const uint16_t types[] = { NBD_REPLY_NONE,         NBD_REPLY_NONE,         NBD_REPLY_OFFSET_DATA,
                                    NBD_REPLY_OFFSET_HOLE,  NBD_REPLY_BLOCK_STATUS, NBD_REPLY_ERROR,
                                    NBD_REPLY_ERROR_OFFSET, NBD_REPLY_NONE };
  const uint64_t payload[] = { 0, 0, 8 + 512, 12, 12, 6, 14, 0 };
  const bool extended = liar->mode == EXTENDED;
  if (kind <= 1 && !extended)
    return nbd_put_simple_reply (out, 0, request->cookie);
  NbdChunkHeader chunk = { .flags = NBD_REPLY_FLAG_DONE,
                           .type = types[kind],
                           .cookie = request->cookie,
                           .offset = request->offset,
                           .length = payload[kind] };
  if (extended && kind == 4) {
    chunk.type = NBD_REPLY_BLOCK_STATUS_EXT;
    chunk.length = 24;
  }
  const size_t head = nbd_put_chunk (out, extended, &chunk);
  memset (out + head, 0, chunk.length);
  if (kind == 2 || kind == 3)
    tn_store_be64 (out + head, request->offset);
  if (kind == 3)
    tn_store_be32 (out + head + 8, (uint32_t) request->length);
  if (kind == 4) {
    out[head + 3] = 9;
    out[head + (extended ? 8 : 4) + 2] = 16;
  }
  if (kind == 5 || kind == 6)
    out[head + 3] = 5;
  return head + chunk.length;
}

/* One record: kind and flags, the number of bytes that are laid over the answer, those bytes.  What goes
 * beyond the answer makes it longer. */
static bool
answer (Liar *liar, const NbdRequestHeader *request)
{
  uint8_t out[1024];
  unsigned what;
  do {
    if (liar->end - liar->at < 2)
      return false;
    what = liar->at[0];
    const size_t over = MIN (liar->at[1], (size_t) (liar->end - liar->at) - 2);
    size_t length = put_reply (liar, request, what & KIND, out);
    if (length < over) {
      memset (out + length, 0, over - length);
      length = over;
    }
    for (size_t i = 0; i < over; i++)
      out[i] ^= liar->at[2 + i];
    liar->at += 2 + over;
    give (liar, out, length);
    if ((what & KIND) == 1 && request->type == NBD_CMD_READ && request->length <= READ_SIZE) {
      static const uint8_t zeroes[READ_SIZE];
      give (liar, zeroes, request->length);
    }
  } while (what & MORE);
  return !(what & HANG_UP);
}

static bool
take_request (const Liar *liar, NbdRequestHeader *request)
{
  uint8_t head[NBD_EXTENDED_REQUEST_SIZE], data[4096];
  const bool extended = liar->mode == EXTENDED;
  if (!take (liar, head, nbd_request_size (extended)) || !nbd_get_request (head, extended, request)
      || request->type == NBD_CMD_DISC)
    return false;
  for (uint64_t left = request->type == NBD_CMD_WRITE ? request->length : 0; left;) {
    const size_t part = (size_t) MIN (left, sizeof data);
    if (!take (liar, data, part))
      return false;
    left -= part;
  }
  return true;
}

static void *
lie (void *opaque)
{
  Liar *liar = opaque;
  NbdRequestHeader request;
  uint8_t rest[4096];
  const int listener = liar->fd;
  liar->fd = accept (listener, NULL, NULL);
  close (listener); /* who comes again is refused */
  /* A client that waits for the rest of an answer waits for ever, and rightly so: hung up on. */
  setsockopt (liar->fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_usec = SILENCE_US },
              sizeof (struct timeval));
  if (liar->mode == RAW)
    give (liar, liar->at, (size_t) (liar->end - liar->at));
  else if (negotiate (liar))
    while (take_request (liar, &request) && answer (liar, &request))
      continue;
  shutdown (liar->fd, SHUT_WR);
  ssize_t got;
  do
    got = recv (liar->fd, rest, sizeof rest, 0);
  while (got > 0 || (got < 0 && errno == EAGAIN));
  close (liar->fd);
  return NULL;
}

/* ---- The client ---- */

typedef struct Load {
  TnNode *node;
  unsigned left;
} Load;

static void
read_some (void *opaque)
{
  Load *load = opaque;
  uint8_t buffer[READ_SIZE];
  tn_node_read (load->node, 4096 * load->left, buffer, sizeof buffer, NULL);
  load->left--;
}

static void
map_all (TnNode *node)
{
  uint64_t at = 0;
  for (unsigned i = 0; i < 8 && at < tn_node_size (node); i++) {
    TnExtent extent = { 0 };
    if (tn_node_map (node, at, tn_node_size (node) - at, 0, &extent, NULL) < 0)
      return;
    if (extent.length == 0 || extent.offset > at || extent.offset + extent.length <= at)
      abort ();
    at = extent.offset + extent.length;
  }
}

static void
use (void *opaque)
{
  TnNode *node = opaque;
  static uint8_t data[8192];
  tn_node_read (node, 0, data, 512, NULL);
  map_all (node);
  tn_node_write (node, 8192, data, sizeof data, NULL);
  tn_node_write_zeroes (node, 0, 65536, 0, NULL);
  tn_node_discard (node, 65536, 65536, NULL);
  tn_node_flush (node, NULL);
}

static void
exercise (TnNode *node)
{
  Load load = { node, N_READS };
  for (unsigned i = 0; i < N_READS; i++)
    tn_co_start (read_some, &load);
  while (load.left)
    tn_loop_iterate (tn_loop_current (), true);
  tn_co_run (use, node);
}

static int
make_listener (struct sockaddr_un *address)
{
  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  g_snprintf (address->sun_path, sizeof address->sun_path, "%s/fuzz-nbd-%d", g_get_tmp_dir (),
              (int) getpid ());
  unlink (address->sun_path);
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind (fd, (struct sockaddr *) address, sizeof *address) < 0 || listen (fd, 8) < 0)
    abort ();
  return fd;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct sockaddr_un address;
  if (size < 2 || size > MOST_INPUT)
    return 0;
  Liar liar = { .fd = make_listener (&address), .at = data + 1, .end = data + size, .mode = data[0] & 3 };
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (TnNode) node = NULL;
  tn_options_set (options, "driver", "nbd");
  tn_options_set (options, "server.path", address.sun_path);
  GThread *thread = g_thread_new ("liar", lie, &liar);
  if (tn_node_open (options, data[0] & 4 ? 0 : TN_OPEN_WRITE, &node, NULL) == 0)
    exercise (node);
  g_clear_pointer (&node, tn_node_unref);
  g_thread_join (thread);
  unlink (address.sun_path);
  return 0;
}
