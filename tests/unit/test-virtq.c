/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Split virtqueues against a guest written here, well-behaved and hostile. */
#include "machine/virtq.h"

#define RAM_BASE 0x80000000ull
#define RAM_SIZE (1u << 20)
#define DESCRIPTORS (RAM_BASE + 0x1000)
#define AVAILABLE (RAM_BASE + 0x2000)
#define USED (RAM_BASE + 0x3000)
#define INDIRECT (RAM_BASE + 0x4000)
#define BUFFERS (RAM_BASE + 0x10000)
#define SIZE 8

enum { NEXT = 1, WRITE = 2, INDIRECT_FLAG = 4 };

typedef struct Fixture {
  TnSpace *space;
  TnVirtq queue;
  uint16_t available;
} Fixture;

static void
put (Fixture *f, uint64_t address, unsigned bytes, uint64_t value)
{
  uint8_t raw[8];
  tn_store_le64 (raw, value);
  g_assert_cmpint (tn_space_dma_write (f->space, address, raw, bytes), ==, TN_BUS_OK);
}

static uint64_t
get (Fixture *f, uint64_t address, unsigned bytes)
{
  uint8_t raw[8] = { 0 };
  g_assert_cmpint (tn_space_dma_read (f->space, address, raw, bytes), ==, TN_BUS_OK);
  return tn_load_le64 (raw);
}

static void
describe (Fixture *f, uint64_t table, unsigned index, uint64_t address, uint32_t length, unsigned flags,
          unsigned next)
{
  uint64_t at = table + 16 * index;
  put (f, at, 8, address);
  put (f, at + 8, 4, length);
  put (f, at + 12, 2, flags);
  put (f, at + 14, 2, next);
}

static void
offer (Fixture *f, uint16_t head)
{
  put (f, AVAILABLE + 4 + 2 * (f->available % SIZE), 2, head);
  f->available++;
  put (f, AVAILABLE + 2, 2, f->available);
}

static void
set_up (Fixture *f, gconstpointer data)
{
  GError *error = NULL;
  f->space = tn_space_new ("test");
  g_assert_cmpint (tn_space_add_ram (f->space, "ram", RAM_BASE, RAM_SIZE, &error), ==, 0);
  g_assert_no_error (error);
  f->queue.max = SIZE;
  f->queue.indirect_allowed = true;
  g_assert_true (tn_virtq_enable (&f->queue, f->space, SIZE, DESCRIPTORS, AVAILABLE, USED));
}

static void
tear_down (Fixture *f, gconstpointer data)
{
  tn_virtq_destroy (&f->queue);
  tn_space_free (f->space);
}

static void
assert_broken (Fixture *f, const char *why)
{
  const char *fault = NULL;
  g_assert_null (tn_virtq_take (&f->queue, &fault));
  g_assert_nonnull (fault);
  g_assert_nonnull (strstr (fault, why));
  g_assert_cmpuint (f->queue.in_flight, ==, 0);
}

static void
test_chain (Fixture *f, gconstpointer data)
{
  const char *fault;
  describe (f, DESCRIPTORS, 3, BUFFERS, 16, NEXT, 5);
  describe (f, DESCRIPTORS, 5, BUFFERS + 100, 512, NEXT | WRITE, 1);
  describe (f, DESCRIPTORS, 1, BUFFERS + 1000, 1, WRITE, 0);
  offer (f, 3);

  TnVirtqRequest *request = tn_virtq_take (&f->queue, &fault);
  g_assert_nonnull (request);
  g_assert_cmpuint (request->head, ==, 3);
  g_assert_cmpuint (request->n_out, ==, 1);
  g_assert_cmpuint (request->n_in, ==, 2);
  g_assert_cmpuint (request->out_length, ==, 16);
  g_assert_cmpuint (request->in_length, ==, 513);

  tn_virtq_complete (&f->queue, request, 513);
  g_assert_cmpuint (get (f, USED + 2, 2), ==, 1);
  g_assert_cmpuint (get (f, USED + 4, 4), ==, 3);
  g_assert_cmpuint (get (f, USED + 8, 4), ==, 513);
  g_assert_null (tn_virtq_take (&f->queue, &fault));
  g_assert_null (fault);
}

