/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NBD protocol as bytes: what a client and a server both know.  All numbers are big-endian on the wire.
 * Names follow doc/proto.md of the NBD project.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <tenon/types.h>

#define NBD_MAGIC UINT64_C (0x4e42444d41474943)
#define NBD_OPTION_MAGIC UINT64_C (0x49484156454f5054)
#define NBD_OPTION_REPLY_MAGIC UINT64_C (0x0003e889045565a9)
#define NBD_OLDSTYLE_MAGIC UINT64_C (0x0000420281861253)
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

#define NBD_DEFAULT_PORT 10809
#define NBD_MAX_STRING 4096
#define NBD_MAX_PAYLOAD (32u << 20)

#define NBD_GREETING_SIZE 18
#define NBD_OPTION_HEADER_SIZE 16
#define NBD_OPTION_REPLY_HEADER_SIZE 20
#define NBD_REQUEST_SIZE 28
#define NBD_EXTENDED_REQUEST_SIZE 32
#define NBD_SIMPLE_REPLY_SIZE 16
#define NBD_STRUCTURED_REPLY_SIZE 20
#define NBD_EXTENDED_REPLY_SIZE 32

/* Handshake flags of server and client. */
enum { NBD_FIXED_NEWSTYLE = 1 << 0, NBD_NO_ZEROES = 1 << 1 };

typedef enum NbdOption {
  NBD_OPT_EXPORT_NAME = 1,
  NBD_OPT_ABORT = 2,
  NBD_OPT_LIST = 3,
  NBD_OPT_STARTTLS = 5,
  NBD_OPT_INFO = 6,
  NBD_OPT_GO = 7,
  NBD_OPT_STRUCTURED_REPLY = 8,
  NBD_OPT_LIST_META_CONTEXT = 9,
  NBD_OPT_SET_META_CONTEXT = 10,
  NBD_OPT_EXTENDED_HEADERS = 11
} NbdOption;

#define NBD_REP_ERROR 0x80000000u
typedef enum NbdOptionReply {
  NBD_REP_ACK = 1,
  NBD_REP_SERVER = 2,
  NBD_REP_INFO = 3,
  NBD_REP_META_CONTEXT = 4
} NbdOptionReply;
#define NBD_REP_ERR_UNSUP (NBD_REP_ERROR | 1)
#define NBD_REP_ERR_POLICY (NBD_REP_ERROR | 2)
#define NBD_REP_ERR_INVALID (NBD_REP_ERROR | 3)
#define NBD_REP_ERR_PLATFORM (NBD_REP_ERROR | 4)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_ERROR | 5)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_ERROR | 6)
#define NBD_REP_ERR_SHUTDOWN (NBD_REP_ERROR | 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERROR | 8)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_ERROR | 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_ERROR | 10)

typedef enum NbdInfo {
  NBD_INFO_EXPORT = 0,
  NBD_INFO_NAME = 1,
  NBD_INFO_DESCRIPTION = 2,
  NBD_INFO_BLOCK_SIZE = 3
} NbdInfo;

typedef enum NbdTransmissionFlags {
  NBD_FLAG_HAS_FLAGS = 1 << 0,
  NBD_FLAG_READ_ONLY = 1 << 1,
  NBD_FLAG_SEND_FLUSH = 1 << 2,
  NBD_FLAG_SEND_FUA = 1 << 3,
  NBD_FLAG_ROTATIONAL = 1 << 4,
  NBD_FLAG_SEND_TRIM = 1 << 5,
  NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
  NBD_FLAG_SEND_DF = 1 << 7,
  NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
  NBD_FLAG_SEND_RESIZE = 1 << 9,
  NBD_FLAG_SEND_CACHE = 1 << 10,
  NBD_FLAG_SEND_FAST_ZERO = 1 << 11
} NbdTransmissionFlags;

typedef enum NbdCommand {
  NBD_CMD_READ = 0,
  NBD_CMD_WRITE = 1,
  NBD_CMD_DISC = 2,
  NBD_CMD_FLUSH = 3,
  NBD_CMD_TRIM = 4,
  NBD_CMD_CACHE = 5,
  NBD_CMD_WRITE_ZEROES = 6,
  NBD_CMD_BLOCK_STATUS = 7
} NbdCommand;

typedef enum NbdCommandFlags {
  NBD_CMD_FLAG_FUA = 1 << 0,
  NBD_CMD_FLAG_NO_HOLE = 1 << 1,
  NBD_CMD_FLAG_DF = 1 << 2,
  NBD_CMD_FLAG_REQ_ONE = 1 << 3,
  NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
  NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5
} NbdCommandFlags;

