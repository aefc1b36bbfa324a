/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where monitors are reached, and what goes over the wire. */
#define _GNU_SOURCE /* accept4() */
#include "monitor.h"

#include "../../plugins/common/unix-socket/unix-socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <tenon/sandbox.h>
#include <unistd.h>

#define MOST_INPUT (1u << 20)
#define PIECE 16384

typedef struct Monitor {
  Daemon *daemon;
  char *path;   /* of the socket, or NULL */
  int listener; /* or -1 */
  int in, out;  /* or -1; the same for a socket */
  bool pretty, capable, closing;
  GString *received, *answers;
  size_t scanned;
  unsigned depth;
  bool in_string, escaped;
} Monitor;

static void input_ready (int fd, short events, void *opaque);
static void output_ready (int fd, short events, void *opaque);
static void someone_ready (int fd, short events, void *opaque);

/* ---- One client ---- */

static void
watch (Monitor *monitor)
{
  TnLoop *loop = monitor->daemon->loop;
  const bool pending = monitor->answers->len > 0;
  if (monitor->in < 0 || monitor->daemon->busy)
    return;
  if (monitor->in == monitor->out) {
    tn_loop_watch_fd (loop, monitor->in, pending ? POLLOUT : POLLIN, pending ? output_ready : input_ready,
                      monitor, NULL);
    return;
  }
  tn_loop_watch_fd (loop, monitor->in, pending ? 0 : POLLIN, input_ready, monitor, NULL);
  tn_loop_watch_fd (loop, monitor->out, pending ? POLLOUT : 0, output_ready, monitor, NULL);
}

static void
unwatch (Monitor *monitor)
{
  TnLoop *loop = monitor->daemon->loop;
  if (monitor->in < 0)
    return;
  tn_loop_watch_fd (loop, monitor->in, 0, NULL, NULL, NULL);
  if (monitor->out != monitor->in)
    tn_loop_watch_fd (loop, monitor->out, 0, NULL, NULL, NULL);
}

static void
hang_up (Monitor *monitor)
{
  TnLoop *loop = monitor->daemon->loop;
  if (monitor->in < 0)
    return;
  unwatch (monitor);
  if (monitor->out == monitor->in)
    close (monitor->in);
  monitor->in = monitor->out = -1;
  g_string_truncate (monitor->received, 0);
  g_string_truncate (monitor->answers, 0);
  monitor->scanned = 0;
  monitor->depth = 0;
  monitor->capable = monitor->in_string = monitor->escaped = false;
  if (monitor->listener >= 0 && !monitor->closing)
    tn_loop_watch_fd (loop, monitor->listener, POLLIN, someone_ready, monitor, NULL);
}

static void
send_answers (Monitor *monitor)
{
  while (monitor->out >= 0 && monitor->answers->len > 0) {
    const ssize_t sent = write (monitor->out, monitor->answers->str, monitor->answers->len);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && errno == EAGAIN)
      break;
    if (sent < 0) {
      hang_up (monitor);
      return;
    }
    g_string_erase (monitor->answers, 0, sent);
  }
  watch (monitor);
}

static void
output_ready (int fd, short events, void *opaque)
{
  send_answers (opaque);
}

/* ---- Framing ---- */

/* Looks at one more byte; true when a document ends with it. */
static bool
scan_byte (Monitor *monitor, char byte)
{
  if (monitor->escaped) {
    monitor->escaped = false;
    return false;
  }
  if (monitor->in_string) {
    monitor->escaped = byte == '\\';
    monitor->in_string = byte != '"';
    return false;
  }
  const bool closes = byte == '}' || byte == ']';
  monitor->in_string = byte == '"';
  if (byte == '{' || byte == '[')
    monitor->depth++;
  if (closes && monitor->depth > 0)
    monitor->depth--;
  return (closes || byte == '\n') && monitor->depth == 0;
}

static void
take_document (Monitor *monitor)
{
  g_autofree char *text = g_strndup (monitor->received->str, monitor->scanned);
  g_string_erase (monitor->received, 0, (gssize) monitor->scanned);
  monitor->scanned = 0;
  g_strstrip (text);
  if (*text)
    daemon_command (monitor->daemon, text, monitor->pretty, &monitor->capable, monitor->answers);
}

