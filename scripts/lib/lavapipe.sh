# shellcheck shell=bash disable=SC2154 # say, have, apt_install and scratch come from packages.sh
# Sourced by vulkan.sh: the two ways to lavapipe, Mesa's Vulkan on the CPU. Both export VK_DRIVER_FILES.

lavapipe_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

has_loader() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep 'libvulkan\.so\.1 ' >/dev/null; }

# Descriptions of the installed drivers of that name, joined by colons.
icds() {
    { find -L {/usr/share,/usr/local/share,/etc,/run/opengl-driver/share}/vulkan/icd.d -name "$1" 2>/dev/null || true; } | sort | paste -sd:
}

# VK_ICD_FILENAMES is what loaders before 1.3.207 read.
choose_driver() { export VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1; }

# Version of the system's Mesa, installed or to be had; empty when unknown.
stock_version() {
    { dpkg-query -W -f '${Version}\n' mesa-vulkan-drivers || apt-cache policy mesa-vulkan-drivers | sed -n 's/.*Candidate: //p'; } 2>/dev/null |
        sed -nE 's/^([0-9]+:)?([0-9.]+).*/\2/p'
}

# True on Debian 12 and before, unless its Mesa was already replaced. Elsewhere no newer one fits without an upgrade.
stock_is_slow() {
    local version
    # shellcheck source=/dev/null
    (. /etc/os-release && [ "$ID" = debian ] && [ "${VERSION_ID:-99}" -le 12 ]) 2>/dev/null || return 1
    version=$(stock_version) || true
    [ "${version%%.*}" -lt 24 ] 2>/dev/null || [ -z "$version" ]
}

stock_lavapipe() {
    if [ -z "$(icds 'lvp_icd*.json')" ] || ! has_loader; then
        apt_install libvulkan1 mesa-vulkan-drivers || true
    fi
    { [ -n "$(icds 'lvp_icd*.json')" ] && has_loader; } || return 1
    choose_driver "$(icds 'lvp_icd*.json')"
    say "lavapipe: Mesa $(stock_version || true) (the system's)"
}

loads() {
    local linked
    linked=$(LD_LIBRARY_PATH=$1 ldd "$1/libvulkan_lvp.so" 2>/dev/null) && [[ $linked != *'not found'* ]] &&
        { [ -e "$1/libvulkan.so.1" ] || has_loader; }
}

# Fetches nothing when an earlier run has.
newer_lavapipe() {
    local dir name found='' codename cache=${XDG_CACHE_HOME:-${HOME:-$scratch}/.cache}/longtake
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for dir in "$cache"/lavapipe-*-"$codename-$(dpkg --print-architecture 2>/dev/null)"; do
        if loads "$dir"; then found=$dir; fi
    done
    [ -n "$found" ] || found=$("$lavapipe_lib/fetch-lavapipe" "$cache") || return 1
    loads "$found" || return 1
    choose_driver "$found/lvp_icd.json"
    export LD_LIBRARY_PATH=$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    name=${found##*/lavapipe-}
    say "lavapipe: Mesa ${name%%-*} (from $codename-backports, in ${cache/#"${HOME:-}"/\~})"
}
