/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, creating and removing disks: calls that block, on a worker. */
#include "sheepdog.h"

#define SD_MAX_COPIES 31

int
sd_session_connect (SdSession *session, GError **error)
{
  session->channel.fd = -1;
  GError *why = NULL;
  const int rc = nbd_address_connect (session->place->options, &session->channel, session->deadline,
                                      session->cancel, &why);
  if (rc < 0) {
    g_prefix_error (&why, "cannot connect to the %s: ", session->place->server);
    g_propagate_error (error, why);
  }
  return rc;
}

/* Name and tag, as all calls about VDIs send them. */
static void
sd_put_names (uint8_t *names, const char *vdi, const char *tag)
{
  memset (names, 0, 2 * SD_MAX_NAME);
  memcpy (names, vdi, strlen (vdi));
  memcpy (names + SD_MAX_NAME, tag, strlen (tag));
}

static int
sd_take_id (SdSession *session, const SdCall *call, GError **error)
{
  const uint32_t id = tn_load_le32 (call->head + 24);
  if (id == 0 || id >= SD_MAX_VDI_ID)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "the %s broke the protocol: a VDI of the number %u",
                    session->place->server, id);
  session->inode.vdi_id = id;
  return 0;
}

int
sd_session_find (SdSession *session, bool again, GError **error)
{
  const SdPlace *place = session->place;
  uint8_t names[2 * SD_MAX_NAME];
  sd_put_names (names, place->vdi, place->tag);
  SdCall call = { .opcode = session->lock ? SD_OP_LOCK_VDI : SD_OP_GET_VDI_INFO,
                  .snap_id = place->snap_id,
                  .out = names,
                  .out_length = sizeof names };
  int rc = sd_call_block (place, &session->channel, &call, session->deadline, session->cancel, error);
  if (rc < 0)
    return rc;
  if (call.result == SD_RES_VDI_LOCKED && again) {
    /* Most likely by ourselves: a cluster keeps the lock when only the connection is lost. */
    call.opcode = SD_OP_GET_VDI_INFO;
    rc = sd_call_block (place, &session->channel, &call, session->deadline, session->cancel, error);
    if (rc < 0)
      return rc;
  }
  if (call.result == SD_RES_VDI_LOCKED)
    return tn_fail (
        error, TN_BLOCK_ERROR, EBUSY,
        "the VDI '%s' of the %s is locked by another client: close it there, open it read-only, or "
        "take the lock away with `dog vdi lock unlock %s`",
        place->vdi, place->server, place->vdi);
  if (call.result != SD_RES_SUCCESS)
    return tn_fail (error, TN_BLOCK_ERROR, sd_result_errno (call.result),
                    "the %s does not open '%s%s%s': %s (%u)", place->server, place->vdi,
                    *place->tag ? "#" : "", place->tag, sd_result_text (call.result), call.result);
  return sd_take_id (session, &call, error);
}

/* ---- The inode ---- */

static int
sd_fail_inode (const SdPlace *place, const char *what, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "the %s broke the protocol: the inode of '%s' has %s",
                  place->server, place->vdi, what);
}

int
sd_inode_parse (const SdPlace *place, const uint8_t *head, SdInode *inode, GError **error)
{
  const SdInode read = { .size = tn_load_le64 (head + SD_INODE_SIZE_AT),
                         .is_snapshot = tn_load_le64 (head + 520) != 0,
                         .copy_policy = head[552],
                         .copies = head[554],
                         .shift = head[555],
                         .snap_id = tn_load_le32 (head + 556),
                         .vdi_id = tn_load_le32 (head + 560),
                         .parent = tn_load_le32 (head + 564) };
  if (head[553])
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "'%s' of the %s is a hyper volume, which is not supported: make it without -y",
                    place->vdi, place->server);
  if (read.vdi_id != inode->vdi_id)
    return sd_fail_inode (place, "another number", error);
  if (strncmp ((const char *) head, place->vdi, SD_MAX_NAME) != 0)
    return sd_fail_inode (place, "another name", error);
  if (read.shift < SD_MIN_SHIFT || read.shift > SD_MAX_SHIFT)
    return sd_fail_inode (place, "objects of a size that cannot be", error);
  if (read.size > (uint64_t) SD_MAX_OBJECTS << read.shift)
    return sd_fail_inode (place, "a size beyond the largest", error);
  if (read.copies == 0 || read.copies > SD_MAX_COPIES)
    return sd_fail_inode (place, "a number of copies that cannot be", error);
  if (read.parent >= SD_MAX_VDI_ID)
    return sd_fail_inode (place, "a parent that cannot be", error);
  *inode = read;
  return 0;
}

