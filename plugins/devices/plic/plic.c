/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RISC-V Platform-Level Interrupt Controller (RISC-V PLIC specification 1.0.0).
 *
 *   0x000000 + 4 × source            priority
 *   0x001000 + 4 × word              pending bits
 *   0x002000 + 0x80 × context        enable bits
 *   0x200000 + 0x1000 × context      threshold; + 4: claim and complete
 *
 * Inputs are levels.  An input is pending while it is high and nobody has claimed it.  Output number n is
 * context n: the board says which contexts a hart has, and what they interrupt. */
#include <tenon/device.h>
#include <tenon/plugin.h>

#define PLIC_PENDING 0x1000
#define PLIC_ENABLE 0x2000
#define PLIC_ENABLE_STRIDE 0x80
#define PLIC_CONTEXT 0x200000
#define PLIC_CONTEXT_STRIDE 0x1000
#define PLIC_SIZE 0x600000
#define PLIC_MAX_SOURCES 1023
#define PLIC_MAX_CONTEXTS ((PLIC_SIZE - PLIC_CONTEXT) / PLIC_CONTEXT_STRIDE)
#define PLIC_PRIORITIES 7
#define WORDS ((PLIC_MAX_SOURCES + 1 + 31) / 32)

typedef struct PlicContext {
  uint32_t enable[WORDS];
  uint32_t threshold;
} PlicContext;

typedef struct Plic {
  TnDevice *device;
  unsigned n_sources, n_contexts;
  uint32_t level[WORDS];   /* inputs that are high */
  uint32_t claimed[WORDS]; /* being served */
  uint8_t priority[PLIC_MAX_SOURCES + 1];
  PlicContext *contexts;
} Plic;

static const TnStateField plic_fields[] = {
  { "level", offsetof (Plic, level), TN_STATE_U32, 1, WORDS, 0 },
  { "claimed", offsetof (Plic, claimed), TN_STATE_U32, 1, WORDS, 0 },
  { "priority", offsetof (Plic, priority), TN_STATE_BYTES, 1, PLIC_MAX_SOURCES + 1, 0 },
  { .name = NULL },
};

static uint32_t
plic_pending (const Plic *plic, unsigned word)
{
  return plic->level[word] & ~plic->claimed[word];
}

/* The enabled pending source of highest priority, the lowest number among equals; 0: none. */
static unsigned
plic_best (const Plic *plic, const PlicContext *context, unsigned above)
{
  unsigned best = 0, best_priority = above;
  for (unsigned word = 0; word <= plic->n_sources / 32; word++) {
    uint32_t bits = plic_pending (plic, word) & context->enable[word];
    for (; bits != 0; bits &= bits - 1) {
      const unsigned source = word * 32 + (unsigned) __builtin_ctz (bits);
      if (plic->priority[source] > best_priority) {
        best = source;
        best_priority = plic->priority[source];
      }
    }
  }
  return best;
}

/* The caller holds the lock. */
static void
plic_update (Plic *plic)
{
  for (unsigned i = 0; i < plic->n_contexts; i++) {
    const PlicContext *context = &plic->contexts[i];
    tn_irq_set (tn_device_irq (plic->device, i), plic_best (plic, context, context->threshold) != 0);
  }
}

static void
plic_set_input (void *opaque, unsigned number, bool level)
{
  Plic *plic = opaque;
  if (number == 0 || number > plic->n_sources)
    return;
  tn_device_lock (plic->device);
  if (level)
    plic->level[number / 32] |= 1u << number % 32;
  else
    plic->level[number / 32] &= ~(1u << number % 32);
  plic_update (plic);
  tn_device_unlock (plic->device);
}

/* ---- Registers ---- */

/* Claiming ignores the threshold, as the specification has it. */
static uint32_t
plic_claim (Plic *plic, PlicContext *context)
{
  const unsigned source = plic_best (plic, context, 0);
  if (source != 0) {
    plic->claimed[source / 32] |= 1u << source % 32;
    plic_update (plic);
  }
  return source;
}

static void
plic_complete (Plic *plic, PlicContext *context, uint64_t source)
{
  if (source == 0 || source > plic->n_sources || !(context->enable[source / 32] & 1u << source % 32))
    return;
  plic->claimed[source / 32] &= ~(1u << source % 32);
  plic_update (plic);
}

static uint64_t
plic_read_context (Plic *plic, uint64_t offset)
{
  const uint64_t index = offset / PLIC_CONTEXT_STRIDE;
  if (index >= plic->n_contexts)
    return 0;
  PlicContext *context = &plic->contexts[index];
  switch (offset % PLIC_CONTEXT_STRIDE) {
  case 0:
    return context->threshold;
  case 4:
    return plic_claim (plic, context);
  default:
    return 0;
  }
}

static uint64_t
plic_read_locked (Plic *plic, uint64_t offset)
{
  const unsigned words = plic->n_sources / 32 + 1;
  if (offset < PLIC_PENDING)
    return offset / 4 <= plic->n_sources ? plic->priority[offset / 4] : 0;
  if (offset < PLIC_ENABLE)
    return (offset - PLIC_PENDING) / 4 < words ? plic_pending (plic, (unsigned) (offset - PLIC_PENDING) / 4)
                                               : 0;
  if (offset < PLIC_CONTEXT) {
    const uint64_t index = (offset - PLIC_ENABLE) / PLIC_ENABLE_STRIDE;
    const uint64_t word = offset % PLIC_ENABLE_STRIDE / 4;
    return index < plic->n_contexts && word < words ? plic->contexts[index].enable[word] : 0;
  }
  return plic_read_context (plic, offset - PLIC_CONTEXT);
}

