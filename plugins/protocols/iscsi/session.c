/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logging in, and asking the unit what it is.  All here waits, with a deadline. */
#include "iscsi.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#define MAX_ATTENTIONS 8
#define GOODBYE_NS INT64_C (1000000000)
#define SMALLEST_BLOCK 512
#define LARGEST_BLOCK 65536

void
iscsi_session_free (IscsiSession *session)
{
  if (!session)
    return;
  iscsi_destroy_context (session->context);
  g_free (session);
}

int
iscsi_session_serve (IscsiSession *session, int events)
{
  const TnSigpipe before = tn_sigpipe_block ();
  const int ret = iscsi_service (session->context, events);
  tn_sigpipe_restore (before);
  return ret;
}

/* Lets libiscsi do what it can, once.  False: the deadline has passed, or the session is lost. */
static bool
serve (const IscsiClient *client, IscsiSession *session, int64_t deadline)
{
  const int64_t left = deadline - tn_clock_ns ();
  if (left <= 0 || (client && g_atomic_int_get (&client->cancel)))
    return false;
  struct pollfd poller = { iscsi_get_fd (session->context), (short) iscsi_which_events (session->context),
                           0 };
  const int ready = poll (&poller, 1, (int) MIN (left / 1000000 + 1, 100));
  if (ready < 0)
    return errno == EINTR;
  return iscsi_session_serve (session, ready ? poller.revents : 0) == 0;
}

/* ---- Logging in ---- */

static void
login_done (struct iscsi_context *context, int status, void *data, void *opaque)
{
  IscsiSession *session = opaque;
  if (session->connected)
    return; /* the second call tells of the end, which is noticed anyhow */
  session->connected = true;
  session->status = status;
}

/* libiscsi's own words hold no password, but line ends. */
static char *
words_of (const IscsiSession *session)
{
  const char *words = iscsi_get_error (session->context);
  char *text = g_strdup (strstr (words, "reconnect") ? "the connection has been closed" : words);
  return g_strstrip (g_strdelimit (text, "\r\n", ' '));
}

static int
login_errno (const char *why)
{
  if (strstr (why, "uthentication") || strstr (why, "uthorization") || strstr (why, "CHAP"))
    return EACCES;
  if (strstr (why, "not found") || strstr (why, "LOGICAL_UNIT_NOT_SUPPORTED"))
    return ENOENT;
  return EIO;
}

static int
fail_login (const IscsiClient *client, const IscsiSession *session, GError **error)
{
  g_autofree char *why = words_of (session);
  const int errnum = login_errno (why);
  const char *remedy = errnum == EACCES ? " (check user and password-secret)" : "";
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "cannot log in to the %s, unit %d: %s%s", client->name,
                  client->lun, *why ? why : "no reason given", remedy);
}

static IscsiSession *
session_new (const IscsiClient *client)
{
  IscsiSession *session = g_new0 (IscsiSession, 1);
  session->context = iscsi_create_context (client->initiator);
  if (!session->context) {
    g_free (session);
    return NULL;
  }
  struct iscsi_context *context = session->context;
  iscsi_set_noautoreconnect (context, 1);
  iscsi_set_isid_random (context, client->isid, 0);
  iscsi_set_session_type (context, ISCSI_SESSION_NORMAL);
  iscsi_set_targetname (context, client->target);
  iscsi_set_header_digest (context, client->digest);
  if (client->user)
    iscsi_set_initiator_username_pwd (context, client->user, client->password ? client->password : "");
  return session;
}

static int
log_in (const IscsiClient *client, const char *portal, int64_t deadline, IscsiSession **made, GError **error)
{
  IscsiSession *session = session_new (client);
  if (!session)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "cannot make a session with the %s", client->name);
  bool going = iscsi_full_connect_async (session->context, portal, client->lun, login_done, session) == 0;
  while (going && !session->connected)
    going = serve (client, session, deadline);
  if (session->connected && session->status == SCSI_STATUS_GOOD) {
    *made = session;
    return 0;
  }
  const int rc = tn_clock_ns () >= deadline
                     ? tn_fail (error, TN_BLOCK_ERROR, ETIMEDOUT, "the %s does not answer", client->name)
                     : fail_login (client, session, error);
  session->connected = true; /* nothing more is to be noted down */
  iscsi_session_free (session);
  return rc;
}

/* ---- Commands that are waited for ---- */

typedef struct Answer {
  bool come;
  int status;
} Answer;

static void
answer_come (struct iscsi_context *context, int status, void *data, void *opaque)
{
  Answer *answer = opaque;
  answer->come = true;
  answer->status = status;
}

typedef struct Question {
  const IscsiClient *client;
  IscsiSession *session;
  int64_t deadline;
} Question;

typedef struct scsi_task *(*Asking) (const Question *question, int page, Answer *answer);

static struct scsi_task *
ask_inquiry (const Question *q, int page, Answer *answer)
{
  return iscsi_inquiry_task (q->session->context, q->client->lun, page >= 0, MAX (page, 0), 255, answer_come,
                             answer);
}

