#!/usr/bin/env bash
# Installs the system libraries that off-screen rendering needs, only those that are missing, only on Debian-like systems.
set -euo pipefail
python=${1:-python3}

libraries=(libEGL.so.1:libegl1 libGL.so.1:libgl1 libxkbcommon.so.0:libxkbcommon0 libdbus-1.so.3:libdbus-1-3
    libfontconfig.so.1:libfontconfig1 libglib-2.0.so.0:libglib2.0-0)
missing=()
if [ "$(uname -s)" = Linux ]; then
    known=$( (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null || true)
    for pair in "${libraries[@]}"; do
        grep -qF "${pair%%:*}" <<<"$known" || missing+=("${pair##*:}")
    done
    # The software renderer is loaded as a plug-in and fonts are plain files, so the linker knows neither.
    compgen -G '/usr/lib/*/dri/*_dri.so' >/dev/null || compgen -G '/usr/lib/*/libgallium*.so' >/dev/null ||
        missing+=(libgl1-mesa-dri)
    compgen -G '/usr/share/fonts/truetype/*/*.ttf' >/dev/null || missing+=(fonts-dejavu-core)
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "Please install what provides these Debian packages, then run make again: ${missing[*]}" >&2
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "Please install these packages as root, then run make again: apt-get install ${missing[*]}" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
