/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile client of the NBD server.  The first byte of an input says how far a good client gets before it
 * turns bad (not at all, or into the transmission with simple, structured or extended replies), whether the
 * export is read-only, whether answers are fetched only at the end, and whether bytes come in small pieces.
 * The rest is what it sends.
 *
 * All of it is handled, the connection ends with it, and nothing is written to what is exported read-only.
 */
#include "../../plugins/common/nbd/wire.h"
#include "block-fixture.h"

#include <tenon/export.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_SIZE (512u << 10)
/* More would only fill the socket. */
#define MOST_INPUT (64u << 10)
#define PIECE 5

enum { MODE = 3, READ_ONLY = 4, LATE = 8, PIECES = 16 };

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

typedef struct Bench {
  struct sockaddr_un address;
  socklen_t address_length;
  TnLoop *loop;
  MemDisk *disk;
  TnExportServer *server;
  unsigned ended;
} Bench;

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
  Bench *bench = opaque;
  if (notice->event == TN_EXPORT_DISCONNECTED)
    bench->ended++;
}

/* An abstract socket, whose name the kernel chooses. */
static int
listen_anywhere (Bench *bench)
{
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bench->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  bench->address_length = sizeof bench->address;
  if (fd < 0 || bind (fd, (struct sockaddr *) &bench->address, sizeof (sa_family_t)) < 0 || listen (fd, 8) < 0
      || getsockname (fd, (struct sockaddr *) &bench->address, &bench->address_length) < 0)
    abort ();
  return fd;
}

static void
add_export (Bench *bench, const char *name, bool writable)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  TnExport *export = NULL;
  const char *open = "driver=raw,file.driver=mem,file.filename=fuzz-%s";
  g_autofree char *disk_name = g_strdup_printf ("fuzz-%s", name), *text = g_strdup_printf (open, name);
  MemDisk *disk = mem_disk (disk_name, DISK_SIZE);
  TnNode *node = open_node_text (text, writable ? TN_OPEN_WRITE : 0);
  tn_options_set (options, "name", name);
  tn_options_set (options, "description", "what is there");
  tn_options_set (options, "writable", writable ? "on" : "off");
  tn_options_set (options, "allocation-depth", "on");
  TnDrive *drive = tn_drive_new (node, TN_CACHE_WRITEBACK, writable);
  tn_node_unref (node);
  if (!writable)
    disk->fault = refuse_writes;
  if (tn_export_new ("nbd", bench->server, drive, options, &export, NULL) < 0)
    abort ();
}

static void
make_bench (Bench *bench)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  bench->loop = tn_loop_current ();
  tn_options_set_uint (options, "addr.fd", (uint64_t) listen_anywhere (bench));
  tn_options_set_uint (options, "handshake-max-seconds", 0);
  if (tn_export_server_new ("nbd", options, &bench->server, NULL) < 0)
    abort ();
  tn_export_server_on_event (bench->server, noticed, bench);
  add_export (bench, "w", true);
  add_export (bench, "r", false);
}

/* ---- The good part ---- */

static void
put_u32 (GByteArray *out, uint32_t value)
{
  uint8_t bytes[4];
  tn_store_be32 (bytes, value);
  g_byte_array_append (out, bytes, sizeof bytes);
}

static void
put_option (GByteArray *out, uint32_t option, const void *data, uint32_t length)
{
  put_u32 (out, NBD_OPTION_MAGIC >> 32);
  put_u32 (out, (uint32_t) NBD_OPTION_MAGIC);
  put_u32 (out, option);
  put_u32 (out, length);
  g_byte_array_append (out, data, length);
}

static void
put_beginning (GByteArray *out, unsigned flags)
{
  const char *name = flags & READ_ONLY ? "r" : "w";
  g_autofree char *contexts =
      g_strdup_printf ("...\001%s...\002...\017base:allocation...\025qemu:allocation-depth", name);
  g_autofree char *go = g_strdup_printf ("...\001%s..", name);
  put_u32 (out, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
  if ((flags & MODE) == 2)
    put_option (out, NBD_OPT_STRUCTURED_REPLY, "", 0);
  if ((flags & MODE) == 3)
    put_option (out, NBD_OPT_EXTENDED_HEADERS, "", 0);
  if ((flags & MODE) >= 2) {
    g_strdelimit (contexts, ".", '\0');
    put_option (out, NBD_OPT_SET_META_CONTEXT, contexts, 4 + 1 + 4 + 4 + 15 + 4 + 21);
  }
  g_strdelimit (go, ".", '\0');
  put_option (out, NBD_OPT_GO, go, 4 + 1 + 2);
}

/* ---- The connection ---- */

static bool
fetch (int fd)
{
  static uint8_t buffer[1 << 16];
  ssize_t got;
  do
    got = recv (fd, buffer, sizeof buffer, MSG_DONTWAIT);
  while (got > 0);
  return got < 0 && errno == EAGAIN;
}

/* False: the server has hung up. */
static bool
send_all (Bench *bench, int fd, const GByteArray *bytes, unsigned flags)
{
  bool open = true;
  for (guint at = 0, stuck = 0; at < bytes->len && open;) {
    const size_t most = flags & PIECES ? PIECE : bytes->len;
    const ssize_t sent =
        send (fd, bytes->data + at, MIN (most, bytes->len - at), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
      return false;
    at += (guint) MAX (sent, 0);
    stuck = sent < 0 ? stuck + 1 : 0;
    tn_loop_iterate (bench->loop, false);
    /* One that fetches nothing stops being listened to. */
    if (!(flags & LATE) || stuck > 100)
      open = fetch (fd);
  }
  return open;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static Bench bench;
  if (size < 2 || size > MOST_INPUT)
    return 0;
  if (!bench.server)
    make_bench (&bench);
  const unsigned flags = data[0];
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  if (flags & MODE)
    put_beginning (bytes, flags);
  g_byte_array_append (bytes, data + 1, (guint) size - 1);
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect (fd, (struct sockaddr *) &bench.address, bench.address_length) < 0)
    abort ();
  bench.ended = 0;
  send_all (&bench, fd, bytes, flags);
  shutdown (fd, SHUT_WR);
  while (fetch (fd) || !bench.ended)
    tn_loop_iterate (bench.loop, false);
  close (fd);
  while (tn_loop_iterate (bench.loop, false))
    continue;
  return 0;
}