static uint64_t
plic_read (void *opaque, uint64_t offset, unsigned bytes)
{
  Plic *plic = opaque;
  tn_device_lock (plic->device);
  uint64_t value = plic_read_locked (plic, offset);
  tn_device_unlock (plic->device);
  return value;
}

/* Bits of sources that exist: neither 0 nor beyond the last. */
static uint32_t
plic_valid_bits (const Plic *plic, uint64_t word)
{
  uint32_t bits = UINT32_MAX;
  if (word == 0)
    bits &= ~1u;
  if (word == plic->n_sources / 32 && plic->n_sources % 32 != 31)
    bits &= (1u << (plic->n_sources % 32 + 1)) - 1;
  return bits;
}

static void
plic_write_enable (Plic *plic, uint64_t offset, uint32_t value)
{
  const uint64_t index = offset / PLIC_ENABLE_STRIDE;
  const uint64_t word = offset % PLIC_ENABLE_STRIDE / 4;
  if (index < plic->n_contexts && word <= plic->n_sources / 32)
    plic->contexts[index].enable[word] = value & plic_valid_bits (plic, word);
}

static void
plic_write_context (Plic *plic, uint64_t offset, uint64_t value)
{
  const uint64_t index = offset / PLIC_CONTEXT_STRIDE;
  if (index >= plic->n_contexts)
    return;
  PlicContext *context = &plic->contexts[index];
  if (offset % PLIC_CONTEXT_STRIDE == 0)
    context->threshold = value & PLIC_PRIORITIES;
  else if (offset % PLIC_CONTEXT_STRIDE == 4)
    plic_complete (plic, context, (uint32_t) value);
}

static void
plic_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  Plic *plic = opaque;
  tn_device_lock (plic->device);
  if (offset < PLIC_PENDING) {
    const uint64_t source = offset / 4;
    if (source > 0 && source <= plic->n_sources)
      plic->priority[source] = value & PLIC_PRIORITIES;
  } else if (offset >= PLIC_CONTEXT) {
    plic_write_context (plic, offset - PLIC_CONTEXT, value);
  } else if (offset >= PLIC_ENABLE) {
    plic_write_enable (plic, offset - PLIC_ENABLE, (uint32_t) value);
  }
  plic_update (plic);
  tn_device_unlock (plic->device);
}

/* ---- Class ---- */

static int
plic_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnMmioOps registers = {
    .size = sizeof registers, .min_access = 4, .max_access = 4, .read = plic_read, .write = plic_write
  };
  Plic *plic = tn_device_state (device);
  plic->device = device;
  plic->n_sources = (unsigned) tn_options_uint (options, "sources");
  const uint64_t contexts = tn_options_uint (options, "contexts-per-hart") * tn_device_cpu_count (device);
  if (contexts > PLIC_MAX_CONTEXTS)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "device '%s' has at most %d contexts, use fewer CPUs",
                    tn_device_id (device), PLIC_MAX_CONTEXTS);
  plic->n_contexts = (unsigned) contexts;
  plic->contexts = g_new0 (PlicContext, contexts);
  tn_device_add_irq_inputs (device, plic->n_sources + 1, plic_set_input, plic);
  return tn_device_add_mmio (device, 0, PLIC_SIZE, &registers, plic, error);
}

static void
plic_unrealize (TnDevice *device)
{
  Plic *plic = tn_device_state (device);
  g_free (plic->contexts);
}

/* Inputs stay as their devices drive them. */
static void
plic_reset (TnDevice *device)
{
  Plic *plic = tn_device_state (device);
  memset (plic->claimed, 0, sizeof plic->claimed);
  memset (plic->priority, 0, sizeof plic->priority);
  memset (plic->contexts, 0, plic->n_contexts * sizeof *plic->contexts);
  plic_update (plic);
}

static int
plic_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  static const char *const compatible[] = { "sifive,plic-1.0.0", "riscv,plic0" };
  Plic *plic = tn_device_state (device);
  tn_fdt_strings (fdt, "compatible", compatible, G_N_ELEMENTS (compatible));
  tn_fdt_u32 (fdt, "riscv,ndev", plic->n_sources);
  tn_fdt_empty (fdt, "interrupt-controller");
  tn_fdt_u32 (fdt, "#interrupt-cells", 1);
  tn_fdt_u32 (fdt, "#address-cells", 0);
  return 0;
}

static const TnOption plic_options[] = {
  { .name = "sources",
    .type = TN_OPTION_UINT,
    .value = "96",
    .min = 1,
    .max = PLIC_MAX_SOURCES,
    .help = "number of interrupt inputs" },
  { .name = "contexts-per-hart",
    .type = TN_OPTION_UINT,
    .value = "2",
    .min = 1,
    .max = 4,
    .help = "privilege levels of a hart that take interrupts" },
  { .name = NULL },
};

static const TnDeviceOps plic_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (Plic),
  .bus = "system",
  .realize = plic_realize,
  .unrealize = plic_unrealize,
  .reset = plic_reset,
  .fdt = plic_fdt,
  .state_version = 1,
  .state = plic_fields,
};

static const TnClass plic_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "plic",
  .summary = "RISC-V platform-level interrupt controller",
  .options = plic_options,
  .ops = &plic_ops,
};

static const TnClass *const plic_classes[] = { &plic_class, NULL };

TN_PLUGIN_DEFINE (device_plic, .name = "device-plic", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-device-plic", .security = TN_SECURITY_HARDENED, .classes = plic_classes);
