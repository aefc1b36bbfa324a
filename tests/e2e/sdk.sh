#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a third party does: installs the SDK, builds plugins with nothing but pkg-config, and uses them with the
# binaries that were installed.  Then what it does wrong, and what Tenon says to that.
# shellcheck disable=SC2086

build=${TN_BUILD_DIR:?}
source=${TN_SRC_DIR:?}
temp=$(mktemp -d "${TMPDIR:-/tmp}/tenon-sdk-XXXXXX") || exit 99
trap 'rm -rf "$temp"' EXIT
unset TENON_PLUGIN_PATH TENON_PLUGINS TENON_BOARD_PATH MAKEFLAGS MFLAGS MAKELEVEL
umask 022
count=0
failures=0

ok () { count=$((count + 1)); echo "ok $count - $1"; }
not_ok () { count=$((count + 1)); failures=$((failures + 1)); echo "not ok $count - $1"; sed 's/^/# /' "$temp/log"; }
skip () { count=$((count + 1)); echo "ok $count - $1 # SKIP $2"; }

# expect NAME COMMAND...: the command must succeed.
expect () { name=$1; shift; if "$@" > "$temp/log" 2>&1; then ok "$name"; else not_ok "$name"; fi; }

# refuse NAME WORDS COMMAND...: the command must fail with one line that has all of the |-separated words.
refuse () {
  name=$1; words=$2; shift 2
  if "$@" > "$temp/out" 2> "$temp/log"; then not_ok "$name"; return; fi
  [ "$(wc -l < "$temp/log")" -eq 1 ] || { not_ok "$name (more than one line)"; return; }
  old=$IFS; IFS='|'
  for word in $words; do
    grep -qF -- "$word" "$temp/log" || { IFS=$old; not_ok "$name (no '$word')"; return; }
  done
  IFS=$old
  ok "$name"
}

case $(sed -n 's/^enable_sanitizers = //p' "$build/Makefile") in
no|'') ;;
*) echo "1..0 # SKIP objects built with sanitizers cannot be linked by an unsuspecting third party"; exit 0;;
esac

# ---- Installing --------------------------------------------------------------------------------------------

if ! make -C "$build" install DESTDIR="$temp/root" > "$temp/log" 2>&1; then
  echo "1..1"; not_ok "the SDK can be installed"; exit 1
fi
ok "the SDK can be installed"
pc=$(find "$temp/root" -name tenon-sdk.pc)
prefix=$temp/root$(sed -n 's/^prefix=//p' "$pc")
# The prefix is a folder of ours; everything else is as installed.
sed "s|^prefix=.*|prefix=$prefix|" "$pc" > "$temp/tenon-sdk.pc"
PKG_CONFIG_PATH=$temp${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
LD_LIBRARY_PATH=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH pkg-config --variable=libdir tenon-sdk)
export PKG_CONFIG_PATH LD_LIBRARY_PATH
plugins=$(pkg-config --variable=plugindir tenon-sdk)
bin=$prefix/bin
tool=$bin/tenon-plugin

# ---- Exported symbols -----------------------------------------------------------------------------------------

