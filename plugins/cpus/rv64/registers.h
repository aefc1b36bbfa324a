/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef RV64_REGISTERS_H
#define RV64_REGISTERS_H

#include "rv64.h"

extern const TnRegister rv_registers[];
int rv_get_register (RvHart *hart, unsigned id, uint64_t *value);
int rv_set_register (RvHart *hart, unsigned id, uint64_t value);

#endif