static void
work (Monitor *monitor)
{
  while (monitor->scanned < monitor->received->len && monitor->in >= 0) {
    const char byte = monitor->received->str[monitor->scanned];
    const bool whole = scan_byte (monitor, byte);
    monitor->scanned++;
    if (whole)
      take_document (monitor);
  }
}

/* A command may wait, and the loop goes on meanwhile: no other begins, and nothing is heard of clients. */
static void
set_busy (Daemon *daemon, bool busy)
{
  daemon->busy = busy;
  for (guint i = 0; i < daemon->monitors->len; i++) {
    Monitor *monitor = g_ptr_array_index (daemon->monitors, i);
    if (busy)
      unwatch (monitor);
    else
      send_answers (monitor);
  }
}

static void
input_ready (int fd, short events, void *opaque)
{
  Monitor *monitor = opaque;
  char piece[PIECE];
  const ssize_t got = read (fd, piece, sizeof piece);
  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (got <= 0 || monitor->received->len + (size_t) got > MOST_INPUT) {
    hang_up (monitor);
    return;
  }
  g_string_append_len (monitor->received, piece, got);
  set_busy (monitor->daemon, true);
  work (monitor);
  set_busy (monitor->daemon, false);
}

static void
greet (Monitor *monitor, int in, int out)
{
  monitor->in = in;
  monitor->out = out;
  daemon_greeting (monitor->pretty, monitor->answers);
  send_answers (monitor);
}

static void
someone_ready (int fd, short events, void *opaque)
{
  Monitor *monitor = opaque;
  const int client = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0)
    return;
  tn_loop_watch_fd (monitor->daemon->loop, fd, 0, NULL, NULL, NULL);
  greet (monitor, client, client);
}

void
daemon_event (Daemon *daemon, const char *name, const char *id)
{
  for (guint i = 0; i < daemon->monitors->len; i++) {
    Monitor *monitor = g_ptr_array_index (daemon->monitors, i);
    if (!monitor->capable)
      continue;
    const gint64 now = g_get_real_time ();
    g_autoptr (TnJson) json = tn_json_new (monitor->answers, monitor->pretty);
    tn_json_object_begin (json, NULL);
    tn_json_string (json, "event", name);
    tn_json_object_begin (json, "data");
    tn_json_string (json, "id", id);
    tn_json_object_end (json);
    tn_json_object_begin (json, "timestamp");
    tn_json_int (json, "seconds", now / G_USEC_PER_SEC);
    tn_json_int (json, "microseconds", now % G_USEC_PER_SEC);
    tn_json_object_end (json);
    tn_json_object_end (json);
    g_string_append (monitor->answers, "\r\n");
    send_answers (monitor);
  }
}

/* ---- Character devices ---- */

static const char *const backends[] = { "socket", "stdio", NULL };

static const TnOption chardev_options[] = {
  { .name = "backend",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .choices = backends,
    .help = "a Unix socket, or standard input and output" },
  { .name = "id", .type = TN_OPTION_STRING, .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED, .help = "its name" },
  { .name = "path", .type = TN_OPTION_STRING, .help = "path of the socket" },
  { .name = "server", .type = TN_OPTION_BOOL, .value = "off", .help = "listen there (the only way)" },
  { .name = "wait", .type = TN_OPTION_BOOL, .value = "off", .help = "not supported: start without a client" },
  { .name = NULL },
};

static TnOptions *
find_chardev (const Daemon *daemon, const char *id)
{
  for (guint i = 0; i < daemon->chardevs->len; i++) {
    TnOptions *options = g_ptr_array_index (daemon->chardevs, i);
    if (g_strcmp0 (tn_options_get (options, "id"), id) == 0)
      return options;
  }
  return NULL;
}

