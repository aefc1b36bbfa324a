/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "handshake.h"

/* What a server may send in answer to one option. */
#define MAX_ANSWER (64u << 10)
#define MAX_ANSWERS 10000

/* One answer to an option. */
typedef struct Answer {
  uint32_t type, length;
  uint8_t data[MAX_ANSWER + 1];
} Answer;

static int
receive (const NbdTalk *talk, void *buffer, size_t length, GError **error)
{
  return nbd_channel_read_all (talk->channel, buffer, length, talk->deadline, talk->cancel, error);
}

static int
transmit (const NbdTalk *talk, const void *buffer, size_t length, GError **error)
{
  return nbd_channel_write_all (talk->channel, buffer, length, talk->deadline, talk->cancel, error);
}

static int
malformed (const char *what, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "it broke the protocol: %s", what);
}

/* ---- Options ---- */

static int
send_option (const NbdTalk *talk, uint32_t option, const GByteArray *data, GError **error)
{
  uint8_t header[NBD_OPTION_HEADER_SIZE];
  tn_store_be64 (header, NBD_OPTION_MAGIC);
  tn_store_be32 (header + 8, option);
  tn_store_be32 (header + 12, data ? data->len : 0);
  const int rc = transmit (talk, header, sizeof header, error);
  return rc < 0 || !data || !data->len ? rc : transmit (talk, data->data, data->len, error);
}

static int
receive_answer (const NbdTalk *talk, uint32_t option, Answer *answer, GError **error)
{
  uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];
  const int rc = receive (talk, header, sizeof header, error);
  if (rc < 0)
    return rc;
  answer->type = tn_load_be32 (header + 12);
  answer->length = tn_load_be32 (header + 16);
  if (tn_load_be64 (header) != NBD_OPTION_REPLY_MAGIC || tn_load_be32 (header + 8) != option)
    return malformed ("the answer to an option is none", error);
  if (answer->length > MAX_ANSWER)
    return malformed ("the answer to an option is too long", error);
  answer->data[answer->length] = '\0';
  return answer->length ? receive (talk, answer->data, answer->length, error) : 0;
}

typedef int (*AnswerFunc) (const Answer *answer, void *opaque, GError **error);

/* Asks, and takes the answers up to the last: 1 when it is an acknowledgement, 0 when the server refuses
 * (*@last says how), or -errno. */
static int
ask (const NbdTalk *talk, uint32_t option, const GByteArray *data, AnswerFunc take, void *opaque,
     Answer *last, GError **error)
{
  int rc = send_option (talk, option, data, error);
  for (unsigned n = 0; rc == 0; n++) {
    if (n == MAX_ANSWERS)
      return malformed ("the answers to an option do not end", error);
    rc = receive_answer (talk, option, last, error);
    if (rc < 0)
      return rc;
    if (last->type == NBD_REP_ACK)
      return 1;
    if (last->type & NBD_REP_ERROR)
      return 0;
    if (!take)
      return malformed ("the answer to an option is of the wrong kind", error);
    rc = take (last, opaque, error);
  }
  return rc;
}

static void
append_u32 (GByteArray *data, uint32_t value)
{
  uint8_t bytes[4];
  tn_store_be32 (bytes, value);
  g_byte_array_append (data, bytes, sizeof bytes);
}

static void
append_text (GByteArray *data, const char *text)
{
  append_u32 (data, (uint32_t) strlen (text));
  g_byte_array_append (data, (const uint8_t *) text, (guint) strlen (text));
}

/* ---- Steps ---- */

