/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Board files from a hostile hand. */
#include "machine/board.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (TnBoard) board = NULL;
  g_autoptr (GError) error = NULL;
  tn_board_parse ("fuzz.board", (const char *) data, size, &board, &error);
  return 0;
}
