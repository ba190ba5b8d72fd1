#!/usr/bin/env bash
# Installs, with Debian's packages, what the other scripts were asked to use and the machine has not:
#
#   scripts/install-tools.sh [cc|python-yaml|shellcheck|skopeo|docker-registry|htpasswd]...
#
# A machine with all of it is left alone, and needs neither root nor a network.
set -euo pipefail

packages=()
for tool in "$@"; do
  case "$tool" in
    cc) command -v cc >/dev/null || packages+=(build-essential) ;;
    python-yaml) python3 -c 'import yaml' 2>/dev/null || packages+=(python3-yaml) ;;
    htpasswd) command -v htpasswd >/dev/null || packages+=(apache2-utils) ;;
    shellcheck | skopeo | docker-registry) command -v "$tool" >/dev/null || packages+=("$tool") ;;
    *) echo "install-tools.sh: unknown tool $tool" >&2 && exit 2 ;;
  esac
done
[ "${#packages[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install-tools.sh: ${packages[*]} missing, and neither root nor sudo to install with" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
echo "installing ${packages[*]}" >&2
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}" >&2

# Debian's package serves Debian's python3, and the one in PATH may be another.
if [[ " ${packages[*]} " == *" python3-yaml "* ]] && ! python3 -c 'import yaml' 2>/dev/null; then
  python3 -m pip install --quiet pyyaml >&2
fi
