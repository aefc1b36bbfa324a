/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests as SCSI commands, and what their answers mean. */
#include "iscsi.h"

/* "Space allocation failed write protect": a thin unit is full. */
#define ASCQ_NO_SPACE 0x2707

static bool
is_write (uint8_t op)
{
  return op == TN_REQUEST_WRITE || op == TN_REQUEST_WRITE_ZEROES || op == TN_REQUEST_DISCARD;
}

int
iscsi_request_check (const IscsiClient *client, const TnRequest *request)
{
  const IscsiUnit *unit = &client->unit;
  if (is_write (request->op) && unit->read_only)
    return -EROFS;
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_FLUSH:
    return client->writes && !iscsi_lacks (client, ISCSI_LACKS_SYNC) ? 1 : 0;
  case TN_REQUEST_WRITE_ZEROES:
    if (iscsi_lacks (client, ISCSI_LACKS_SAME))
      return -ENOTSUP;
    break;
  case TN_REQUEST_DISCARD:
    if (!(unit->unmaps && !iscsi_lacks (client, ISCSI_LACKS_UNMAP)))
      return -ENOTSUP;
    break;
  default:
    break;
  }
  if ((request->offset | request->length) & (unit->block - 1))
    return -EINVAL;
  return request->length ? 1 : 0;
}

/* ---- Commands ---- */

/* libiscsi moves the ends of the pieces about while it sends: they are copies. */
static void
copy_iov (IscsiCall *call)
{
  const TnRequest *request = call->request;
  if (!call->iov)
    call->iov = request->n_iov <= ISCSI_INLINE_IOV ? call->few : g_new (struct scsi_iovec, request->n_iov);
  for (uint32_t i = 0; i < request->n_iov; i++)
    call->iov[i] = (struct scsi_iovec){ request->iov[i].iov_base, request->iov[i].iov_len };
}

static struct scsi_task *
start_read (IscsiCall *call, uint64_t lba, bool large, iscsi_command_cb answered)
{
  const IscsiClient *client = call->client;
  const TnRequest *request = call->request;
  const uint32_t length = (uint32_t) request->length;
  const int block = (int) client->unit.block;
  struct iscsi_context *context = client->session->context;
  struct scsi_task *task =
      large ? iscsi_read16_task (context, client->lun, lba, length, block, 0, 0, 0, 0, 0, answered, call)
            : iscsi_read10_task (context, client->lun, (uint32_t) lba, length, block, 0, 0, 0, 0, 0, answered,
                                 call);
  if (task)
    scsi_task_set_iov_in (task, call->iov, (int) request->n_iov);
  return task;
}

static struct scsi_task *
start_write (IscsiCall *call, uint64_t lba, bool large, iscsi_command_cb answered)
{
  const IscsiClient *client = call->client;
  const TnRequest *request = call->request;
  const uint32_t length = (uint32_t) request->length;
  const int block = (int) client->unit.block, n = (int) request->n_iov;
  struct iscsi_context *context = client->session->context;
  return large ? iscsi_write16_iov_task (context, client->lun, lba, NULL, length, block, 0, 0, 0, 0, 0,
                                         answered, call, call->iov, n)
               : iscsi_write10_iov_task (context, client->lun, (uint32_t) lba, NULL, length, block, 0, 0, 0,
                                         0, 0, answered, call, call->iov, n);
}

static struct scsi_task *
start_same (IscsiCall *call, uint64_t lba, uint32_t blocks, iscsi_command_cb answered)
{
  const IscsiClient *client = call->client;
  const IscsiUnit *unit = &client->unit;
  const bool unmap = (call->request->flags & TN_REQUEST_MAY_UNMAP) && unit->same_unmaps && unit->reads_zeroes;
  return iscsi_writesame16_task (client->session->context, client->lun, lba, client->zeroes, unit->block,
                                 blocks, 0, unmap, 0, 0, answered, call);
}

struct scsi_task *
iscsi_request_start (IscsiCall *call, iscsi_command_cb answered)
{
  const IscsiClient *client = call->client;
  const TnRequest *request = call->request;
  struct iscsi_context *context = client->session->context;
  const uint64_t lba = request->offset / client->unit.block, blocks = request->length / client->unit.block;
  const bool large = lba + blocks > UINT32_MAX || blocks > UINT16_MAX;
  struct unmap_list range = { lba, (uint32_t) blocks };
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    copy_iov (call);
    return start_read (call, lba, large, answered);
  case TN_REQUEST_WRITE:
    copy_iov (call);
    return start_write (call, lba, large, answered);
  case TN_REQUEST_WRITE_ZEROES:
    return start_same (call, lba, (uint32_t) blocks, answered);
  case TN_REQUEST_DISCARD:
    return iscsi_unmap_task (context, client->lun, 0, 0, &range, 1, answered, call);
  case TN_REQUEST_FLUSH:
    return iscsi_synchronizecache10_task (context, client->lun, 0, 0, 0, 0, answered, call);
  }
  return NULL;
}