/* *@fixed: options are answered. */
static int
greet (const NbdTalk *talk, bool *fixed, bool *no_zeroes, GError **error)
{
  uint8_t greeting[NBD_GREETING_SIZE], flags[4];
  int rc = receive (talk, greeting, 16, error);
  if (rc < 0)
    return rc;
  if (tn_load_be64 (greeting) != NBD_MAGIC)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "it is no NBD server");
  if (tn_load_be64 (greeting + 8) == NBD_OLDSTYLE_MAGIC)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "it speaks the oldest form of the protocol, which is not supported");
  if (tn_load_be64 (greeting + 8) != NBD_OPTION_MAGIC)
    return malformed ("the greeting is none", error);
  rc = receive (talk, greeting + 16, 2, error);
  if (rc < 0)
    return rc;
  const uint16_t offered = tn_load_be16 (greeting + 16);
  *fixed = offered & NBD_FIXED_NEWSTYLE;
  *no_zeroes = offered & NBD_NO_ZEROES;
  tn_store_be32 (flags, offered & (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES));
  return transmit (talk, flags, sizeof flags, error);
}

static int
fail_tls_required (GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EACCES, "it requires TLS: give tls-creds=ID");
}

/* Nothing that was said before counts afterwards. */
static int
start_tls (const NbdTalk *talk, bool fixed, Answer *answer, GError **error)
{
  if (!talk->tls)
    return 0;
  const int rc = fixed ? ask (talk, NBD_OPT_STARTTLS, NULL, NULL, NULL, answer, error) : 0;
  if (rc < 0)
    return rc;
  if (rc == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "it does not offer TLS: leave out tls-creds to go without");
  return nbd_channel_start_tls (talk->channel, talk->tls, talk->hostname, talk->deadline, talk->cancel,
                                error);
}

static int
agree_on_replies (const NbdTalk *talk, NbdOffer *offer, Answer *answer, GError **error)
{
  int rc = ask (talk, NBD_OPT_EXTENDED_HEADERS, NULL, NULL, NULL, answer, error);
  if (rc == 0 && answer->type == NBD_REP_ERR_TLS_REQD)
    return fail_tls_required (error);
  offer->extended = rc > 0;
  if (rc == 0)
    rc = ask (talk, NBD_OPT_STRUCTURED_REPLY, NULL, NULL, NULL, answer, error);
  offer->structured = rc > 0;
  /* With TLS 1.3 a server looks at the certificate when the client is done already. */
  if (rc < 0 && talk->tls)
    g_prefix_error (error, "through TLS, where it may have refused the certificate: ");
  return MIN (rc, 0);
}

typedef struct Contexts {
  NbdOffer *offer;
  const char *bitmap;
} Contexts;

static int
take_context (const Answer *answer, void *opaque, GError **error)
{
  const Contexts *contexts = opaque;
  if (answer->type != NBD_REP_META_CONTEXT || answer->length <= 4 || answer->length > 4 + NBD_MAX_STRING)
    return malformed ("a metadata context is none", error);
  const char *name = (const char *) answer->data + 4;
  const uint32_t id = tn_load_be32 (answer->data);
  if (strcmp (name, NBD_CONTEXT_ALLOCATION) == 0) {
    contexts->offer->has_allocation = true;
    contexts->offer->allocation_id = id;
  } else if (contexts->bitmap && strcmp (name, contexts->bitmap) == 0) {
    contexts->offer->has_bitmap = true;
    contexts->offer->bitmap_id = id;
  }
  return 0;
}

static int
choose_contexts (const NbdTalk *talk, const char *name, const char *bitmap, NbdOffer *offer, Answer *answer,
                 GError **error)
{
  g_autoptr (GByteArray) data = g_byte_array_new ();
  Contexts contexts = { offer, bitmap };
  append_text (data, name);
  append_u32 (data, bitmap ? 2 : 1);
  append_text (data, NBD_CONTEXT_ALLOCATION);
  if (bitmap)
    append_text (data, bitmap);
  const int rc = ask (talk, NBD_OPT_SET_META_CONTEXT, data, take_context, &contexts, answer, error);
  if (rc == 0)
    offer->has_allocation = offer->has_bitmap = false;
  if (rc >= 0 && bitmap && !offer->has_bitmap)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "it does not offer the metadata context '%s'", bitmap);
  return MIN (rc, 0);
}