int
sd_table_take (const SdPlace *place, const uint8_t *raw, uint32_t *table, uint64_t n, GError **error)
{
  for (uint64_t i = 0; i < n; i++) {
    const uint32_t id = tn_load_le32 (raw + 4 * i);
    if (id >= SD_MAX_VDI_ID)
      return sd_fail_inode (place, "an object of a VDI that cannot be", error);
    __atomic_store_n (&table[i], id, __ATOMIC_RELEASE);
  }
  return 0;
}

static int
sd_session_read (SdSession *session, void *buffer, uint32_t length, uint64_t offset, GError **error)
{
  SdCall call = { .opcode = SD_OP_READ,
                  .oid = sd_inode_oid (session->inode.vdi_id),
                  .offset = offset,
                  .in = buffer,
                  .in_length = length };
  return sd_call_succeed (session->place, &session->channel, &call, "read the inode of", session->deadline,
                          session->cancel, error);
}

int
sd_session_load (SdSession *session, uint32_t *table, GError **error)
{
  uint8_t head[SD_INODE_HEAD];
  int rc = sd_session_read (session, head, sizeof head, 0, error);
  if (rc == 0)
    rc = sd_inode_parse (session->place, head, &session->inode, error);
  const uint32_t n = rc == 0 ? (uint32_t) sd_objects_of (&session->inode) : 0;
  if (rc < 0 || n == 0)
    return rc;
  g_autofree uint8_t *raw = g_malloc (4 * (size_t) n);
  rc = sd_session_read (session, raw, 4 * n, SD_INODE_HEAD, error);
  return rc < 0 ? rc : sd_table_take (session->place, raw, table, n, error);
}

void
sd_session_release (SdSession *session)
{
  const char *name = session->place->vdi;
  SdCall call = { .opcode = SD_OP_RELEASE_VDI,
                  .vdi_id = session->inode.vdi_id,
                  .out = name,
                  .out_length = (uint32_t) strlen (name) + 1 };
  sd_call_block (session->place, &session->channel, &call, session->deadline, session->cancel, NULL);
}

/* ---- Creating ---- */

static int
sd_fail_redundancy (const char *text, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                  "redundancy is a number of copies from 1 to 31, or DATA:PARITY with 2, 4, 8 or 16 of data "
                  "and 1 to 15 of parity, not '%s'",
                  text);
}

static int
sd_parse_redundancy (const char *text, SdCall *call, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (text, ":", 3);
  const guint n = g_strv_length (parts);
  guint64 data, parity = 0;
  if (n < 1 || n > 2 || !g_ascii_string_to_unsigned (parts[0], 10, 1, SD_MAX_COPIES, &data, NULL))
    return sd_fail_redundancy (text, error);
  call->copies = (uint8_t) data;
  if (n == 1)
    return 0;
  if (!g_ascii_string_to_unsigned (parts[1], 10, 1, 15, &parity, NULL) || data < 2 || data > 16
      || (data & (data - 1)))
    return sd_fail_redundancy (text, error);
  call->copies = (uint8_t) (data + parity);
  call->copy_policy = (uint8_t) ((data / 2) << 4 | parity);
  return 0;
}

static int
sd_parse_object_size (uint64_t size, SdCall *call, GError **error)
{
  if (size == 0)
    return 0;
  if ((size & (size - 1)) || size < UINT64_C (1) << SD_MIN_SHIFT || size > UINT64_C (1) << SD_MAX_SHIFT)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "object_size has to be a power of two from 1M to 2G");
  call->shift = (uint8_t) g_bit_nth_lsf ((gulong) size, -1);
  return 0;
}

/* What the cluster makes when nothing is said; servers from before there was a choice do not know the call.
 */
static int
sd_default_shift (SdSession *session, SdCall *create, GError **error)
{
  SdCall call = { .opcode = SD_OP_CLUSTER_DEFAULT };
  const int rc = sd_call_block (session->place, &session->channel, &call, session->deadline, NULL, error);
  if (rc < 0)
    return rc;
  const uint8_t shift = call.head[22];
  const bool good = call.result == SD_RES_SUCCESS && shift >= SD_MIN_SHIFT && shift <= SD_MAX_SHIFT;
  create->shift = good ? shift : SD_DEFAULT_SHIFT;
  return 0;
}

