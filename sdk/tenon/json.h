/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/json.h
 * Writing JSON, for tools and for drivers' info.
 */
#ifndef TENON_JSON_H
#define TENON_JSON_H

#include <tenon/error.h>

#endif
