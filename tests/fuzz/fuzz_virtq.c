/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hostile guest: the input is laid over guest memory, so that it decides every ring field and descriptor.
 */
#include "machine/virtq.h"

#define RAM_SIZE 0x8000u
#define QUEUE_SIZE 16

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
fuzz_serve (TnVirtq *queue, unsigned budget)
{
  const char *fault;
  TnVirtqRequest *held[QUEUE_SIZE];
  unsigned n = 0;

  while (budget-- > 0 && n < QUEUE_SIZE) {
    TnVirtqRequest *request = tn_virtq_take (queue, &fault);
    if (request == NULL)
      break;
    /* Touch all that a device may touch. */
    uint8_t header[16];
    struct iovec *out = request->out;
    uint16_t n_out = request->n_out;
    tn_iov_take (&out, &n_out, header, sizeof header);
    for (unsigned i = 0; i < request->n_in; i++)
      if (request->in[i].iov_len > 0)
        ((volatile uint8_t *) request->in[i].iov_base)[request->in[i].iov_len - 1] = 0;
    held[n++] = request;
  }
  while (n > 0)
    tn_virtq_complete (queue, held[--n], 17);
  tn_virtq_wants_interrupt (queue);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size < 8)
    return 0;
  TnSpace *space = tn_space_new ("fuzz");
  tn_space_add_ram (space, "ram", 0, RAM_SIZE, NULL);
  tn_space_dma_write (space, 0, data + 8, MIN (size - 8, RAM_SIZE));

  TnVirtq queue = { .max = QUEUE_SIZE, .event_index = data[0] & 1, .indirect_allowed = (data[0] & 2) != 0 };
  uint16_t rings = tn_load_le16 (data + 2);
  if (tn_virtq_enable (&queue, space, 1u << (data[1] & 7), (uint64_t) (rings & 31) * 512,
                       (uint64_t) (rings >> 5 & 31) * 512, (uint64_t) (rings >> 10 & 31) * 512))
    for (unsigned round = 0; round < 4; round++) {
      fuzz_serve (&queue, 64);
      tn_space_dma_write (space, (uint64_t) data[4 + round] * 16, data + 8, MIN (size - 8, 64));
    }
  tn_virtq_destroy (&queue);
  tn_space_free (space);
  return 0;
}