typedef struct Infos {
  NbdOffer *offer;
  bool has_export;
} Infos;

static bool
is_power_of_two (uint32_t value)
{
  return value && !(value & (value - 1));
}

static int
take_info (const Answer *answer, void *opaque, GError **error)
{
  Infos *infos = opaque;
  NbdOffer *offer = infos->offer;
  if (answer->type != NBD_REP_INFO || answer->length < 2)
    return malformed ("what it says of the export is malformed", error);
  const unsigned type = tn_load_be16 (answer->data);
  if (type == NBD_INFO_EXPORT) {
    if (answer->length != 12)
      return malformed ("what it says of the export is malformed", error);
    offer->size = tn_load_be64 (answer->data + 2);
    offer->flags = tn_load_be16 (answer->data + 10);
    infos->has_export = true;
  } else if (type == NBD_INFO_BLOCK_SIZE) {
    if (answer->length != 14)
      return malformed ("what it says of block sizes is malformed", error);
    offer->min_block = tn_load_be32 (answer->data + 2);
    offer->preferred_block = tn_load_be32 (answer->data + 6);
    offer->max_block = tn_load_be32 (answer->data + 10);
    if (!is_power_of_two (offer->min_block) || offer->min_block > 65536
        || offer->max_block < offer->min_block)
      return malformed ("the block sizes are impossible", error);
  }
  return 0;
}

static int
check_offer (const NbdOffer *offer, GError **error)
{
  if (offer->size > INT64_MAX)
    return malformed ("the size of the export is impossible", error);
  return 0;
}

static int
fail_refused (const char *name, const Answer *answer, GError **error)
{
  const uint32_t type = answer->type;
  g_autofree char *text = g_utf8_make_valid ((const char *) answer->data, (gssize) MIN (answer->length, 200));
  g_strdelimit (text, "\r\n\t", ' ');
  if (type == NBD_REP_ERR_TLS_REQD)
    return fail_tls_required (error);
  return tn_fail (error, TN_BLOCK_ERROR, type == NBD_REP_ERR_UNKNOWN ? ENOENT : EACCES,
                  "it refuses the export '%s'%s%s", name, *text ? ": " : "", text);
}

/* 1, 0 when it does not know the option, or -errno. */
static int
go (const NbdTalk *talk, uint32_t option, const char *name, NbdOffer *offer, Answer *answer, GError **error)
{
  static const uint8_t request[] = { 0, 1, 0, NBD_INFO_BLOCK_SIZE };
  g_autoptr (GByteArray) data = g_byte_array_new ();
  Infos infos = { .offer = offer };
  append_text (data, name);
  g_byte_array_append (data, request, sizeof request);
  const int rc = ask (talk, option, data, take_info, &infos, answer, error);
  if (rc == 0 && answer->type != NBD_REP_ERR_UNSUP)
    return fail_refused (name, answer, error);
  if (rc > 0 && !infos.has_export)
    return malformed ("it says nothing of the export", error);
  return rc;
}

/* The old way: the answer is the export, or the end. */
static int
export_name (const NbdTalk *talk, const char *name, bool no_zeroes, NbdOffer *offer, GError **error)
{
  uint8_t reply[10 + 124];
  g_autoptr (GByteArray) data = g_byte_array_new ();
  g_byte_array_append (data, (const uint8_t *) name, (guint) strlen (name));
  int rc = send_option (talk, NBD_OPT_EXPORT_NAME, data, error);
  if (rc == 0)
    rc = receive (talk, reply, no_zeroes ? 10 : sizeof reply, error);
  if (rc < 0) {
    g_prefix_error (error, "it may not have the export '%s': ", name);
    return rc;
  }
  offer->size = tn_load_be64 (reply);
  offer->flags = tn_load_be16 (reply + 8);
  return 0;
}

