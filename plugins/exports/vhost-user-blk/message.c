/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each message does. */
#include "vhost-user.h"

#include <sys/stat.h>
#include <unistd.h>

#define FLAG_NEED_REPLY 8u
#define CONFIG_HEADER 12u

#define PROTOCOL_FEATURES                                                                                    \
  (1ull << VU_PROTOCOL_MQ | 1ull << VU_PROTOCOL_REPLY_ACK | 1ull << VU_PROTOCOL_BACKEND_REQ                  \
   | 1ull << VU_PROTOCOL_CONFIG | 1ull << VU_PROTOCOL_CONFIGURE_MEM_SLOTS)

typedef int (*Handler) (VuExport *export, const VuMessage *message, GError **error);

/* ---- Features ---- */

static uint64_t
offered (const VuExport *export)
{
  return virtio_blk_offered (&export->blk) | 1ull << TN_VIRTIO_F_INDIRECT_DESC | 1ull << TN_VIRTIO_F_EVENT_IDX
         | 1ull << TN_VIRTIO_F_VERSION_1 | 1ull << VU_F_PROTOCOL_FEATURES;
}

static int
get_features (VuExport *export, const VuMessage *message, GError **error)
{
  return vu_reply_u64 (export, message, offered (export), error);
}

static int
take_features (const VuMessage *message, uint64_t known, uint64_t *features, GError **error)
{
  uint64_t wanted;
  memcpy (&wanted, message->payload, sizeof wanted);
  if (wanted & ~known)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "the front end wants features 0x%" G_GINT64_MODIFIER "x that it was not offered",
                    wanted & ~known);
  *features = wanted;
  return 0;
}

static int
set_features (VuExport *export, const VuMessage *message, GError **error)
{
  const int rc = take_features (message, offered (export), &export->features, error);
  if (rc < 0)
    return rc;
  virtio_blk_start (&export->blk, export->features);
  return vu_rings_renew (export, error);
}

static int
get_protocol_features (VuExport *export, const VuMessage *message, GError **error)
{
  return vu_reply_u64 (export, message, PROTOCOL_FEATURES, error);
}

static int
set_protocol_features (VuExport *export, const VuMessage *message, GError **error)
{
  return take_features (message, PROTOCOL_FEATURES, &export->protocol, error);
}

static int
get_queue_num (VuExport *export, const VuMessage *message, GError **error)
{
  return vu_reply_u64 (export, message, export->blk.n_queues, error);
}

static int
get_max_mem_slots (VuExport *export, const VuMessage *message, GError **error)
{
  return vu_reply_u64 (export, message, VU_MAX_REGIONS, error);
}

static int
set_owner (VuExport *export, const VuMessage *message, GError **error)
{
  return 0;
}

static int
reset_owner (VuExport *export, const VuMessage *message, GError **error)
{
  for (unsigned i = 0; i < export->blk.n_queues; i++)
    vu_ring_reset (&export->rings[i]);
  vu_memory_clear (export);
  export->features = 0;
  virtio_blk_reset (&export->blk);
  return 0;
}

static int
set_backend_fd (VuExport *export, const VuMessage *message, GError **error)
{
  struct stat st;
  if (export->input.n_fds != 1 || fstat (export->input.fds[0], &st) < 0 || !S_ISSOCK (st.st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "SET_BACKEND_REQ_FD came without a socket");
  if (export->backend_fd >= 0)
    close (export->backend_fd);
  export->backend_fd = vu_take_fd (export);
  return 0;
}

/* ---- The configuration space ---- */

typedef struct ConfigPart {
  uint32_t offset, size, flags;
} ConfigPart;

static int
config_part (const VuMessage *message, ConfigPart *part, GError **error)
{
  if (message->size < CONFIG_HEADER)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has %u bytes", message->request,
                    message->size);
  memcpy (part, message->payload, sizeof *part);
  if (part->offset > VU_MAX_CONFIG || part->size > VU_MAX_CONFIG - part->offset
      || part->size != message->size - CONFIG_HEADER)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "message %u is on %u bytes at %u of the configuration, with %u bytes of its own",
                    message->request, part->size, part->offset, message->size);
  return 0;
}

static int
get_config (VuExport *export, const VuMessage *message, GError **error)
{
  uint8_t config[VU_MAX_CONFIG] = { 0 }, answer[CONFIG_HEADER + VU_MAX_CONFIG];
  ConfigPart part;
  const int rc = config_part (message, &part, error);
  if (rc < 0)
    return rc;
  virtio_blk_config_fill (&export->blk, config);
  memcpy (answer, &part, CONFIG_HEADER);
  memcpy (answer + CONFIG_HEADER, config + part.offset, part.size);
  return vu_reply (export, message, answer, CONFIG_HEADER + part.size, error);
}

