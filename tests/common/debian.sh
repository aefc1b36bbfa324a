# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by scripts that fetch Debian packages of another suite or architecture.
#
# The packages come from this machine's own Debian mirror: the URI and the key ring are taken from its apt sources, only
# suite and architecture differ.  All of apt's state lives below one folder, so the system's package lists
# and its list of architectures stay as they are.  The caller defines unavailable(), which ends the script.

# The archive that holds this system's main suites: the first Debian source without "-security".
debian_uri () {
  local f
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] || continue
    awk 'tolower ($1) == "uris:" && $2 !~ /security/ && $2 ~ /debian/ { print $2; exit }' "$f"
  done
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$f" ] || continue
    sed -e 's/\[[^]]*\]//' "$f" | awk '$1 == "deb" && $2 !~ /security/ && $2 ~ /debian/ { print $2; exit }'
  done
}

# debian_setup FOLDER ARCHITECTURE SUITE: prepares FOLDER/apt and reads the package lists.
debian_setup () {
  local dir=$1/apt arch=$2 suite=$3 tool uri keyring= k
  for tool in apt-get dpkg-deb awk; do
    command -v $tool >/dev/null || unavailable "$tool is missing: this needs a Debian system"
  done
  uri=$(debian_uri | head -n 1)
  [ -n "$uri" ] || unavailable "no Debian archive among this machine's apt sources"
  for k in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
    [ -f "$k" ] && keyring=$k
  done
  [ -n "$keyring" ] || unavailable "no Debian key ring: install debian-archive-keyring"

  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/etc"
  : > "$dir/status"
  printf 'deb [arch=%s signed-by=%s] %s %s main\n' "$arch" "$keyring" "$uri" "$suite" > "$dir/etc/sources.list"
  cat > "$dir/etc/apt.conf" <<CONF
Dir::Etc::SourceList "$dir/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State "$dir";
Dir::State::Lists "$dir/lists";
Dir::State::Status "$dir/status";
Dir::Cache "$dir/cache";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
  # Our settings come last, so that they win over the machine's (whose proxy settings stay in force).
  APT_CONFIG=$dir/etc/apt.conf
  export APT_CONFIG
  apt-get -q update >"$dir/update.log" 2>&1 || unavailable "apt-get update failed: see $dir/update.log"
}
