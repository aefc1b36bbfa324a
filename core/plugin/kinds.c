/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/kinds.h"

#include <tenon/cipher.h>
#include <tenon/codec.h>
#include <tenon/cpu.h>
#include <tenon/device.h>
#include <tenon/export.h>
#include <tenon/format.h>
#include <tenon/protocol.h>
#include <tenon/tls.h>

#define NAME_MAX_LENGTH 63

static const TnKindInfo kinds[] = {
  { TN_KIND_FORMAT, "format", TN_FORMAT_MAJOR, TN_FORMAT_MINOR, sizeof (TnFormatOps) },
  { TN_KIND_PROTOCOL, "protocol", TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR, sizeof (TnProtocolOps) },
  { TN_KIND_EXPORT, "export", TN_EXPORT_MAJOR, TN_EXPORT_MINOR, sizeof (TnExportOps) },
  { TN_KIND_DEVICE, "device", TN_DEVICE_MAJOR, TN_DEVICE_MINOR, sizeof (TnDeviceOps) },
  { TN_KIND_CPU, "cpu", TN_CPU_MAJOR, TN_CPU_MINOR, sizeof (TnCpuOps) },
  { TN_KIND_CODEC, "codec", TN_CODEC_MAJOR, TN_CODEC_MINOR, sizeof (TnCodecOps) },
  { TN_KIND_CIPHER, "cipher", TN_CIPHER_MAJOR, TN_CIPHER_MINOR, sizeof (TnCipherOps) },
  { TN_KIND_DIGEST, "digest", TN_DIGEST_MAJOR, TN_DIGEST_MINOR, sizeof (TnDigestOps) },
  { TN_KIND_KDF, "kdf", TN_KDF_MAJOR, TN_KDF_MINOR, sizeof (TnKdfOps) },
  { TN_KIND_TLS, "tls", TN_TLS_MAJOR, TN_TLS_MINOR, sizeof (TnTlsOps) },
};

const TnKindInfo *
tn_kind_info (unsigned kind)
{
  for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++) {
    if (kinds[i].kind == kind)
      return &kinds[i];
  }
  return NULL;
}

const TnKindInfo *
tn_kind_by_name (const char *name, size_t length)
{
  for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++) {
    if (strlen (kinds[i].name) == length && memcmp (kinds[i].name, name, length) == 0)
      return &kinds[i];
  }
  return NULL;
}

const char *
tn_kind_name (unsigned kind)
{
  const TnKindInfo *info = tn_kind_info (kind);
  return info ? info->name : "class of unknown kind";
}

bool
tn_name_is_valid (const char *name)
{
  size_t length = 0;
  for (; name[length]; length++) {
    bool inner = length > 0 && strchr ("._+-", name[length]);
    if (!g_ascii_isalnum (name[length]) && !inner)
      return false;
    if (length >= NAME_MAX_LENGTH)
      return false;
  }
  return length > 0;
}
