/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugins that are linked in (configure --enable-static-plugins): a table in the form that libltdl
 * preloads, made by core/plugin/static-table.awk. */
#ifndef TN_PLUGIN_STATIC_H
#define TN_PLUGIN_STATIC_H

#include <ltdl.h>

extern const lt_dlsymlist tn_static_symbols[];

#endif
