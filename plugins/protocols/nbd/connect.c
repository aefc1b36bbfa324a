/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connecting, at first and again. */
#include "client.h"

#include <sys/socket.h>

#define FIRST_PAUSE_NS INT64_C (50000000)
#define LONGEST_PAUSE_NS INT64_C (1000000000)

typedef struct Attempt {
  const NbdClient *client;
  int64_t handshake_ns;
  NbdChannel channel;
  NbdOffer offer;
  int rc;
  GError *error;
} Attempt;

/* On a worker thread, or on one that may wait. */
static void
attempt_work (void *opaque)
{
  Attempt *attempt = opaque;
  const NbdClient *client = attempt->client;
  const TnOptions *options = client->options;
  const int64_t deadline = tn_clock_ns () + attempt->handshake_ns;
  const NbdTalk talk = { .channel = &attempt->channel,
                         .deadline = deadline,
                         .cancel = &client->cancel,
                         .tls = client->tls,
                         .hostname = nbd_address_hostname (options) };
  attempt->channel.fd = -1;
  attempt->rc = nbd_address_connect (options, &attempt->channel, deadline, &client->cancel, &attempt->error);
  if (attempt->rc < 0) {
    g_prefix_error (&attempt->error, "cannot connect to the %s: ", client->server);
    return;
  }
  attempt->rc = nbd_handshake (&talk, tn_options_get (options, "export"), client->bitmap, &attempt->offer,
                               &attempt->error);
  if (attempt->rc < 0) {
    g_prefix_error (&attempt->error, "%s: ", client->server);
    nbd_channel_close (&attempt->channel);
  }
}

static void
run_attempt (Attempt *attempt)
{
  if (tn_co_self ())
    tn_co_work (attempt_work, attempt);
  else
    attempt_work (attempt);
}

static void
pause_for (int64_t ns)
{
  if (tn_co_self ())
    tn_co_sleep (ns);
  else
    g_usleep ((gulong) (ns / 1000));
}

/* Trying again is of no use after such an error. */
static bool
is_final (int rc)
{
  return rc == -EPROTO || rc == -ENOTSUP || rc == -ENOENT || rc == -EACCES || rc == -ENAMETOOLONG
         || rc == -EINVAL || rc == -ECANCELED;
}

/* A socket that is not there yet is no final answer. */
static bool
may_try_again (const Attempt *attempt, bool connected)
{
  return !is_final (attempt->rc) || (attempt->rc == -ENOENT && !connected);
}

int
nbd_line_connect (NbdLine *line, NbdOffer *offer, int64_t deadline, int64_t handshake_ns, GError **error)
{
  const NbdClient *client = line->client;
  int64_t pause = FIRST_PAUSE_NS;
  for (;;) {
    Attempt attempt = { .client = client, .handshake_ns = handshake_ns };
    run_attempt (&attempt);
    if (attempt.rc == 0) {
      line->channel = attempt.channel;
      line->allocation_id = attempt.offer.allocation_id;
      line->bitmap_id = attempt.offer.bitmap_id;
      *offer = attempt.offer;
      return 0;
    }
    const bool connected = attempt.error && g_str_has_prefix (attempt.error->message, client->server);
    const bool again = may_try_again (&attempt, connected) && tn_clock_ns () + pause < deadline;
    if (!again || g_atomic_int_get (&client->cancel)) {
      g_propagate_error (error, attempt.error);
      return attempt.rc;
    }
    g_clear_error (&attempt.error);
    pause_for (pause);
    pause = MIN (pause * 2, LONGEST_PAUSE_NS);
  }
}

/* ---- Again ---- */

/* The limits that the node was given still fit. */
static bool
blocks_fit (const NbdOffer *was, const NbdOffer *is)
{
  const uint32_t most_was = was->max_block ? was->max_block : NBD_MAX_PAYLOAD,
                 most_is = is->max_block ? is->max_block : NBD_MAX_PAYLOAD;
  return MAX (is->min_block, 1) <= MAX (was->min_block, 1)
         && MIN (most_is, NBD_MAX_PAYLOAD) >= MIN (most_was, NBD_MAX_PAYLOAD);
}

/* What was promised when the node was opened still holds.  An export may have grown, though. */
bool
nbd_offer_holds (const NbdOffer *was, const NbdOffer *is)
{
  return was->size <= is->size && (was->flags & ~is->flags) == 0
         && !(is->flags & ~was->flags & NBD_FLAG_READ_ONLY) && was->structured == is->structured
         && was->extended == is->extended && blocks_fit (was, is) && was->has_allocation == is->has_allocation
         && was->has_bitmap == is->has_bitmap;
}

static void
reconnect_main (void *opaque)
{
  NbdLine *line = opaque;
  NbdClient *client = line->client;
  NbdOffer offer;
  const int rc =
      nbd_line_connect (line, &offer, tn_clock_ns () + client->reconnect_ns, NBD_HANDSHAKE_NS, NULL);
  const bool cancelled = g_atomic_int_get (&client->cancel);
  line->link = NBD_LINK_DOWN;
  client->broken = client->broken || rc == -EPROTO || (rc == 0 && !nbd_offer_holds (&client->offer, &offer));
  if (rc == 0 && !client->broken && !cancelled) {
    /* All else stays as it was, since other threads read it. */
    if (offer.size > tn_node_size (client->node))
      tn_node_set_size (client->node, offer.size);
    nbd_line_up (line);
    return;
  }
  nbd_channel_close (&line->channel);
  nbd_line_fail_waiting (line, -EIO);
}

void
nbd_line_reconnect (NbdLine *line)
{
  line->link = NBD_LINK_CONNECTING;
  tn_co_start (reconnect_main, line);
}
