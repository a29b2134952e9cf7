# shellcheck shell=bash
# Sourced by the scripts: messages, a scratch folder, system packages.
#
#   say, die              one line to stderr
#   $scratch              an empty folder, removed by the sourcing script's exit
#   apt_install PKG...    installs those Debian/Ubuntu packages that are missing; fails where it cannot
#   need_cargo, need_cxx  a Rust toolchain (only looked for); a C++ compiler, for the H.264 encoder built from source
#   built PROGRAM         where cargo leaves the release build of PROGRAM, wherever the target folder is

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# How to become root: by being it, by a sudo that asks nothing, or by one that may ask since somebody sits at a terminal.
root_by() {
    if [ "$(id -u)" = 0 ]; then
        echo env
    else
        have sudo && { sudo -n true 2>/dev/null || { [ -z "${CI:-}" ] && (: </dev/tty) 2>/dev/null; }; } && echo sudo
    fi
}

apt_has() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_install() {
    local pkg root missing=()
    have apt-get || return 1
    for pkg in "$@"; do apt_has "$pkg" || missing+=("$pkg"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    root=$(root_by) || { say "not root, and no sudo to install with: ${missing[*]}"; return 1; }
    say "installing with apt: ${missing[*]}"
    # Package lists that are old or, as in containers, empty make an install fail: once per run they are fetched.
    [ -n "${apt_updated:-}" ] || "$root" apt-get -qq update >&2 || say 'apt-get update failed; using the lists that are here'
    apt_updated=1
    "$root" DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        install "${missing[@]}" </dev/null >"$scratch/apt.log" 2>&1 || { tail -n 5 "$scratch/apt.log" >&2; return 1; }
}

need_cargo() {
    local env=${CARGO_HOME:-${HOME:-}/.cargo}/env
    # shellcheck source=/dev/null
    have cargo || [ ! -r "$env" ] || . "$env"
    have cargo || die 'no Rust toolchain: install one as https://rustup.rs says, then run this again'
}

need_cxx() {
    have c++ || have g++ || have clang++ || apt_install g++ ||
        die 'no C++ compiler; install g++ (Debian, Ubuntu), gcc-c++ (Fedora), base-devel (Arch) or run xcode-select --install (macOS)'
}

built() {
    (cd "$(dirname "${BASH_SOURCE[0]}")/../.." && cargo metadata --format-version 1 --no-deps --offline) |
        sed -nE 's|.*"target_directory":"([^"]*)".*|\1/release/'"$1|p"
}