sed -n 's/^TN_API.*[ *]\(tn_[a-z0-9_]*\) (.*/\1/p' "$prefix"/include/tenon/*.h | sort -u > "$temp/declared"
nm -D --defined-only "$LD_LIBRARY_PATH/libtenon.so.0" | awk '$2 != "A" { sub (/@.*/, "", $3); print $3 }' | sort -u > "$temp/exported"
expect "libtenon exports nothing but what the headers declare" sh -c "! comm -13 '$temp/declared' '$temp/exported' | grep ."
expect "libtenon exports all that the headers declare" sh -c "! comm -23 '$temp/declared' '$temp/exported' | grep ."
for object in "$plugins"/*.so; do
  nm -D --defined-only "$object" | awk -v file="$object" '{ n++ } END { if (n != 1) { print file ": " n; exit 1 } }' || echo
done > "$temp/log" 2>&1
if [ -s "$temp/log" ]; then not_ok "each plugin exports one symbol"; else ok "each plugin exports one symbol"; fi
expect "our own plugins pass tenon-plugin check" "$tool" check "$plugins"/*.so
expect "the installed tool lists the installed plugins" sh -c "'$tool' list --output=json | grep -q '\"path\": \"$plugins/'"

# ---- Examples --------------------------------------------------------------------------------------------------

mkdir "$temp/plugins"
for kind in format protocol device cpu codec; do
  cp -r "$source/sdk/examples/$kind" "$temp/$kind"
  expect "the $kind example builds with pkg-config alone" make -C "$temp/$kind" CFLAGS="-O1 -Wall -Wextra -Werror -Wno-unused-parameter"
  expect "the $kind example passes tenon-plugin check" make -C "$temp/$kind" check
  cp "$temp/$kind/$kind-example.so" "$temp/$kind/$kind-example.tenon" "$temp/plugins/"
done
cp -r "$source/sdk/examples/lz4" "$temp/lz4"
expect "the large format example builds with pkg-config alone" make -C "$temp/lz4" CFLAGS="-O1 -Wall -Wextra -Werror -Wno-unused-parameter"
expect "the large format example passes tenon-plugin check" make -C "$temp/lz4" check
TENON_PLUGIN_PATH=$temp/plugins
export TENON_PLUGIN_PATH

expect "a program builds with pkg-config alone" \
  sh -c "${CC:-cc} -o '$temp/embed' '$source/tests/e2e/sdk/embed.c' \$(pkg-config --cflags --libs tenon-sdk)"
expect "it uses the out-of-tree format and codec" "$temp/embed" "$temp/one.img"
# Under a name of its own, since the format is called example, too.
expect "a protocol is begun and built" sh -c "'$tool' new protocol plain '$temp/plain' && make -C '$temp/plain'"
cp "$temp/plain/protocol-plain.so" "$temp/plain/protocol-plain.tenon" "$temp/plugins/"
expect "it uses the out-of-tree protocol, too" "$temp/embed" "plain:$temp/two.img"
expect "both ways made the same image" cmp "$temp/one.img" "$temp/two.img"
refuse "the allow-list keeps the format out" "format 'example' is not allowed|TENON_PLUGINS" \
  env TENON_PLUGINS=file,codec-example "$temp/embed" "$temp/three.img"

if [ -x "$bin/tenon-img" ]; then
  head -c 1000000 /dev/urandom > "$temp/random.raw"
  truncate -s 5M "$temp/random.raw"
  expect "tenon-img converts to the example format" "$bin/tenon-img" convert -f raw -O example "$temp/random.raw" "$temp/random.example"
  expect "tenon-img recognises and converts it back" "$bin/tenon-img" convert -O raw "$temp/random.example" "$temp/random.back"
  expect "the data is the same" cmp "$temp/random.raw" "$temp/random.back"
  refuse "an unknown format names its package" "tenon-format-exampel|did you mean 'example'" \
    "$bin/tenon-img" info -f exampel "$temp/random.example"
else
  skip "tenon-img uses the examples" "tenon-img is not built"
fi

# word OPERATION A B N: one instruction of the CPU example.
word () {
  printf "\\$(printf %03o "$1")\\$(printf %03o $(($2 | $3 << 4)))\\$(printf %03o $(($4 & 255)))\\$(printf %03o $(($4 >> 8 & 255)))"
}
# Reads the counter three times, prints what it said last as a digit, and ends with status 7.
{ word 1 1 0 16384; word 3 2 1 0; word 3 2 1 0; word 3 2 1 0; word 1 3 0 48; word 2 3 2 0; word 5 3 0 0
  word 1 3 0 10; word 5 3 0 0; word 0 0 0 7; } > "$temp/program"
"$bin/tenon" -M "$source/tests/e2e/sdk/toy.board" -nographic -bios "$temp/program" < /dev/null > "$temp/console" 2> "$temp/log"
status=$?
tr -d '\r' < "$temp/console" >> "$temp/log"
if [ $status -eq 7 ] && grep -qx 2 "$temp/log"; then ok "tenon runs the CPU and the device"; else not_ok "tenon runs the CPU and the device (status $status)"; fi

# ---- Beginning a plugin ------------------------------------------------------------------------------------------

for kind in format protocol device cpu codec; do
  expect "tenon-plugin new $kind" "$tool" new "$kind" acme-2 "$temp/new-$kind"
  expect "the new $kind builds and passes its check" make -C "$temp/new-$kind" check
done
refuse "new overwrites nothing" "File exists" "$tool" new cpu acme-2 "$temp/new-cpu"
refuse "new wants a sensible name" "'../x'" "$tool" new cpu ../x "$temp/x"

# ---- Other versions -------------------------------------------------------------------------------------------------

# variant NAME SED-SCRIPT...: builds the format example against headers changed by the script.
variant () {
  folder=$temp/variant-$1
  mkdir -p "$folder/include/tenon"
  for header in "$prefix"/include/tenon/*.h; do sed "$2" "$header" > "$folder/include/tenon/${header##*/}"; done
  ${CC:-cc} -std=gnu11 -fPIC -fvisibility=hidden -shared -I"$folder/include" $(pkg-config --cflags glib-2.0) \
    -o "$folder/format-example.so" "${3:-$source/sdk/examples/format/example.c}" > "$temp/log" 2>&1 || not_ok "variant $1 builds"
}
# use_variant NAME: a folder with that plugin in it that the embedding program uses.
use_variant () {
  "$tool" manifest "$folder/format-example.so" > "$folder/format-example.tenon" || return 1
  cp "$temp/plugins"/codec-* "$folder"
  TENON_PLUGIN_PATH=$folder "$temp/embed" "$folder/disk.img"
}