static int
set_config (VuExport *export, const VuMessage *message, GError **error)
{
  ConfigPart part;
  const int rc = config_part (message, &part, error);
  if (rc == 0)
    virtio_blk_config_write (&export->blk, part.offset, message->payload + CONFIG_HEADER, part.size);
  return rc;
}

/* ---- All of them ---- */

typedef struct Kind {
  uint32_t request;
  bool answers;   /* has an answer of its own */
  bool quiet;     /* only while no request is under way */
  int8_t feature; /* the protocol feature that it belongs to, or -1 */
  int16_t size;   /* of the payload, or -1 when the handler knows */
  Handler handle;
} Kind;

static const Kind kinds[] = {
  { VU_GET_FEATURES, true, false, -1, 0, get_features },
  { VU_SET_FEATURES, false, true, -1, 8, set_features },
  { VU_SET_OWNER, false, false, -1, 0, set_owner },
  { VU_RESET_OWNER, false, true, -1, 0, reset_owner },
  { VU_SET_MEM_TABLE, false, true, -1, -1, vu_set_mem_table },
  { VU_SET_VRING_NUM, false, true, -1, -1, vu_ring_message },
  { VU_SET_VRING_ADDR, false, true, -1, -1, vu_ring_message },
  { VU_SET_VRING_BASE, false, true, -1, -1, vu_ring_message },
  { VU_GET_VRING_BASE, true, true, -1, -1, vu_ring_message },
  { VU_SET_VRING_KICK, false, true, -1, -1, vu_ring_fd },
  { VU_SET_VRING_CALL, false, false, -1, -1, vu_ring_fd },
  { VU_SET_VRING_ERR, false, false, -1, -1, vu_ring_fd },
  { VU_GET_PROTOCOL_FEATURES, true, false, -1, 0, get_protocol_features },
  { VU_SET_PROTOCOL_FEATURES, false, false, -1, 8, set_protocol_features },
  { VU_GET_QUEUE_NUM, true, false, VU_PROTOCOL_MQ, 0, get_queue_num },
  { VU_SET_VRING_ENABLE, false, true, -1, -1, vu_ring_message },
  { VU_SET_BACKEND_REQ_FD, false, false, VU_PROTOCOL_BACKEND_REQ, -1, set_backend_fd },
  { VU_GET_CONFIG, true, false, VU_PROTOCOL_CONFIG, -1, get_config },
  { VU_SET_CONFIG, false, false, VU_PROTOCOL_CONFIG, -1, set_config },
  { VU_GET_MAX_MEM_SLOTS, true, false, VU_PROTOCOL_CONFIGURE_MEM_SLOTS, 0, get_max_mem_slots },
  { VU_ADD_MEM_REG, false, false, VU_PROTOCOL_CONFIGURE_MEM_SLOTS, -1, vu_add_mem_region },
  { VU_REM_MEM_REG, false, true, VU_PROTOCOL_CONFIGURE_MEM_SLOTS, -1, vu_remove_mem_region },
};

static int
find_kind (const VuExport *export, const VuMessage *message, const Kind **kind, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++) {
    const Kind *k = &kinds[i];
    if (k->request != message->request)
      continue;
    if (k->feature >= 0 && !(export->protocol & (1ull << k->feature)))
      return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u belongs to a feature that was not agreed on",
                      message->request);
    if (k->size >= 0 && message->size != (uint32_t) k->size)
      return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "message %u has %u bytes, not %d", message->request,
                      message->size, k->size);
    *kind = k;
    return 0;
  }
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "message %u is not supported", message->request);
}

int
vu_handle (VuExport *export, GError **error)
{
  g_autoptr (GError) failure = NULL;
  VuMessage message;
  const Kind *kind = NULL;
  vu_message (export, &message);
  int rc = find_kind (export, &message, &kind, &failure);
  if (rc == 0 && kind->quiet && vu_rings_in_flight (export) > 0)
    return -EAGAIN;
  if (rc == 0)
    rc = kind->handle (export, &message, &failure);
  const bool acknowledge = (message.flags & FLAG_NEED_REPLY)
                           && (export->protocol & (1u << VU_PROTOCOL_REPLY_ACK)) && !(kind && kind->answers);
  /* Who asked for a verdict may go on after a bad one. */
  if (acknowledge && !export->leaving)
    return vu_reply_u64 (export, &message, rc == 0 ? 0 : 1, error);
  if (rc < 0)
    g_propagate_error (error, g_steal_pointer (&failure));
  return rc;
}
