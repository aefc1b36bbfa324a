/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Floating-point instructions other than loads and stores. */
#include "rv64.h"

RvHelper *
rv_fpu_helper (uint32_t word)
{
  return NULL;
}