int
daemon_chardev_add (Daemon *daemon, TnOptions *options, GError **error)
{
  const int rc =
      tn_options_check (options, chardev_options, sizeof *chardev_options, TN_OPTION_OPEN, "chardev", error);
  if (rc < 0)
    return rc;
  const char *id = tn_options_get (options, "id");
  const bool by_socket = strcmp (tn_options_get (options, "backend"), "socket") == 0;
  if (find_chardev (daemon, id))
    return tn_fail (error, TN_OPTION_ERROR, EEXIST, "there is a character device '%s' already", id);
  if (by_socket && (!tn_options_has (options, "path") || !tn_options_bool (options, "server")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "the socket of character device '%s' needs path=PATH,server=on,wait=off", id);
  if (tn_options_bool (options, "wait"))
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "character device '%s': wait=on is not supported, give wait=off", id);
  g_ptr_array_add (daemon->chardevs, tn_options_copy (options));
  return 0;
}

/* ---- Beginning and end ---- */

static const char *const modes[] = { "control", NULL };

static const TnOption monitor_options[] = {
  { .name = "chardev",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "id of the character device" },
  { .name = "id", .type = TN_OPTION_STRING, .help = "its name" },
  { .name = "mode", .type = TN_OPTION_ENUM, .value = "control", .choices = modes, .help = "JSON" },
  { .name = "pretty", .type = TN_OPTION_BOOL, .value = "off", .help = "answers in lines, indented" },
  { .name = NULL },
};

static int
monitor_open (Monitor *monitor, const TnOptions *chardev, GError **error)
{
  const char *path = tn_options_get (chardev, "path");
  if (strcmp (tn_options_get (chardev, "backend"), "stdio") == 0) {
    fcntl (STDIN_FILENO, F_SETFL, fcntl (STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    greet (monitor, STDIN_FILENO, STDOUT_FILENO);
    return 0;
  }
  g_autofree char *folder = g_path_get_dirname (path);
  int rc = tn_sandbox_keep (folder, TN_SANDBOX_REMOVE, error);
  if (rc == 0)
    rc = unix_socket_listen (path, 4, &monitor->listener, error);
  if (rc < 0)
    return rc;
  monitor->path = g_strdup (path);
  return tn_loop_watch_fd (monitor->daemon->loop, monitor->listener, POLLIN, someone_ready, monitor, error);
}

static void
monitor_free (Monitor *monitor)
{
  monitor->closing = true;
  send_answers (monitor);
  hang_up (monitor);
  if (monitor->listener >= 0) {
    tn_loop_watch_fd (monitor->daemon->loop, monitor->listener, 0, NULL, NULL, NULL);
    close (monitor->listener);
    unlink (monitor->path);
  }
  g_string_free (monitor->received, TRUE);
  g_string_free (monitor->answers, TRUE);
  g_free (monitor->path);
  g_free (monitor);
}

int
daemon_monitor_add (Daemon *daemon, TnOptions *options, GError **error)
{
  int rc =
      tn_options_check (options, monitor_options, sizeof *monitor_options, TN_OPTION_OPEN, "monitor", error);
  if (rc < 0)
    return rc;
  const char *id = tn_options_get (options, "chardev");
  const TnOptions *chardev = find_chardev (daemon, id);
  if (!chardev)
    return tn_fail (error, TN_OPTION_ERROR, ENOENT, "there is no character device '%s': use --chardev", id);
  Monitor *monitor = g_new0 (Monitor, 1);
  *monitor = (Monitor){ .daemon = daemon,
                        .listener = -1,
                        .in = -1,
                        .out = -1,
                        .pretty = tn_options_bool (options, "pretty"),
                        .received = g_string_new (NULL),
                        .answers = g_string_new (NULL) };
  rc = monitor_open (monitor, chardev, error);
  if (rc < 0)
    monitor_free (monitor);
  else
    g_ptr_array_add (daemon->monitors, monitor);
  return rc;
}

void
daemon_monitors_close (Daemon *daemon)
{
  while (daemon->monitors->len) {
    Monitor *monitor = g_ptr_array_index (daemon->monitors, daemon->monitors->len - 1);
    g_ptr_array_set_size (daemon->monitors, (gint) daemon->monitors->len - 1);
    monitor_free (monitor);
  }
}