enum { NBD_REPLY_FLAG_DONE = 1 << 0 };
typedef enum NbdReplyType {
  NBD_REPLY_NONE = 0,
  NBD_REPLY_OFFSET_DATA = 1,
  NBD_REPLY_OFFSET_HOLE = 2,
  NBD_REPLY_BLOCK_STATUS = 5,
  NBD_REPLY_BLOCK_STATUS_EXT = 6,
  NBD_REPLY_ERROR = 0x8001,
  NBD_REPLY_ERROR_OFFSET = 0x8002
} NbdReplyType;

/* base:allocation */
enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };

#define NBD_CONTEXT_ALLOCATION "base:allocation"
#define NBD_CONTEXT_DEPTH "qemu:allocation-depth"
#define NBD_CONTEXT_BITMAP "qemu:dirty-bitmap:"

/* A request as either side writes it. */
typedef struct NbdRequestHeader {
  uint16_t flags, type;
  uint64_t cookie, offset, length;
} NbdRequestHeader;

/* The beginning of a structured or extended reply. */
typedef struct NbdChunkHeader {
  uint16_t flags, type;
  uint64_t cookie, offset; /* offset: extended headers only */
  uint64_t length;         /* of the payload that follows */
} NbdChunkHeader;

static inline size_t
nbd_request_size (bool extended)
{
  return extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

static inline size_t
nbd_chunk_size (bool extended)
{
  return extended ? NBD_EXTENDED_REPLY_SIZE : NBD_STRUCTURED_REPLY_SIZE;
}

/* False: it does not begin with the magic number that it must. */
static inline bool
nbd_get_request (const uint8_t *in, bool extended, NbdRequestHeader *header)
{
  if (tn_load_be32 (in) != (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
    return false;
  *header = (NbdRequestHeader){ .flags = tn_load_be16 (in + 4),
                                .type = tn_load_be16 (in + 6),
                                .cookie = tn_load_be64 (in + 8),
                                .offset = tn_load_be64 (in + 16),
                                .length = extended ? tn_load_be64 (in + 24) : tn_load_be32 (in + 24) };
  return true;
}

/* The number of bytes written.  Without extended headers the length must fit 32 bits. */
static inline size_t
nbd_put_request (uint8_t *out, bool extended, const NbdRequestHeader *header)
{
  tn_store_be32 (out, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
  tn_store_be16 (out + 4, header->flags);
  tn_store_be16 (out + 6, header->type);
  tn_store_be64 (out + 8, header->cookie);
  tn_store_be64 (out + 16, header->offset);
  if (extended)
    tn_store_be64 (out + 24, header->length);
  else
    tn_store_be32 (out + 24, (uint32_t) header->length);
  return nbd_request_size (extended);
}

static inline size_t
nbd_put_simple_reply (uint8_t *out, uint32_t error, uint64_t cookie)
{
  tn_store_be32 (out, NBD_SIMPLE_REPLY_MAGIC);
  tn_store_be32 (out + 4, error);
  tn_store_be64 (out + 8, cookie);
  return NBD_SIMPLE_REPLY_SIZE;
}

static inline size_t
nbd_put_chunk (uint8_t *out, bool extended, const NbdChunkHeader *header)
{
  tn_store_be32 (out, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
  tn_store_be16 (out + 4, header->flags);
  tn_store_be16 (out + 6, header->type);
  tn_store_be64 (out + 8, header->cookie);
  if (extended) {
    tn_store_be64 (out + 16, header->offset);
    tn_store_be64 (out + 24, header->length);
  } else {
    tn_store_be32 (out + 16, (uint32_t) header->length);
  }
  return nbd_chunk_size (extended);
}

/* The magic number has been looked at. */
static inline void
nbd_get_chunk (const uint8_t *in, bool extended, NbdChunkHeader *header)
{
  *header = (NbdChunkHeader){ .flags = tn_load_be16 (in + 4),
                              .type = tn_load_be16 (in + 6),
                              .cookie = tn_load_be64 (in + 8),
                              .offset = extended ? tn_load_be64 (in + 16) : 0,
                              .length = extended ? tn_load_be64 (in + 24) : tn_load_be32 (in + 16) };
}

/* An error as the protocol numbers it, from an errno value (others become EIO) and back (numbers that the
 * protocol does not know become EINVAL, as it says). */
uint32_t nbd_error_from_errno (int errnum);
int nbd_error_to_errno (uint32_t error);

#endif
