/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire.h"

typedef struct NbdError {
  uint32_t number;
  int errnum;
} NbdError;

static const NbdError errors[] = {
  { 1, EPERM },   { 5, EIO },        { 12, ENOMEM },     { 22, EINVAL },
  { 28, ENOSPC }, { 75, EOVERFLOW }, { 95, EOPNOTSUPP }, { 108, ESHUTDOWN },
};

uint32_t
nbd_error_from_errno (int errnum)
{
  if (errnum == EROFS || errnum == EACCES)
    errnum = EPERM;
  if (errnum == EFBIG || errnum == EDQUOT)
    errnum = ENOSPC;
  for (unsigned i = 0; i < G_N_ELEMENTS (errors); i++)
    if (errors[i].errnum == errnum)
      return errors[i].number;
  return errnum == 0 ? 0 : 5;
}

int
nbd_error_to_errno (uint32_t error)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (errors); i++)
    if (errors[i].number == error)
      return errors[i].errnum;
  return EINVAL;
}