/* The snapshot that a clone begins with: VDI:ID or VDI:TAG of the same cluster. */
static int
sd_find_base (SdSession *session, const char *base, SdCall *create, GError **error)
{
  const char *colon = strrchr (base, ':');
  guint64 id = 0;
  if (!colon || colon == base || !colon[1] || colon - base >= SD_MAX_NAME || strlen (colon) > SD_MAX_NAME)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "clone-of is VDI:ID or VDI:TAG of a snapshot, not '%.80s'",
                    base);
  g_autofree char *name = g_strndup (base, (gsize) (colon - base));
  const bool is_id = g_ascii_string_to_unsigned (colon + 1, 10, 1, UINT32_MAX, &id, NULL);
  const SdPlace place = { .options = session->place->options,
                          .server = session->place->server,
                          .vdi = name,
                          .tag = is_id ? "" : colon + 1,
                          .snap_id = (uint32_t) id };
  SdSession parent = { .place = &place, .channel = session->channel, .deadline = session->deadline };
  g_autofree uint32_t *table = g_new0 (uint32_t, SD_MAX_OBJECTS);
  int rc = sd_session_find (&parent, false, error);
  if (rc == 0)
    rc = sd_session_load (&parent, table, error);
  if (rc < 0)
    return rc;
  if (!parent.inode.is_snapshot)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "'%s' on the %s is no snapshot: only those can be cloned",
                    base, place.server);
  if (create->shift && create->shift != parent.inode.shift)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "a clone has objects as large as those of '%s': leave "
                    "object_size out",
                    base);
  create->vdi_id = parent.inode.vdi_id;
  create->shift = parent.inode.shift;
  create->size = MAX (create->size, parent.inode.size);
  return 0;
}

static int
sd_create_on (SdSession *session, SdCall *call, GError **error)
{
  const SdPlace *place = session->place;
  const char *base = tn_options_get (place->options, "clone-of");
  int rc = base ? sd_find_base (session, base, call, error) : 0;
  if (rc == 0 && !call->shift)
    rc = sd_default_shift (session, call, error);
  if (rc < 0)
    return rc;
  if (call->size > (uint64_t) SD_MAX_OBJECTS << call->shift)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "a VDI with objects of %u MiB has at most %u TiB: give a larger object_size",
                    1u << (call->shift - 20), 1u << (call->shift - 20));
  uint8_t name[2 * SD_MAX_NAME];
  sd_put_names (name, place->vdi, "");
  call->opcode = SD_OP_NEW_VDI;
  call->out = name;
  call->out_length = SD_MAX_NAME;
  return sd_call_succeed (place, &session->channel, call, "create", session->deadline, NULL, error);
}

static int
sd_check_current (const SdPlace *place, GError **error)
{
  return place->snap_id || *place->tag
             ? tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                        "snapshots are neither created nor removed by name: leave the snapshot out of '%s'",
                        place->vdi)
             : 0;
}

int
sd_vdi_create (const SdPlace *place, uint64_t size, int64_t deadline, GError **error)
{
  const char *redundancy = tn_options_get (place->options, "redundancy");
  SdSession session = { .place = place, .deadline = deadline };
  SdCall call = { .size = size };
  int rc = sd_check_current (place, error);
  if (rc == 0 && redundancy)
    rc = sd_parse_redundancy (redundancy, &call, error);
  if (rc == 0)
    rc = sd_parse_object_size (tn_options_uint (place->options, "object_size"), &call, error);
  if (rc == 0)
    rc = sd_session_connect (&session, error);
  if (rc < 0)
    return rc;
  rc = sd_create_on (&session, &call, error);
  nbd_channel_close (&session.channel);
  return rc;
}

int
sd_vdi_remove (const SdPlace *place, int64_t deadline, GError **error)
{
  SdSession session = { .place = place, .deadline = deadline };
  uint8_t names[2 * SD_MAX_NAME];
  int rc = sd_check_current (place, error);
  if (rc == 0)
    rc = sd_session_connect (&session, error);
  if (rc < 0)
    return rc;
  sd_put_names (names, place->vdi, "");
  SdCall call = { .opcode = SD_OP_DEL_VDI, .out = names, .out_length = sizeof names };
  rc = sd_call_succeed (place, &session.channel, &call, "remove", deadline, NULL, error);
  nbd_channel_close (&session.channel);
  return rc;
}