static void
test_many_rounds_out_of_order (Fixture *f, gconstpointer data)
{
  const char *fault;
  for (unsigned i = 0; i < SIZE; i++)
    describe (f, DESCRIPTORS, i, BUFFERS + 64 * i, 64, WRITE, 0);

  /* Enough rounds for the 16-bit indices to wrap. */
  for (unsigned round = 0; round < 70000 / SIZE + 8; round++) {
    TnVirtqRequest *requests[SIZE];
    for (unsigned i = 0; i < SIZE; i++)
      offer (f, i);
    for (unsigned i = 0; i < SIZE; i++) {
      requests[i] = tn_virtq_take (&f->queue, &fault);
      g_assert_nonnull (requests[i]);
    }
    for (unsigned i = SIZE; i-- > 0;)
      tn_virtq_complete (&f->queue, requests[i], i);
  }
  g_assert_cmpuint (get (f, USED + 2, 2), ==, f->available);
}

static void
test_indirect (Fixture *f, gconstpointer data)
{
  const char *fault;
  describe (f, INDIRECT, 0, BUFFERS, 16, NEXT, 2);
  describe (f, INDIRECT, 2, BUFFERS + 4096, 4096, WRITE, 0);
  describe (f, DESCRIPTORS, 0, INDIRECT, 48, INDIRECT_FLAG, 0);
  offer (f, 0);
  TnVirtqRequest *request = tn_virtq_take (&f->queue, &fault);
  g_assert_nonnull (request);
  g_assert_cmpuint (request->n_out, ==, 1);
  g_assert_cmpuint (request->in_length, ==, 4096);
  tn_virtq_complete (&f->queue, request, 0);
}

static void
test_unpop (Fixture *f, gconstpointer data)
{
  const char *fault;
  describe (f, DESCRIPTORS, 2, BUFFERS, 64, WRITE, 0);
  offer (f, 2);
  TnVirtqRequest *request = tn_virtq_take (&f->queue, &fault);
  tn_virtq_give_back (&f->queue, request);
  request = tn_virtq_take (&f->queue, &fault);
  g_assert_nonnull (request);
  g_assert_cmpuint (request->head, ==, 2);
  tn_virtq_complete (&f->queue, request, 0);
}

static void
test_interrupts (Fixture *f, gconstpointer data)
{
  const char *fault;
  bool event_index = GPOINTER_TO_INT (data);
  f->queue.event_index = event_index;
  describe (f, DESCRIPTORS, 0, BUFFERS, 64, WRITE, 0);

  for (unsigned i = 0; i < 4; i++) {
    /* Event index: interrupt when entry 2 is used.  Flags: not for the second. */
    if (event_index)
      put (f, AVAILABLE + 4 + 2 * SIZE, 2, 2);
    else
      put (f, AVAILABLE, 2, i == 1);
    offer (f, 0);
    tn_virtq_complete (&f->queue, tn_virtq_take (&f->queue, &fault), 0);
    bool wanted = tn_virtq_wants_interrupt (&f->queue);
    if (event_index)
      g_assert_true (wanted == (i == 0 || i == 2)); /* the first decision is always yes */
    else
      g_assert_true (wanted == (i != 1));
    g_assert_false (tn_virtq_wants_interrupt (&f->queue));
  }
}

static void
test_arms_the_guest (Fixture *f, gconstpointer data)
{
  const char *fault;
  describe (f, DESCRIPTORS, 0, BUFFERS, 64, WRITE, 0);
  offer (f, 0);
  TnVirtqRequest *request = tn_virtq_take (&f->queue, &fault);
  g_assert_cmpuint (get (f, USED, 2), ==, 1); /* busy: no notification needed */
  g_assert_null (tn_virtq_take (&f->queue, &fault));
  g_assert_cmpuint (get (f, USED, 2), ==, 0);
  tn_virtq_complete (&f->queue, request, 0);

  f->queue.event_index = true;
  g_assert_null (tn_virtq_take (&f->queue, &fault));
  g_assert_cmpuint (get (f, USED + 4 + 8 * SIZE, 2), ==, 1);
}

static void
test_refuses_loops (Fixture *f, gconstpointer data)
{
  describe (f, DESCRIPTORS, 0, BUFFERS, 16, NEXT, 1);
  describe (f, DESCRIPTORS, 1, BUFFERS, 16, NEXT, 0);
  offer (f, 0);
  assert_broken (f, "loop");
}

static void
test_refuses_addresses (Fixture *f, gconstpointer data)
{
  static const uint64_t addresses[] = { 0, RAM_BASE - 1, RAM_BASE + RAM_SIZE - 8, UINT64_MAX - 8 };
  for (unsigned i = 0; i < G_N_ELEMENTS (addresses); i++) {
    describe (f, DESCRIPTORS, 0, addresses[i], 64, WRITE, 0);
    offer (f, 0);
    assert_broken (f, "outside RAM");
    f->queue.last_available++;
  }
}