static struct scsi_task *
ask_capacity (const Question *q, int page, Answer *answer)
{
  return iscsi_readcapacity16_task (q->session->context, q->client->lun, answer_come, answer);
}

static struct scsi_task *
ask_small_capacity (const Question *q, int page, Answer *answer)
{
  return iscsi_readcapacity10_task (q->session->context, q->client->lun, 0, 0, answer_come, answer);
}

static struct scsi_task *
ask_mode (const Question *q, int page, Answer *answer)
{
  return iscsi_modesense6_task (q->session->context, q->client->lun, 1, SCSI_MODESENSE_PC_CURRENT, page, 0,
                                255, answer_come, answer);
}

static int
ask_once (const Question *q, Asking asking, int page, struct scsi_task **task)
{
  Answer answer = { 0 };
  *task = asking (q, page, &answer);
  if (!*task)
    return -EIO;
  while (!answer.come && serve (q->client, q->session, q->deadline))
    ;
  if (!answer.come)
    iscsi_scsi_cancel_task (q->session->context, *task);
  if (answer.come && answer.status == SCSI_STATUS_GOOD)
    return 0;
  const int rc = !answer.come                                      ? -ETIMEDOUT
                 : answer.status != SCSI_STATUS_CHECK_CONDITION    ? -EIO
                 : (*task)->sense.key == SCSI_SENSE_UNIT_ATTENTION ? -EAGAIN
                                                                   : iscsi_errno_of (*task);
  scsi_free_scsi_task (*task);
  *task = NULL;
  return rc;
}

/* A unit may have something to say first, such as that it has been reset. */
static int
ask (const Question *q, Asking asking, int page, struct scsi_task **task)
{
  int rc = -EAGAIN;
  for (unsigned i = 0; i < MAX_ATTENTIONS && rc == -EAGAIN; i++)
    rc = ask_once (q, asking, page, task);
  return rc == -EAGAIN ? -EIO : rc;
}

/* ---- The unit ---- */

static int
fail_unit (const Question *q, int errnum, const char *what, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "unit %d of the %s: %s", q->client->lun, q->client->name,
                  what);
}

static int
find_type (const Question *q, IscsiUnit *unit, GError **error)
{
  struct scsi_task *task;
  const int rc = ask (q, ask_inquiry, -1, &task);
  if (rc < 0)
    return fail_unit (q, -rc, "it does not say what it is", error);
  const struct scsi_inquiry_standard *standard = scsi_datain_unmarshall (task);
  const bool there = standard && standard->qualifier == SCSI_INQUIRY_PERIPHERAL_QUALIFIER_CONNECTED;
  if (standard)
    unit->type = (uint8_t) standard->device_type;
  scsi_free_scsi_task (task);
  if (!there)
    return fail_unit (q, ENOENT, "there is no such unit (check the LUN)", error);
  if (unit->type != SCSI_INQUIRY_PERIPHERAL_DEVICE_TYPE_DIRECT_ACCESS
      && unit->type != SCSI_INQUIRY_PERIPHERAL_DEVICE_TYPE_MMC)
    return fail_unit (q, ENOTSUP, "it is neither a disk nor a CD-ROM (check the LUN)", error);
  unit->read_only = unit->type == SCSI_INQUIRY_PERIPHERAL_DEVICE_TYPE_MMC;
  return 0;
}

/* For units that know the old command only. */
static int
find_small_capacity (const Question *q, IscsiUnit *unit, uint64_t *last)
{
  struct scsi_task *task;
  const int rc = ask (q, ask_small_capacity, 0, &task);
  if (rc < 0)
    return rc;
  const struct scsi_readcapacity10 *capacity = scsi_datain_unmarshall (task);
  if (capacity) {
    *last = capacity->lba;
    unit->block = capacity->block_size;
  }
  scsi_free_scsi_task (task);
  return capacity ? 0 : -EPROTO;
}

static int
find_large_capacity (const Question *q, IscsiUnit *unit, uint64_t *last)
{
  struct scsi_task *task;
  const int rc = ask (q, ask_capacity, 0, &task);
  if (rc < 0)
    return rc;
  const struct scsi_readcapacity16 *capacity = scsi_datain_unmarshall (task);
  if (capacity) {
    *last = capacity->returned_lba;
    unit->block = capacity->block_length;
    unit->tells_status = capacity->lbpme;
    unit->reads_zeroes = capacity->lbpme && capacity->lbprz;
  }
  scsi_free_scsi_task (task);
  return capacity ? 0 : -EPROTO;
}

