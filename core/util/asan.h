/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TN_ASAN is defined when the address sanitizer is built in. */
#ifndef TN_UTIL_ASAN_H
#define TN_UTIL_ASAN_H

#if defined __SANITIZE_ADDRESS__
#define TN_ASAN 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define TN_ASAN 1
#endif
#endif

#ifdef TN_ASAN
#include <sanitizer/asan_interface.h>
#endif

#endif