/* ---- Answers ---- */

int
iscsi_errno_of (const struct scsi_task *task)
{
  switch (task->sense.ascq) {
  case SCSI_SENSE_ASCQ_INVALID_OPERATION_CODE:
    return -ENOTSUP;
  case SCSI_SENSE_ASCQ_INVALID_FIELD_IN_CDB:
  case SCSI_SENSE_ASCQ_INVALID_FIELD_IN_PARAMETER_LIST:
  case SCSI_SENSE_ASCQ_PARAMETER_LIST_LENGTH_ERROR:
    return -EINVAL;
  case ASCQ_NO_SPACE:
    return -ENOSPC;
  case SCSI_SENSE_ASCQ_LOGICAL_UNIT_NOT_SUPPORTED:
    return -ENXIO;
  case SCSI_SENSE_ASCQ_MEDIUM_NOT_PRESENT:
  case SCSI_SENSE_ASCQ_MEDIUM_NOT_PRESENT_TRAY_CLOSED:
  case SCSI_SENSE_ASCQ_MEDIUM_NOT_PRESENT_TRAY_OPEN:
    return -ENOMEDIUM;
  }
  return task->sense.key == SCSI_SENSE_DATA_PROTECTION ? -EROFS : -EIO;
}

/* What the unit does not know is not asked again; a unit that knows no flush has nothing to flush. */
static int
note_lack (IscsiCall *call, int rc)
{
  IscsiClient *client = call->client;
  uint32_t what = 0;
  if (rc != -ENOTSUP && rc != -EINVAL)
    return rc;
  if (!call->request)
    what = ISCSI_LACKS_STATUS;
  else if (call->request->op == TN_REQUEST_WRITE_ZEROES)
    what = ISCSI_LACKS_SAME;
  else if (call->request->op == TN_REQUEST_DISCARD)
    what = ISCSI_LACKS_UNMAP;
  else if (call->request->op == TN_REQUEST_FLUSH && rc == -ENOTSUP)
    what = ISCSI_LACKS_SYNC;
  __atomic_fetch_or (&client->lacks, what, __ATOMIC_RELAXED);
  if (what == ISCSI_LACKS_SYNC)
    return 0;
  return what ? -ENOTSUP : -EIO;
}

static IscsiVerdict
judge_sense (IscsiCall *call, const struct scsi_task *task, int *result)
{
  switch (task->sense.key) {
  case SCSI_SENSE_UNIT_ATTENTION:
    if (task->sense.ascq == SCSI_SENSE_ASCQ_CAPACITY_DATA_HAS_CHANGED)
      call->client->size_stale = true;
    return ISCSI_VERDICT_AGAIN;
  case SCSI_SENSE_COMMAND_ABORTED:
    return ISCSI_VERDICT_AGAIN;
  default:
    *result = note_lack (call, iscsi_errno_of (task));
    return ISCSI_VERDICT_DONE;
  }
}

IscsiVerdict
iscsi_request_judge (IscsiCall *call, int status, const struct scsi_task *task, int *result)
{
  const bool moves =
      call->request && (call->request->op == TN_REQUEST_READ || call->request->op == TN_REQUEST_WRITE);
  *result = 0;
  switch (status) {
  case SCSI_STATUS_GOOD:
    if (moves && task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL)
      *result = -EIO; /* less than was asked has been moved */
    return ISCSI_VERDICT_DONE;
  case SCSI_STATUS_CHECK_CONDITION:
    return judge_sense (call, task, result);
  case SCSI_STATUS_BUSY:
  case SCSI_STATUS_TASK_SET_FULL:
  case SCSI_STATUS_TASK_ABORTED:
    return ISCSI_VERDICT_AGAIN;
  case SCSI_STATUS_CANCELLED:
  case SCSI_STATUS_ERROR:
  case SCSI_STATUS_TIMEOUT:
    return ISCSI_VERDICT_LOST;
  case SCSI_STATUS_RESERVATION_CONFLICT:
    *result = -EBUSY;
    return ISCSI_VERDICT_DONE;
  default:
    *result = -EIO;
    return ISCSI_VERDICT_DONE;
  }
}
