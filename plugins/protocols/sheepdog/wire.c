/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages as they are sent, all of little endian, and calls that block. */
#include "sheepdog.h"

#define SD_PROTO_VERSION 1

static bool
sd_is_of_object (uint8_t opcode)
{
  return opcode < SD_OP_NEW_VDI || opcode == SD_OP_FLUSH_VDI;
}

void
sd_call_put (SdCall *call)
{
  uint8_t *head = call->head;
  memset (head, 0, SD_HEAD_SIZE);
  head[0] = SD_PROTO_VERSION;
  head[1] = call->opcode;
  tn_store_le16 (head + 2, (uint16_t) (call->flags | (call->out_length ? SD_FLAG_WRITE : 0)));
  tn_store_le32 (head + 8, call->id);
  tn_store_le32 (head + 12, call->out_length ? call->out_length : call->in_length);
  if (sd_is_of_object (call->opcode)) {
    tn_store_le64 (head + 16, call->oid);
    tn_store_le64 (head + 24, call->cow_oid);
    head[32] = call->copies;
    head[33] = call->copy_policy;
    tn_store_le64 (head + 40, call->offset);
    return;
  }
  tn_store_le64 (head + 16, call->size);
  tn_store_le32 (head + 24, call->vdi_id);
  head[28] = call->copies;
  head[29] = call->copy_policy;
  head[31] = call->shift;
  tn_store_le32 (head + 32, call->snap_id);
}

const char *
sd_result_text (uint32_t result)
{
  static const char *const texts[] = { "success",
                                       "unknown error",
                                       "there is no such object",
                                       "input/output error",
                                       "there is such a VDI already",
                                       "it takes the parameters for wrong",
                                       "system error",
                                       "the VDI is locked",
                                       "there is no such VDI",
                                       "there is no such base VDI",
                                       "the VDI cannot be read",
                                       "the VDI cannot be written",
                                       "the base VDI cannot be read",
                                       "the base VDI cannot be written",
                                       "there is no such snapshot",
                                       "the cluster is starting up",
                                       "the VDI is not locked",
                                       "the cluster is shutting down",
                                       "out of memory",
                                       "the cluster has as many VDIs as it can",
                                       "it speaks another version of the protocol",
                                       "no space is left",
                                       "the cluster waits to be formatted",
                                       "the cluster waits for nodes to join",
                                       "a node failed to join",
                                       "the cluster has stopped serving",
                                       "the object is read-only" };
  return result < G_N_ELEMENTS (texts) ? texts[result] : "a result of an unknown number";
}

int
sd_result_errno (uint32_t result)
{
  switch (result) {
  case SD_RES_SUCCESS:
    return 0;
  case SD_RES_VDI_EXIST:
    return EEXIST;
  case SD_RES_VDI_LOCKED:
    return EBUSY;
  case SD_RES_NO_VDI:
  case SD_RES_NO_BASE_VDI:
  case SD_RES_NO_TAG:
    return ENOENT;
  case SD_RES_NO_SPACE:
    return ENOSPC;
  case SD_RES_READONLY:
    return EROFS;
  case SD_RES_INVALID_PARMS:
    return EINVAL;
  default:
    return EIO;
  }
}

static int
sd_exchange (NbdChannel *channel, SdCall *call, int64_t deadline, const int *cancel, GError **error)
{
  int rc = nbd_channel_write_all (channel, call->head, SD_HEAD_SIZE, deadline, cancel, error);
  if (rc >= 0 && call->out_length)
    rc = nbd_channel_write_all (channel, call->out, call->out_length, deadline, cancel, error);
  if (rc >= 0)
    rc = nbd_channel_read_all (channel, call->head, SD_HEAD_SIZE, deadline, cancel, error);
  if (rc < 0)
    return rc;
  const uint32_t length = tn_load_le32 (call->head + 12);
  call->result = tn_load_le32 (call->head + 16);
  if (tn_load_le32 (call->head + 8) != call->id)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "it broke the protocol: an answer to another call");
  if (call->in_length == 0)
    return 0;
  if (length > call->in_length || (call->result == SD_RES_SUCCESS && length != call->in_length))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "it broke the protocol: an answer of %u bytes where %u were asked for", length,
                    call->in_length);
  rc = length ? nbd_channel_read_all (channel, call->in, length, deadline, cancel, error) : 0;
  return MIN (rc, 0);
}

int
sd_call_block (const SdPlace *place, NbdChannel *channel, SdCall *call, int64_t deadline, const int *cancel,
               GError **error)
{
  call->id = 1; /* one at a time */
  sd_call_put (call);
  const int rc = sd_exchange (channel, call, deadline, cancel, error);
  if (rc < 0 && error && *error)
    g_prefix_error (error, "%s: ", place->server);
  return rc;
}

int
sd_call_succeed (const SdPlace *place, NbdChannel *channel, SdCall *call, const char *what, int64_t deadline,
                 const int *cancel, GError **error)
{
  const int rc = sd_call_block (place, channel, call, deadline, cancel, error);
  if (rc < 0 || call->result == SD_RES_SUCCESS)
    return rc;
  return tn_fail (error, TN_BLOCK_ERROR, sd_result_errno (call->result),
                  "the %s does not %s '%s%s%s': %s (%u)", place->server, what, place->vdi,
                  *place->tag ? "#" : "", place->tag, sd_result_text (call->result), call->result);
}