static int
find_capacity (const Question *q, IscsiUnit *unit, GError **error)
{
  uint64_t last = 0;
  int rc = find_large_capacity (q, unit, &last);
  if (rc == -ENOTSUP || rc == -EINVAL)
    rc = find_small_capacity (q, unit, &last);
  if (rc < 0)
    return fail_unit (q, -rc, rc == -ENOMEDIUM ? "there is no medium in it" : "it does not tell its size",
                      error);
  if (unit->block < SMALLEST_BLOCK || unit->block > LARGEST_BLOCK || (unit->block & (unit->block - 1))
      || last >= (uint64_t) INT64_MAX / unit->block)
    return fail_unit (q, EPROTO, "its blocks have an impossible size or number", error);
  unit->blocks = last + 1;
  return 0;
}

static void
find_limits (const Question *q, IscsiUnit *unit)
{
  struct scsi_task *task;
  if (ask (q, ask_inquiry, SCSI_INQUIRY_PAGECODE_BLOCK_LIMITS, &task) < 0)
    return;
  const struct scsi_inquiry_block_limits *limits = scsi_datain_unmarshall (task);
  if (limits) {
    unit->max_transfer = limits->max_xfer_len;
    unit->max_unmap = limits->max_unmap;
    unit->unmap_granularity = limits->opt_unmap_gran;
    unit->max_same = limits->max_ws_len;
  }
  scsi_free_scsi_task (task);
}

static void
find_provisioning (const Question *q, IscsiUnit *unit)
{
  struct scsi_task *task;
  if (ask (q, ask_inquiry, SCSI_INQUIRY_PAGECODE_LOGICAL_BLOCK_PROVISIONING, &task) < 0)
    return;
  const struct scsi_inquiry_logical_block_provisioning *provisioning = scsi_datain_unmarshall (task);
  if (provisioning) {
    unit->unmaps = provisioning->lbpu;
    unit->same_unmaps = provisioning->lbpws;
  }
  scsi_free_scsi_task (task);
}

static void
find_protection (const Question *q, IscsiUnit *unit)
{
  struct scsi_task *task;
  if (ask (q, ask_mode, SCSI_MODEPAGE_RETURN_ALL_PAGES, &task) < 0)
    return;
  const struct scsi_mode_sense *mode = scsi_datain_unmarshall (task);
  if (mode && (mode->device_specific_parameter & 0x80))
    unit->read_only = true;
  scsi_free_scsi_task (task);
}

static int
find_unit (const Question *q, IscsiUnit *unit, GError **error)
{
  *unit = (IscsiUnit){ 0 };
  int rc = find_type (q, unit, error);
  if (rc == 0)
    rc = find_capacity (q, unit, error);
  if (rc < 0)
    return rc;
  find_protection (q, unit);
  find_limits (q, unit);
  if (unit->tells_status)
    find_provisioning (q, unit);
  return 0;
}

/* ---- Together ---- */

static int
open_at (IscsiClient *client, const char *portal, IscsiSession **session, IscsiUnit *unit, int64_t deadline,
         GError **error)
{
  int rc = log_in (client, portal, deadline, session, error);
  if (rc < 0)
    return rc;
  const Question question = { client, *session, deadline };
  rc = find_unit (&question, unit, error);
  if (rc < 0)
    iscsi_session_free (g_steal_pointer (session));
  return rc;
}

static char *
portal_text (const struct addrinfo *address)
{
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo (address->ai_addr, address->ai_addrlen, host, sizeof host, port, sizeof port,
                   NI_NUMERICHOST | NI_NUMERICSERV)
      != 0)
    return NULL;
  return g_strdup_printf (address->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* The addresses of the portal are tried in turn; the one that answers is kept. */
static int
open_first (IscsiClient *client, IscsiSession **session, IscsiUnit *unit, int64_t deadline, GError **error)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  struct addrinfo *list = NULL;
  const int found = getaddrinfo (client->host, client->port, &hints, &list);
  if (found != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "cannot find the %s: %s (check the portal)", client->name,
                    gai_strerror (found));
  int rc = -EIO;
  for (const struct addrinfo *at = list; at && !client->portal; at = at->ai_next) {
    g_autofree char *portal = portal_text (at);
    if (!portal)
      continue;
    if (error)
      g_clear_error (error);
    rc = open_at (client, portal, session, unit, deadline, error);
    if (rc == 0)
      client->portal = g_steal_pointer (&portal);
  }
  freeaddrinfo (list);
  if (rc < 0 && error && !*error)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "cannot find the %s (check the portal)", client->name);
  return rc;
}

int
iscsi_session_open (IscsiClient *client, IscsiSession **session, IscsiUnit *unit, int64_t deadline,
                    GError **error)
{
  if (client->portal)
    return open_at (client, client->portal, session, unit, deadline, error);
  return open_first (client, session, unit, deadline, error);
}

static void
goodbye_done (struct iscsi_context *context, int status, void *data, void *opaque)
{
  IscsiSession *session = opaque;
  session->connected = false;
}

void
iscsi_session_logout (IscsiSession *session)
{
  const int64_t deadline = tn_clock_ns () + GOODBYE_NS;
  if (iscsi_logout_async (session->context, goodbye_done, session) != 0)
    return;
  while (session->connected && serve (NULL, session, deadline))
    ;
}
