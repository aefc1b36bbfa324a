/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Valgrind's requests, which cost a few instructions outside it, or nothing without its headers. */
#ifndef TN_CORE_IO_CHECKERS_H
#define TN_CORE_IO_CHECKERS_H

#include <config.h>

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(base, top) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void) (id))
#endif

#endif
