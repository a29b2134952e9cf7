# shellcheck shell=bash disable=SC1091,SC2154 # say, die, have, apt_install and scratch come from packages.sh
# Sourced after packages.sh. `use_vulkan` sees to it that there is a Vulkan adapter and says in one line which.
# A GPU is left alone. Without one lavapipe, Mesa's Vulkan on the CPU, is installed and chosen through VK_DRIVER_FILES:
# on Debian 12 the one of its backports, which is faster than its own, in a folder of the user; elsewhere the system's.
#
#   LONGTAKE_LAVAPIPE=stock|new|none   the system's lavapipe; the newer one; none, whatever Vulkan there is
#   VK_DRIVER_FILES, VK_ICD_FILENAMES  when set by the user, nothing is changed

. "$(dirname "${BASH_SOURCE[0]}")/lavapipe.sh"

# Prints the kernel driver of a GPU that this user may open; fails if there is none.
find_gpu() {
    local node driver
    if have nvidia-smi && nvidia-smi -L 2>/dev/null | grep '^GPU' >/dev/null; then
        if [ -n "$(icds 'nvidia*.json')" ]; then echo nvidia; return; fi
        say 'vulkan: an NVIDIA GPU without its Vulkan driver (a container needs NVIDIA_DRIVER_CAPABILITIES=all)'
    fi
    for node in /dev/dri/renderD*; do
        driver=$(basename "$(readlink -f "/sys/class/drm/${node##*/}/device/driver")")
        case $driver in driver | '' | nvidia | vgem | vkms | virtio* | vmwgfx | bochs* | simple*) continue ;; esac
        if [ -r "$node" ] && [ -w "$node" ]; then echo "$driver"; return; fi
        say "vulkan: no permission to open $node ($driver); its group is shown by: ls -l $node"
    done
    have vulkaninfo && vulkaninfo --summary 2>/dev/null | grep -Eom1 '(DISCRETE|INTEGRATED|VIRTUAL)_GPU'
}

use_vulkan() {
    local gpu want=${LONGTAKE_LAVAPIPE:-auto}
    case $(uname -s) in
        Linux) ;;
        Darwin) say 'vulkan: not needed, Metal is there'; return ;;
        *) say 'vulkan: the adapters of this system as they are'; return ;;
    esac
    # Without it the Vulkan loader and Mesa print complaints that mean nothing here.
    [ -n "${XDG_RUNTIME_DIR:-}" ] || export XDG_RUNTIME_DIR="$scratch"
    if [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        say "vulkan: the driver that you chose, ${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}"
        return
    fi
    case $want in
        none) say 'vulkan: the adapters of this system as they are'; return ;;
        auto | stock | new) ;;
        *) die "LONGTAKE_LAVAPIPE is '$want'; stock, new or none were expected" ;;
    esac
    if [ "$want" = auto ] && gpu=$(find_gpu); then
        # A kernel driver alone does not make a Vulkan adapter. What a package manager other than apt has is not checked.
        if ! has_loader || [ -z "$(icds '*.json')" ]; then apt_install libvulkan1 mesa-vulkan-drivers || true; fi
        say "vulkan: a GPU was found ($gpu)"
        return
    fi
    if [ "$want" = new ] || { [ "$want" = auto ] && stock_is_slow; }; then
        if newer_lavapipe; then return; fi
        say "lavapipe: no newer one to be had, taking the system's"
    fi
    stock_lavapipe || die "no Vulkan driver. Install Mesa's Vulkan drivers with the Vulkan loader:
  Debian, Ubuntu: mesa-vulkan-drivers libvulkan1    Fedora: mesa-vulkan-drivers vulkan-loader
  Arch: vulkan-swrast vulkan-icd-loader             openSUSE: libvulkan_lvp libvulkan1
  Alpine: mesa-vulkan-swrast vulkan-loader"
}
