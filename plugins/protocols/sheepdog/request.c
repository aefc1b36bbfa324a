/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads, writes and discards: each request is a coroutine, which works through its objects. */
#include "sheepdog.h"

typedef struct SdJob {
  SdClient *client;
  TnRequest *request;
  TnLoop *home;
  int result;
} SdJob;

G_STATIC_ASSERT (sizeof (SdJob) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

/* The part of a request that lies in one object. */
typedef struct SdPiece {
  uint32_t index, offset, length;
  uint64_t at; /* in the request */
} SdPiece;

/* ---- The inode ---- */

static int
sd_inode_write (SdClient *client, uint32_t vdi_id, uint64_t offset, const void *data, uint32_t length,
                uint32_t *result)
{
  SdCall call = { .opcode = SD_OP_WRITE,
                  .flags = (uint16_t) client->flags,
                  .oid = sd_inode_oid (vdi_id),
                  .offset = offset,
                  .copies = client->inode.copies,
                  .out = data,
                  .out_length = length };
  const int rc = sd_link_call (client, &call);
  *result = call.rc < 0 ? SD_RES_SUCCESS : call.result;
  return rc;
}

static int
sd_inode_read (SdClient *client, uint32_t vdi_id, uint64_t offset, void *data, uint32_t length)
{
  SdCall call = { .opcode = SD_OP_READ,
                  .flags = (uint16_t) client->flags,
                  .oid = sd_inode_oid (vdi_id),
                  .offset = offset,
                  .in = data,
                  .in_length = length };
  return sd_link_call (client, &call);
}

/* Says on the server, then here, whose the object is. */
static int
sd_set_entry (SdClient *client, uint32_t vdi_id, uint32_t index, uint32_t owner, uint32_t *result)
{
  uint8_t raw[4];
  tn_store_le32 (raw, owner);
  const int rc =
      sd_inode_write (client, vdi_id, SD_INODE_HEAD + 4 * (uint64_t) index, raw, sizeof raw, result);
  if (rc == 0)
    __atomic_store_n (&client->table[index], owner, __ATOMIC_RELEASE);
  return rc;
}

/* The disk that has the name now: a snapshot was made, and what was open here is read-only. */
static int
sd_find_current (SdClient *client, uint32_t *vdi_id)
{
  uint8_t names[2 * SD_MAX_NAME] = { 0 };
  memcpy (names, client->place.vdi, strlen (client->place.vdi));
  SdCall call = { .opcode = SD_OP_GET_VDI_INFO, .out = names, .out_length = sizeof names };
  const int rc = sd_link_call (client, &call);
  if (rc < 0)
    return rc;
  *vdi_id = tn_load_le32 (call.head + 24);
  return *vdi_id && *vdi_id < SD_MAX_VDI_ID ? 0 : -EPROTO;
}

static int
sd_reload_locked (SdClient *client, uint32_t was)
{
  uint8_t head[SD_INODE_HEAD];
  SdInode inode = { 0 };
  if (client->inode.vdi_id != was)
    return 0; /* somebody else has done it */
  int rc = sd_find_current (client, &inode.vdi_id);
  if (rc == 0 && inode.vdi_id == was)
    return -EROFS;
  if (rc == 0)
    rc = sd_inode_read (client, inode.vdi_id, 0, head, sizeof head);
  if (rc == 0)
    rc = sd_inode_parse (&client->place, head, &inode, NULL);
  if (rc < 0)
    return rc;
  if (inode.shift != client->inode.shift || inode.size < client->inode.size || inode.is_snapshot)
    return -EPROTO;
  const uint32_t n = (uint32_t) sd_objects_of (&inode);
  g_autofree uint8_t *raw = g_malloc (4 * (size_t) n + 1);
  rc = n ? sd_inode_read (client, inode.vdi_id, SD_INODE_HEAD, raw, 4 * n) : 0;
  if (rc == 0)
    rc = sd_table_take (&client->place, raw, client->table, n, NULL);
  if (rc == 0)
    client->inode = inode;
  return rc;
}

static int
sd_reload (SdClient *client, uint32_t was)
{
  tn_co_mutex_lock (&client->inode_lock);
  const int rc = sd_reload_locked (client, was);
  tn_co_mutex_unlock (&client->inode_lock);
  return rc;
}

static int
sd_grow_locked (SdClient *client, uint64_t size)
{
  const SdInode was = client->inode;
  SdInode inode = was;
  uint8_t raw[8];
  uint32_t result = SD_RES_SUCCESS;
  inode.size = size;
  if (size <= was.size)
    return 0;
  if (size > (uint64_t) SD_MAX_OBJECTS << was.shift)
    return -EFBIG;
  /* What the table says beyond the old end has not been read yet. */
  const uint64_t from = sd_objects_of (&was), to = sd_objects_of (&inode);
  g_autofree uint8_t *table = g_malloc (4 * (to - from) + 1);
  int rc = to > from ? sd_inode_read (client, was.vdi_id, SD_INODE_HEAD + 4 * from, table,
                                      (uint32_t) (4 * (to - from)))
                     : 0;
  if (rc == 0)
    rc = sd_table_take (&client->place, table, client->table + from, to - from, NULL);
  tn_store_le64 (raw, size);
  if (rc == 0)
    rc = sd_inode_write (client, was.vdi_id, SD_INODE_SIZE_AT, raw, sizeof raw, &result);
  if (rc == -EROFS && result == SD_RES_READONLY)
    rc = sd_reload_locked (client, was.vdi_id) < 0
             ? -EROFS
             : sd_inode_write (client, client->inode.vdi_id, SD_INODE_SIZE_AT, raw, sizeof raw, &result);
  if (rc == 0)
    client->inode.size = size;
  return rc;
}

int
sd_grow (SdClient *client, uint64_t size)
{
  tn_co_mutex_lock (&client->inode_lock);
  const int rc = sd_grow_locked (client, size);
  tn_co_mutex_unlock (&client->inode_lock);
  return rc;
}

/* ---- Memory of requests ---- */

/* One stretch of memory for a piece: the request's own where it is one there, else new: *@owned. */
static uint8_t *
sd_memory_of (const TnRequest *request, const SdPiece *piece, uint8_t **owned)
{
  uint64_t skip = piece->at;
  for (uint32_t i = 0; i < request->n_iov; i++) {
    const struct iovec *iov = &request->iov[i];
    if (skip < iov->iov_len)
      return iov->iov_len - skip >= piece->length ? (uint8_t *) iov->iov_base + skip
                                                  : (*owned = g_try_malloc (piece->length));
    skip -= iov->iov_len;
  }
  return NULL;
}

/* Between the request's memory and @flat; NULL: zeroes into the request's. */
static void
sd_copy (const TnRequest *request, const SdPiece *piece, uint8_t *flat, bool to_request)
{
  uint64_t skip = piece->at;
  uint32_t done = 0;
  for (uint32_t i = 0; i < request->n_iov && done < piece->length; i++) {
    const struct iovec *iov = &request->iov[i];
    if (skip >= iov->iov_len) {
      skip -= iov->iov_len;
      continue;
    }
    uint8_t *memory = (uint8_t *) iov->iov_base + skip;
    const uint32_t n = (uint32_t) MIN (iov->iov_len - skip, piece->length - done);
    if (!to_request)
      memcpy (flat + done, memory, n);
    else if (flat)
      memcpy (memory, flat + done, n);
    else
      memset (memory, 0, n);
    done += n;
    skip = 0;
  }
}

/* ---- Objects ---- */

static int
sd_read_piece (SdClient *client, const TnRequest *request, const SdPiece *piece)
{
  const uint32_t owner = sd_entry (client, piece->index);
  g_autofree uint8_t *owned = NULL;
  if (owner == 0) {
    sd_copy (request, piece, NULL, true);
    return 0;
  }
  uint8_t *memory = sd_memory_of (request, piece, &owned);
  if (!memory)
    return -ENOMEM;
  SdCall call = { .opcode = SD_OP_READ,
                  .flags = (uint16_t) client->flags,
                  .oid = sd_data_oid (owner, piece->index),
                  .offset = piece->offset,
                  .copies = client->inode.copies,
                  .in = memory,
                  .in_length = piece->length };
  const int rc = sd_link_call (client, &call);
  if (rc == 0 && owned)
    sd_copy (request, piece, owned, true);
  return rc;
}

static int
sd_write_object (SdClient *client, uint32_t vdi_id, uint32_t owner, const SdPiece *piece, const uint8_t *data,
                 uint32_t *result)
{
  const bool make = owner != vdi_id, cow = make && owner;
  SdCall call = { .opcode = make ? SD_OP_CREATE_AND_WRITE : SD_OP_WRITE,
                  .flags = (uint16_t) (client->flags | (cow ? SD_FLAG_COW : 0)),
                  .oid = sd_data_oid (vdi_id, piece->index),
                  .cow_oid = cow ? sd_data_oid (owner, piece->index) : 0,
                  .offset = piece->offset,
                  .copies = client->inode.copies,
                  .out = data,
                  .out_length = piece->length };
  const int rc = sd_link_call (client, &call);
  *result = call.rc < 0 ? SD_RES_SUCCESS : call.result;
  return rc;
}

/* The object first, then the inode that says that it is there: who reads the inode finds the object. */
static int
sd_make_object (SdClient *client, uint32_t vdi_id, const SdPiece *piece, const uint8_t *data,
                uint32_t *result)
{
  TnCoMutex *lock = &client->locks[piece->index % SD_LOCKS];
  tn_co_mutex_lock (lock);
  const uint32_t owner = sd_entry (client, piece->index);
  int rc = sd_write_object (client, vdi_id, owner, piece, data, result);
  if (rc == 0 && owner != vdi_id)
    rc = sd_set_entry (client, vdi_id, piece->index, vdi_id, result);
  tn_co_mutex_unlock (lock);
  return rc;
}

static int
sd_write_bytes (SdClient *client, const SdPiece *piece, const uint8_t *data)
{
  uint32_t result = SD_RES_SUCCESS;
  for (bool again = false;; again = true) {
    const uint32_t vdi_id = client->inode.vdi_id;
    const int rc = sd_entry (client, piece->index) == vdi_id
                       ? sd_write_object (client, vdi_id, vdi_id, piece, data, &result)
                       : sd_make_object (client, vdi_id, piece, data, &result);
    if (rc == 0 || result != SD_RES_READONLY || again)
      return rc;
    const int reloaded = sd_reload (client, vdi_id);
    if (reloaded < 0)
      return reloaded;
  }
}

static int
sd_write_piece (SdClient *client, const TnRequest *request, const SdPiece *piece)
{
  g_autofree uint8_t *owned = NULL;
  uint8_t *memory = sd_memory_of (request, piece, &owned);
  if (!memory)
    return -ENOMEM;
  if (owned)
    sd_copy (request, piece, owned, false);
  return sd_write_bytes (client, piece, memory);
}

/* The entry goes; the cluster takes the object away when nobody's entry is left. */
static int
sd_drop_object (SdClient *client, uint32_t index)
{
  TnCoMutex *lock = &client->locks[index % SD_LOCKS];
  uint32_t result = SD_RES_SUCCESS;
  for (bool again = false;; again = true) {
    tn_co_mutex_lock (lock);
    const uint32_t vdi_id = client->inode.vdi_id;
    int rc = sd_entry (client, index) ? sd_set_entry (client, vdi_id, index, 0, &result) : 0;
    tn_co_mutex_unlock (lock);
    if (rc == 0 || result != SD_RES_READONLY || again)
      return rc;
    rc = sd_reload (client, vdi_id);
    if (rc < 0)
      return rc;
  }
}

static int
sd_write_zero_bytes (SdClient *client, const SdPiece *piece)
{
  g_autofree uint8_t *zeroes = g_try_malloc0 (MIN (piece->length, SD_MAX_TRANSFER));
  if (!zeroes)
    return -ENOMEM;
  for (uint32_t done = 0; done < piece->length;) {
    const SdPiece part = { .index = piece->index,
                           .offset = piece->offset + done,
                           .length = MIN (piece->length - done, SD_MAX_TRANSFER) };
    const int rc = sd_write_bytes (client, &part, zeroes);
    if (rc < 0)
      return rc;
    done += part.length;
  }
  return 0;
}

/* All of an object, or all that the disk has of its last one. */
static bool
sd_is_whole (const SdClient *client, const SdPiece *piece)
{
  const uint64_t start = (uint64_t) piece->index << client->inode.shift;
  return piece->offset == 0
         && (piece->length == UINT64_C (1) << client->inode.shift
             || start + piece->length >= client->inode.size);
}

static int
sd_zero_piece (SdClient *client, const TnRequest *request, const SdPiece *piece)
{
  if (!sd_entry (client, piece->index))
    return 0;
  if (sd_is_whole (client, piece) && (request->flags & TN_REQUEST_MAY_UNMAP))
    return sd_drop_object (client, piece->index);
  return request->flags & TN_REQUEST_NO_FALLBACK ? -ENOTSUP : sd_write_zero_bytes (client, piece);
}

static int
sd_do_piece (SdClient *client, const TnRequest *request, const SdPiece *piece)
{
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    return sd_read_piece (client, request, piece);
  case TN_REQUEST_WRITE:
    return sd_write_piece (client, request, piece);
  case TN_REQUEST_WRITE_ZEROES:
    return sd_zero_piece (client, request, piece);
  case TN_REQUEST_DISCARD:
    return sd_is_whole (client, piece) ? sd_drop_object (client, piece->index) : 0;
  case TN_REQUEST_FLUSH:
    break;
  }
  return -ENOTSUP;
}

