/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the greeting to the choice of an export. */
#include "server.h"

/* Answers that a client does not fetch are not piled up beyond this. */
#define MAX_CONTROL (64u << 10)
#define EXPORT_NAME_ZEROES 124

static void
put (NbdConnection *c, const void *data, size_t length)
{
  g_byte_array_append (c->control, data, (guint) length);
}

void
nbd_negotiate_greet (NbdConnection *c)
{
  uint8_t greeting[NBD_GREETING_SIZE];
  tn_store_be64 (greeting, NBD_MAGIC);
  tn_store_be64 (greeting + 8, NBD_OPTION_MAGIC);
  tn_store_be16 (greeting + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
  put (c, greeting, sizeof greeting);
}

void
nbd_option_reply (NbdConnection *c, uint32_t option, uint32_t type, const void *data, size_t length)
{
  uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];
  tn_store_be64 (header, NBD_OPTION_REPLY_MAGIC);
  tn_store_be32 (header + 8, option);
  tn_store_be32 (header + 12, type);
  tn_store_be32 (header + 16, (uint32_t) length);
  put (c, header, sizeof header);
  if (length)
    put (c, data, length);
}

void
nbd_option_error (NbdConnection *c, uint32_t option, uint32_t type, const char *message)
{
  nbd_option_reply (c, option, type, message, strlen (message));
}

/* ---- Exports ---- */

NbdExport *
nbd_server_find (NbdServer *server, const uint8_t *name, size_t length)
{
  NbdExport *found = NULL;
  g_mutex_lock (&server->exports_lock);
  for (guint i = 0; i < server->exports->len && !found; i++) {
    NbdExport *export = g_ptr_array_index (server->exports, i);
    if (strlen (export->name) == length && (length == 0 || memcmp (export->name, name, length) == 0))
      found = export;
  }
  g_mutex_unlock (&server->exports_lock);
  return found;
}

uint16_t
nbd_export_flags (const NbdConnection *c, const NbdExport *export)
{
  unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
  /* Where there is room for one only, a second connection of the same client would wait for ever. */
  if (c->server->max_connections > 1)
    flags |= NBD_FLAG_CAN_MULTI_CONN;
  if (export->writable)
    flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
  else
    flags |= NBD_FLAG_READ_ONLY;
  if (c->structured || c->extended)
    flags |= NBD_FLAG_SEND_DF;
  return (uint16_t) flags;
}

/* ---- Options ---- */

/* Ends the old way: there is no answer but the export itself. */
static void
export_name (NbdConnection *c, const uint8_t *data, size_t length)
{
  uint8_t answer[10 + EXPORT_NAME_ZEROES] = { 0 };
  NbdExport *export = nbd_server_find (c->server, data, length);
  if (!export || c->extended) {
    nbd_connection_drop (c, c->extended ? "it chose an export in a way that extended headers rule out"
                                        : "it asked for an export that is not there");
    return;
  }
  tn_store_be64 (answer, tn_drive_size (export->drive));
  tn_store_be16 (answer + 8, nbd_export_flags (c, export));
  put (c, answer, c->no_zeroes ? 10 : sizeof answer);
  nbd_connection_attach (c, export);
}