int
nbd_handshake (const NbdTalk *talk, const char *name, const char *bitmap, NbdOffer *offer, GError **error)
{
  g_autofree Answer *answer = g_new (Answer, 1);
  bool fixed, no_zeroes;
  *offer = (NbdOffer){ 0 };
  int rc = greet (talk, &fixed, &no_zeroes, error);
  if (rc == 0)
    rc = start_tls (talk, fixed, answer, error);
  if (rc == 0 && fixed && !talk->simple)
    rc = agree_on_replies (talk, offer, answer, error);
  if (rc == 0 && bitmap && !offer->structured)
    rc = tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "it has no metadata contexts such as '%s'", bitmap);
  if (rc == 0 && offer->structured)
    rc = choose_contexts (talk, name, bitmap, offer, answer, error);
  if (rc < 0)
    return rc;
  rc = fixed ? go (talk, NBD_OPT_GO, name, offer, answer, error) : 0;
  if (rc == 0)
    rc = export_name (talk, name, no_zeroes, offer, error);
  return rc < 0 ? rc : check_offer (offer, error);
}

/* ---- Listing ---- */

static int
take_name (const Answer *answer, void *opaque, GError **error)
{
  GPtrArray *names = opaque;
  const uint32_t length = answer->length >= 4 ? tn_load_be32 (answer->data) : 0;
  if (answer->type != NBD_REP_SERVER || answer->length < 4 || length > answer->length - 4)
    return malformed ("the list of exports is malformed", error);
  g_ptr_array_add (names, g_strndup ((const char *) answer->data + 4, length));
  g_ptr_array_add (names, g_strdup ((const char *) answer->data + 4 + length));
  return 0;
}

static int
take_context_name (const Answer *answer, void *opaque, GError **error)
{
  if (answer->type != NBD_REP_META_CONTEXT || answer->length < 4)
    return malformed ("a metadata context is none", error);
  g_ptr_array_add (opaque, g_strdup ((const char *) answer->data + 4));
  return 0;
}

static int
describe (const NbdTalk *talk, NbdListed *listed, Answer *answer, GError **error)
{
  g_autoptr (GByteArray) data = g_byte_array_new ();
  int rc = go (talk, NBD_OPT_INFO, listed->name, &listed->offer, answer, error);
  if (rc < 0 || !listed->offer.structured)
    return MIN (rc, 0);
  append_text (data, listed->name);
  append_u32 (data, 0);
  rc = ask (talk, NBD_OPT_LIST_META_CONTEXT, data, take_context_name, listed->contexts, answer, error);
  return MIN (rc, 0);
}

int
nbd_handshake_list (const NbdTalk *talk, void (*visit) (const NbdListed *listed, void *opaque), void *opaque,
                    GError **error)
{
  g_autofree Answer *answer = g_new (Answer, 1);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  NbdOffer offer = { 0 };
  bool fixed, no_zeroes;
  int rc = greet (talk, &fixed, &no_zeroes, error);
  if (rc == 0 && !fixed)
    rc = tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "it cannot list its exports");
  if (rc == 0)
    rc = start_tls (talk, fixed, answer, error);
  if (rc == 0)
    rc = agree_on_replies (talk, &offer, answer, error);
  if (rc < 0)
    return rc;
  rc = ask (talk, NBD_OPT_LIST, NULL, take_name, names, answer, error);
  if (rc == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES, "it does not list its exports");
  for (guint i = 0; i < names->len && rc >= 0; i += 2) {
    NbdListed listed = { names->pdata[i], names->pdata[i + 1], offer,
                         g_ptr_array_new_with_free_func (g_free) };
    rc = describe (talk, &listed, answer, error);
    if (rc >= 0)
      visit (&listed, opaque);
    g_ptr_array_unref (listed.contexts);
  }
  return rc < 0 ? rc : send_option (talk, NBD_OPT_ABORT, NULL, error);
}