# An SDK of long ago: neither the last callbacks nor the last fields of options existed.
variant older '/\*make_empty) (/,/\*reopen) (/d; /^  const char \*const \*choices; /d; /^  const char \*const \*requires_codecs; /!b'
expect "the cut header is really shorter" grep -q 'TnFormatOps' "$folder/include/tenon/format.h"
expect "the cut header lacks later callbacks" sh -c "! grep -q 'reopen' '$folder/include/tenon/format.h'"
expect "a plugin of an older minor loads and works" use_variant
# One of the future: more callbacks, more fields, a higher minor.
variant newer 's/^#define TN_ABI_MINOR .*/#define TN_ABI_MINOR 9/; s/^#define TN_FORMAT_MINOR .*/#define TN_FORMAT_MINOR 9/
  s/^} TnFormatOps;/  void *later[7];\n} TnFormatOps;/; s/^} TnOption;/  const char *later;\n  uint64_t more;\n} TnOption;/
  s/^} TnMagic;/  uint64_t later;\n} TnMagic;/
  s/^  const void \*ops; .*/  const void *ops;\n  uint64_t later[2];/'
expect "a plugin of a newer minor loads and works" use_variant

variant major 's/^#define TN_ABI_MAJOR .*/#define TN_ABI_MAJOR 2/'
refuse "another ABI major" "$folder/format-example.so|ABI 2.0|this Tenon has ABI 1.0|install a newer Tenon" "$tool" manifest "$folder/format-example.so"
variant kind-major 's/^#define TN_FORMAT_MAJOR .*/#define TN_FORMAT_MAJOR 3/'
refuse "another major of the kind" "version 3.0 of the format interface|this Tenon has 1.0|install" "$tool" manifest "$folder/format-example.so"
variant magic 's/^#define TN_PLUGIN_MAGIC .*/#define TN_PLUGIN_MAGIC 0x12345678u/'
refuse "a wrong magic" "$folder/format-example.so|0x12345678|wanted 0x4e4e4554" "$tool" manifest "$folder/format-example.so"
variant size 's/\.size = sizeof (TnPlugin)/.size = 12/'
refuse "a wrong size" "$folder/format-example.so|size 12|wanted" "$tool" manifest "$folder/format-example.so"
variant kind 's/TN_KIND_FORMAT = 1/TN_KIND_FORMAT = 77/'
refuse "a wrong kind" "$folder/format-example.so|kind 77|wanted 1 to 10" "$tool" manifest "$folder/format-example.so"

# A function of a later SDK that this libtenon lacks: reported when loading, not by a crash when it is called.
sed 's/tn_node_flush (/tn_node_flush_later (/' "$source/sdk/examples/format/example.c" > "$temp/later.c"
variant later 's/^TN_API int tn_node_flush (.*/&\nTN_API int tn_node_flush_later (TnNode *node, GError **error);/' "$temp/later.c"
refuse "a function that is missing" "format-example.so|tn_node_flush_later" "$tool" manifest "$folder/format-example.so"
expect "check names the missing function" sh -c "'$tool' check '$folder/format-example.so' | grep 'FAILED.*tn_node_flush_later.*newer Tenon'"

# Symbols beside the descriptor.
variant visible 's/^/&/'
cp "$source/sdk/examples/format/example.c" "$temp/visible.c"
echo 'int acme_helper (void); __attribute__ ((visibility ("default"))) int acme_helper (void) { return 1; }' >> "$temp/visible.c"
variant visible 's/^/&/' "$temp/visible.c"
expect "check names a stray symbol" sh -c "'$tool' check '$folder/format-example.so' | grep \"FAILED.*'acme_helper'\""
expect "check names a missing manifest" sh -c "'$tool' check '$folder/format-example.so' | grep 'FAILED.*manifest'"
refuse "an object that is no plugin" "is not a Tenon plugin" "$tool" manifest "$LD_LIBRARY_PATH/libtenon.so"

# Truncated and damaged objects never crash the checker.
crashed=0
size=$(wc -c < "$folder/format-example.so")
for step in 1 2 3 4 5 6 7 8 9; do
  head -c $((size * step / 10)) "$folder/format-example.so" > "$temp/format-cut.so"
  "$tool" check "$temp/format-cut.so" > "$temp/log" 2>&1
  [ $? -eq 1 ] || crashed=1
done
if [ $crashed -eq 0 ]; then ok "cut objects are reported"; else not_ok "cut objects are reported"; fi

echo "1..$count"
[ "$failures" -eq 0 ]