static void
list (NbdConnection *c, size_t length)
{
  if (length) {
    nbd_option_error (c, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "this option takes no data");
    return;
  }
  g_mutex_lock (&c->server->exports_lock);
  for (guint i = 0; i < c->server->exports->len; i++) {
    const NbdExport *export = g_ptr_array_index (c->server->exports, i);
    const size_t name = strlen (export->name), text = strlen (export->description);
    g_autofree uint8_t *entry = g_malloc (4 + name + text);
    tn_store_be32 (entry, (uint32_t) name);
    memcpy (entry + 4, export->name, name);
    memcpy (entry + 4 + name, export->description, text);
    nbd_option_reply (c, NBD_OPT_LIST, NBD_REP_SERVER, entry, 4 + name + text);
  }
  g_mutex_unlock (&c->server->exports_lock);
  nbd_option_reply (c, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

static void
reply_info_text (NbdConnection *c, uint32_t option, NbdInfo type, const char *text)
{
  const size_t length = strlen (text);
  g_autofree uint8_t *entry = g_malloc (2 + length);
  tn_store_be16 (entry, (uint16_t) type);
  memcpy (entry + 2, text, length);
  nbd_option_reply (c, option, NBD_REP_INFO, entry, 2 + length);
}

static void
reply_block_size (NbdConnection *c, uint32_t option, const NbdExport *export)
{
  TnLimits limits;
  uint32_t logical, physical;
  uint8_t entry[14];
  tn_drive_limits (export->drive, &limits);
  tn_node_block_sizes (tn_drive_node (export->drive), &logical, &physical);
  tn_store_be16 (entry, NBD_INFO_BLOCK_SIZE);
  tn_store_be32 (entry + 2, 1);
  tn_store_be32 (entry + 6, MAX (MAX (limits.request_alignment, physical), 4096));
  tn_store_be32 (entry + 10, NBD_MAX_PAYLOAD);
  nbd_option_reply (c, option, NBD_REP_INFO, entry, sizeof entry);
}

static void
reply_info (NbdConnection *c, uint32_t option, const NbdExport *export, unsigned type)
{
  if (type == NBD_INFO_NAME)
    reply_info_text (c, option, NBD_INFO_NAME, export->name);
  else if (type == NBD_INFO_DESCRIPTION && *export->description)
    reply_info_text (c, option, NBD_INFO_DESCRIPTION, export->description);
  else if (type == NBD_INFO_BLOCK_SIZE)
    reply_block_size (c, option, export);
}

/* uint32 length, name, uint16 count, uint16 types. */
static bool
info_is_well_formed (const uint8_t *data, size_t length, uint32_t *name)
{
  if (length < 6)
    return false;
  *name = tn_load_be32 (data);
  return *name <= NBD_MAX_STRING && *name <= length - 6
         && length - 6 - *name == 2u * tn_load_be16 (data + 4 + *name);
}

static void
info_or_go (NbdConnection *c, uint32_t option, const uint8_t *data, size_t length)
{
  uint32_t name;
  uint8_t entry[12];
  if (!info_is_well_formed (data, length, &name)) {
    nbd_option_error (c, option, NBD_REP_ERR_INVALID, "the lengths in this option contradict each other");
    return;
  }
  NbdExport *export = nbd_server_find (c->server, data + 4, name);
  if (!export) {
    nbd_option_error (c, option, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
    return;
  }
  const uint8_t *types = data + 6 + name;
  unsigned seen = 0;
  for (unsigned i = 0; i < tn_load_be16 (data + 4 + name); i++) {
    const unsigned type = tn_load_be16 (types + 2 * i);
    if (type > NBD_INFO_BLOCK_SIZE || (seen & 1u << type))
      continue;
    seen |= 1u << type;
    reply_info (c, option, export, type);
  }
  tn_store_be16 (entry, NBD_INFO_EXPORT);
  tn_store_be64 (entry + 2, tn_drive_size (export->drive));
  tn_store_be16 (entry + 10, nbd_export_flags (c, export));
  nbd_option_reply (c, option, NBD_REP_INFO, entry, sizeof entry);
  nbd_option_reply (c, option, NBD_REP_ACK, NULL, 0);
  if (option == NBD_OPT_GO)
    nbd_connection_attach (c, export);
}

static void
reply_mode (NbdConnection *c, uint32_t option, size_t length)
{
  if (length) {
    nbd_option_error (c, option, NBD_REP_ERR_INVALID, "this option takes no data");
    return;
  }
  if (c->extended) {
    nbd_option_error (c, option, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers have been agreed on");
    return;
  }
  if (option == NBD_OPT_EXTENDED_HEADERS) {
    c->extended = true;
    c->n_contexts = 0;
  }
  c->structured = true;
  nbd_option_reply (c, option, NBD_REP_ACK, NULL, 0);
}

static void
abort_option (NbdConnection *c)
{
  nbd_option_reply (c, NBD_OPT_ABORT, NBD_REP_ACK, NULL, 0);
  c->state = NBD_CLOSING;
}

static void
handle_option (NbdConnection *c, uint32_t option, const uint8_t *data, size_t length)
{
  if (!nbd_secure_allows (c, option))
    return;
  switch (option) {
  case NBD_OPT_EXPORT_NAME:
    export_name (c, data, length);
    break;
  case NBD_OPT_ABORT:
    abort_option (c);
    break;
  case NBD_OPT_LIST:
    list (c, length);
    break;
  case NBD_OPT_STARTTLS:
    nbd_secure_option (c, length);
    break;
  case NBD_OPT_INFO:
  case NBD_OPT_GO:
    info_or_go (c, option, data, length);
    break;
  case NBD_OPT_STRUCTURED_REPLY:
  case NBD_OPT_EXTENDED_HEADERS:
    reply_mode (c, option, length);
    break;
  case NBD_OPT_LIST_META_CONTEXT:
  case NBD_OPT_SET_META_CONTEXT:
    nbd_context_option (c, option, data, length);
    break;
  default:
    nbd_option_error (c, option, NBD_REP_ERR_UNSUP, "this option is not known here");
  }
}

/* ---- From the buffer ---- */

static bool
take_flags (NbdConnection *c)
{
  if (nbd_connection_available (c) < 4)
    return false;
  const uint32_t flags = tn_load_be32 (c->in + c->in_start);
  if (flags & ~(uint32_t) (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) {
    nbd_connection_drop (c, "it sent handshake flags that are not known");
    return false;
  }
  c->in_start += 4;
  c->fixed = flags & NBD_FIXED_NEWSTYLE;
  c->no_zeroes = flags & NBD_NO_ZEROES;
  c->state = NBD_OPTIONS;
  return true;
}

/* Too long to be looked at. */
static void
refuse_long (NbdConnection *c, uint32_t option, uint32_t length)
{
  if (!c->fixed || option == NBD_OPT_EXPORT_NAME) {
    nbd_connection_drop (c, "it sent an option that is too long");
    return;
  }
  c->skip = length;
  nbd_option_error (c, option, NBD_REP_ERR_TOO_BIG, "this option is too long");
}

static bool
take_option (NbdConnection *c)
{
  if (nbd_connection_available (c) < NBD_OPTION_HEADER_SIZE)
    return false;
  const uint8_t *header = c->in + c->in_start;
  const uint32_t option = tn_load_be32 (header + 8), length = tn_load_be32 (header + 12);
  if (tn_load_be64 (header) != NBD_OPTION_MAGIC) {
    nbd_connection_drop (c, "an option begins with the wrong magic number");
    return false;
  }
  if (!c->fixed && option != NBD_OPT_EXPORT_NAME) {
    nbd_connection_drop (c, "it sent an option without having agreed on how to answer it");
    return false;
  }
  if (length > NBD_MAX_OPTION) {
    c->in_start += NBD_OPTION_HEADER_SIZE;
    refuse_long (c, option, length);
    return true;
  }
  if (nbd_connection_available (c) < NBD_OPTION_HEADER_SIZE + length)
    return false;
  c->in_start += NBD_OPTION_HEADER_SIZE + length;
  handle_option (c, option, header + NBD_OPTION_HEADER_SIZE, length);
  return true;
}

static bool
skip_rest (NbdConnection *c)
{
  const size_t part = (size_t) MIN (c->skip, nbd_connection_available (c));
  c->in_start += part;
  c->skip -= part;
  return part > 0;
}

bool
nbd_negotiate (NbdConnection *c)
{
  if (c->control->len > MAX_CONTROL) {
    c->blocked = true;
    return false;
  }
  if (c->skip)
    return skip_rest (c);
  if (c->state == NBD_TLS_HANDSHAKE)
    return false;
  return c->state == NBD_CLIENT_FLAGS ? take_flags (c) : take_option (c);
}