static void
test_refuses_order_and_indices (Fixture *f, gconstpointer data)
{
  describe (f, DESCRIPTORS, 0, BUFFERS, 16, NEXT | WRITE, 1);
  describe (f, DESCRIPTORS, 1, BUFFERS, 16, 0, 0);
  offer (f, 0);
  assert_broken (f, "follows");

  describe (f, DESCRIPTORS, 0, BUFFERS, 16, NEXT, SIZE);
  assert_broken (f, "outside its table");

  put (f, AVAILABLE + 4, 2, SIZE);
  assert_broken (f, "outside the table");

  put (f, AVAILABLE + 2, 2, SIZE + 1);
  assert_broken (f, "more requests");
}

static void
test_refuses_indirect (Fixture *f, gconstpointer data)
{
  static const uint32_t lengths[] = { 0, 15, 16 * (TN_VIRTIO_SG_MAX + 1) };
  offer (f, 0);
  for (unsigned i = 0; i < G_N_ELEMENTS (lengths); i++) {
    describe (f, DESCRIPTORS, 0, INDIRECT, lengths[i], INDIRECT_FLAG, 0);
    assert_broken (f, "wrong length");
  }
  describe (f, DESCRIPTORS, 0, INDIRECT, 16, INDIRECT_FLAG, 0);
  describe (f, INDIRECT, 0, INDIRECT, 16, INDIRECT_FLAG, 0);
  assert_broken (f, "none may");
  f->queue.indirect_allowed = false;
  assert_broken (f, "none may");
}

static void
test_refuses_rings (Fixture *f, gconstpointer data)
{
  tn_virtq_disable (&f->queue);
  g_assert_false (tn_virtq_enable (&f->queue, f->space, 3, DESCRIPTORS, AVAILABLE, USED));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, 2 * SIZE, DESCRIPTORS, AVAILABLE, USED));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, 0, DESCRIPTORS, AVAILABLE, USED));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, SIZE, DESCRIPTORS + 8, AVAILABLE, USED));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, SIZE, DESCRIPTORS, AVAILABLE + 1, USED));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, SIZE, DESCRIPTORS, AVAILABLE, USED + 2));
  g_assert_false (
      tn_virtq_enable (&f->queue, f->space, SIZE, DESCRIPTORS, AVAILABLE, RAM_BASE + RAM_SIZE - 4));
  g_assert_false (tn_virtq_enable (&f->queue, f->space, SIZE, UINT64_MAX & ~15ull, AVAILABLE, USED));
}

static void
test_iov (void)
{
  char a[4] = "abc", b[8] = "defghij", out[12] = { 0 };
  struct iovec segments[] = { { a, 3 }, { b, 0 }, { b, 7 } };
  struct iovec *iov = segments;
  uint16_t n = 3;
  g_assert_cmpuint (tn_iov_take (&iov, &n, out, 5), ==, 5);
  g_assert_cmpstr (out, ==, "abcde");
  g_assert_cmpuint (n, ==, 1);
  g_assert_cmpuint (tn_iov_fill (iov, n, "0123456789", 10), ==, 5);
  g_assert_cmpstr (b, ==, "de01234");
  g_assert_cmpuint (tn_iov_take (&iov, &n, out, 12), ==, 5);
  g_assert_cmpuint (n, ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define CASE(path, fn, data) g_test_add (path, Fixture, data, set_up, fn, tear_down)
  CASE ("/virtq/chain", test_chain, NULL);
  CASE ("/virtq/many-rounds", test_many_rounds_out_of_order, NULL);
  CASE ("/virtq/indirect", test_indirect, NULL);
  CASE ("/virtq/unpop", test_unpop, NULL);
  CASE ("/virtq/interrupts/flags", test_interrupts, GINT_TO_POINTER (false));
  CASE ("/virtq/interrupts/event-index", test_interrupts, GINT_TO_POINTER (true));
  CASE ("/virtq/arms", test_arms_the_guest, NULL);
  CASE ("/virtq/refuses/loops", test_refuses_loops, NULL);
  CASE ("/virtq/refuses/addresses", test_refuses_addresses, NULL);
  CASE ("/virtq/refuses/order", test_refuses_order_and_indices, NULL);
  CASE ("/virtq/refuses/indirect", test_refuses_indirect, NULL);
  CASE ("/virtq/refuses/rings", test_refuses_rings, NULL);
#undef CASE
  g_test_add_func ("/virtq/iov", test_iov);
  return g_test_run ();
}