/* ---- Requests ---- */

static int
sd_flush (SdClient *client)
{
  if (client->flags != SD_FLAG_CACHE || !client->writes)
    return 0;
  SdCall call = { .opcode = SD_OP_FLUSH_VDI,
                  .flags = SD_FLAG_CACHE,
                  .oid = sd_inode_oid (client->inode.vdi_id),
                  .copies = client->inode.copies };
  const int rc = sd_link_call (client, &call);
  if (call.rc < 0 || call.result != SD_RES_INVALID_PARMS)
    return rc;
  /* The server has no cache of objects: what it has answered is stored. */
  client->flags = SD_FLAG_DIRECT;
  return 0;
}

static int
sd_job_work (SdClient *client, const TnRequest *request)
{
  if (request->op == TN_REQUEST_FLUSH)
    return sd_flush (client);
  const uint64_t end = request->offset + request->length, object = UINT64_C (1) << client->inode.shift;
  if (end < request->offset || end > (uint64_t) SD_MAX_OBJECTS << client->inode.shift)
    return request->op == TN_REQUEST_READ ? -EINVAL : -EFBIG;
  int rc = 0;
  if (request->op != TN_REQUEST_READ && !client->writes)
    return -EROFS;
  if (request->op != TN_REQUEST_READ && end > client->inode.size)
    rc = sd_grow (client, end);
  for (uint64_t at = 0; rc == 0 && at < request->length;) {
    const uint64_t offset = request->offset + at;
    const SdPiece piece = { .index = (uint32_t) (offset >> client->inode.shift),
                            .offset = (uint32_t) (offset & (object - 1)),
                            .length = (uint32_t) MIN (object - (offset & (object - 1)), request->length - at),
                            .at = at };
    rc = sd_do_piece (client, request, &piece);
    at += piece.length;
  }
  return rc;
}

static void
sd_job_deliver (void *opaque)
{
  SdJob *job = opaque;
  TnRequest *request = job->request;
  request->done (request, job->result);
}

static void
sd_job_main (void *opaque)
{
  SdJob *job = opaque;
  job->result = sd_job_work (job->client, job->request);
  tn_loop_post (job->home, sd_job_deliver, job);
}

static void
sd_job_start (void *opaque)
{
  tn_co_start (sd_job_main, opaque);
}

void
sd_node_submit (TnNode *node, TnRequest *request)
{
  SdJob *job = tn_request_leaf_scratch (request);
  *job = (SdJob){ .client = *(SdClient **) tn_node_state (node),
                  .request = request,
                  .home = tn_loop_current () };
  if (job->home == job->client->loop)
    sd_job_start (job);
  else
    tn_loop_post (job->client->loop, sd_job_start, job);
}
