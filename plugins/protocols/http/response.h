/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the lines of a reply say about the file: its size, which part of it follows, which version of it.
 * Everything here comes from the server, one line at a time, in any order and of any contents.
 */
#ifndef HTTP_RESPONSE_H
#define HTTP_RESPONSE_H

#include <tenon/error.h>

typedef struct HttpResponse {
  unsigned status; /* 0: none yet */
  bool malformed;
  bool encoded;    /* compressed on the way: ranges would be of something else */
  bool has_length; /* Content-Length; FTP: the reply to SIZE */
  bool has_range;
  uint64_t length;
  uint64_t first, last; /* Content-Range; last < first: `bytes * / total`, nothing follows */
  uint64_t total;
  char *etag, *modified;
} HttpResponse;

void http_response_reset (HttpResponse *response);
/* @line as libcurl hands it over, with or without its end. */
void http_response_line (HttpResponse *response, const char *line, size_t length);
void http_response_ftp_line (HttpResponse *response, const char *line, size_t length);

#endif
