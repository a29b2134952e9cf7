# shellcheck shell=bash disable=SC2154 # say, die, have, apt_install, built, scratch and icds come from packages.sh and lavapipe.sh
# Sourced by scripts/test: the shader gate beyond cargo's own tests. Every compiler that is not naga, every executor that
# is not the one the tests ran on, and the table of both.
#
# A step ends in one of three ways: it passes; it fails; or it says why it could not run, which under CI=true is a failure
# unless this system could not have run it whatever was installed.

gate=$scratch/gate
gate_cache=${XDG_CACHE_HOME:-${HOME:-$scratch}/.cache}/longtake
gate_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$gate/columns"

# absent COLUMN WHY: not on this system, whatever is installed.
absent() {
    say "not run: $2"
    printf '%s\n' "$2" >"$gate/columns/$1.absent"
}

# missed COLUMN WHY: could run here and did not.
missed() {
    [ "${CI:-}" != true ] || { say "under CI this must run: $2"; return 1; }
    absent "$1" "$2"
}

# A column with the count of files of FOLDER by kernel, all of which passed.
count_variants() {
    find "$1" -type f -printf '%f\n' | sed -E 's/[-.].*//' | sort | uniq -c | awk '{ print $2 "\t" $1 }' >"$gate/columns/$2"
}

# The variants as the tests wrote them; what follows compiles these texts.
gate_shaders() {
    LONGTAKE_GATE_DIR=$gate LONGTAKE_GATE_TEXTS=wgsl,comp$(has_metal && echo ,metal)$(have dxc && echo ,hlsl) \
        cargo test --release --locked --test it shaders::
    [ -n "$(find "$gate/wgsl" -name '*.wgsl' | head -n 1)" ]
}

has_metal() { have xcrun && xcrun --find metal >/dev/null 2>&1; }

gate_glslang() {
    have glslangValidator || apt_install glslang-tools || true
    have glslangValidator || { missed glslang 'no glslangValidator (package glslang-tools)'; return; }
    # It prints the name of every file that it reads.
    (cd "$gate/comp" && glslangValidator ./*.comp) >"$scratch/glslang" || { grep -A3 ERROR "$scratch/glslang" | head -n 20; return 1; }
    count_variants "$gate/comp" glslang
    wc -l <"$scratch/glslang" | sed 's/$/ variants pass/'
}

webgpu_version=0.6.2

# Dawn for Node, in a folder of the user. Prints the folder.
webgpu_folder() {
    local dir=$gate_cache/webgpu-$webgpu_version
    if [ ! -d "$dir/node_modules/webgpu/dist" ]; then
        have npm || { say 'no npm'; return 1; }
        mkdir -p "$dir"
        npm install --prefix "$dir" --no-audit --no-fund --no-save --loglevel=error "webgpu@$webgpu_version" >&2 || return 1
    fi
    echo "$dir"
}

tint() { node "$gate_lib/tint.mjs" "$@"; }

gate_tint() {
    local dir
    have node || { missed tint 'no Node.js'; return; }
    dir=$(webgpu_folder) || { missed tint "the npm package webgpu $webgpu_version could not be installed"; return; }
    tint "$dir" "$gate/wgsl" "$gate/columns/tint"
}

# Shaders that are wrong on purpose: Tint must refuse each of those that are written for it.
gate_tint_refuses() {
    local dir broken=$root/tests/it/shaders/broken one
    [ -e "$gate/columns/tint" ] || { say 'not run: Tint did not run'; return; }
    dir=$(webgpu_folder)
    for one in barrier_in_divergent_flow loop_without_end index_out_of_range; do
        mkdir -p "$gate/broken-$one"
        cp "$broken/$one.wgsl" "$gate/broken-$one/"
        if tint "$dir" "$gate/broken-$one"; then
            say "$one passed"
            return 1
        fi
    done
}

# each_shader FOLDER COMMAND...: with every file of it, on all cores; any failure fails.
each_shader() {
    local folder=$1
    shift
    find "$folder" -type f -print0 | xargs -0 -P "$(getconf _NPROCESSORS_ONLN)" -n 1 "$@"
}

gate_metal() {
    has_metal || { absent metal 'the Metal compiler is part of Xcode, on macOS'; return; }
    each_shader "$gate/metal" xcrun metal -std=metal2.4 -o /dev/null -c
    count_variants "$gate/metal" metal
}

gate_dxc() {
    have dxc || { absent dxc 'no dxc here: no package of Debian has it'; return; }
    each_shader "$gate/hlsl" dxc -nologo -T cs_6_0 -E main -Fo "$scratch/dxil"
    count_variants "$gate/hlsl" dxc
}

# executor COLUMN [NAME=VALUE...]: the self-test with a film. What it ran with is kept for `gate_ops`.
executor() {
    local column=$1 rc=0
    shift
    executor_env=(LONGTAKE_REQUIRE_GPU=1 "$@")
    env "${executor_env[@]}" "$(built longtake)" selftest --json >"$scratch/selftest.json" || rc=$?
    [ "$rc" = 0 ] || { env "${executor_env[@]}" "$(built longtake)" selftest; return 1; }
    ran_on "$column"
    count_cases "$column"
}

# unfit COLUMN: tests of ops that do not run there, each with the reason.
unfit() {
    echo 'ops::cases the self-test has just run these'
    case $1 in
        device | gl) return ;;
        swiftshader)
            echo 'ops::laws_attention it compiles each of two dozen kernels for many seconds and keeps none; the fixed shapes run'
            echo 'attention_coded::released_ as before; our codings, and a released one in heads of 32, run'
            echo 'attention_coded::other_ as before'
            ;;
    esac
    echo 'in_heads_of_128 its kernels compile for minutes on a CPU driver; heads of 32 and 64 run'
    echo 'in_heads_of_256 its kernels compile for minutes on a CPU driver; heads of 32 and 64 run'
}

# gate_ops COLUMN: the tests of the ops on the executor of the step before.
gate_ops() {
    local column=$1 rc=0 name why skip=() threads=()
    [ -e "$gate/columns/$column" ] || { say "not run: $(cat "$gate/columns/$column.absent")"; return; }
    while read -r name why; do
        say "left out: $name: $why"
        skip+=(--skip "$name")
    done < <(unfit "$column")
    # wgpu's GL gives up where a thread waits for its context.
    [ "$column" != gl ] || threads=(--test-threads 1)
    env "${executor_env[@]}" cargo test --release --locked --test it ops:: -- "${skip[@]}" ${threads[@]+"${threads[@]}"} \
        >"$scratch/ops" 2>&1 || rc=$?
    [ "$rc" = 0 ] || { tail -n 60 "$scratch/ops"; return 1; }
    name=$(sed -nE 's/^test result: ok\. ([0-9]+) passed.*/\1/p' "$scratch/ops")
    [ "${name:-0}" -gt 0 ]
    sed -i.before "s/^\`$column\`: .*/&; $name tests of ops/" "$gate/executors"
    echo "$name tests of ops pass"
}

# ran_on COLUMN: what the last self-test ran on, in a line, which is kept for the table.
ran_on() {
    sed -nE 's/^ *"(name|driver|backend|tier|subgroup_size)": "?([^"]*)"?,$/\2/p' "$scratch/selftest.json" | paste -sd'|' - |
        sed "s/|/, /g; s/^/\`$1\`: /" | tee -a "$gate/executors"
}

# A column with the cases of the last self-test by kernel.
count_cases() {
    sed -nE '/"kernels": \{/,/\}/{s/^ *"([a-z0-9_]+)": [0-9]+,?$/\1/p}' "$scratch/selftest.json" | sort | uniq -c |
        awk '{ print $2 "\t" $1 }' >"$gate/columns/$1"
    [ -s "$gate/columns/$1" ]
}

is_lavapipe() { [ "$(uname -s)" = Linux ] && [[ ${VK_DRIVER_FILES:-} == *lvp* ]]; }

gate_this_device() { executor device; }

# Both tiers of this device: the tests of the ops open each.
gate_ops_of_device() {
    [ -n "${only_gate:-}" ] || { say 'not run again: the tests ran these on this device'; return; }
    gate_ops device
}

gate_portable() { executor portable LONGTAKE_TIER=portable; }

gate_width() {
    is_lavapipe || { absent "lavapipe-$1" 'lavapipe is not what runs here'; return; }
    executor "lavapipe-$1" LP_NATIVE_VECTOR_WIDTH="$1"
}

gate_gl() {
    [ "$(uname -s)" = Linux ] || { absent gl "Mesa's GL is asked for on Linux"; return; }
    local found
    apt_install libegl1 libgl1-mesa-dri || true
    found=$(WGPU_BACKEND=gl "$(built longtake)" devices --json | grep -c '"backend": "gl"') || true
    [ "$found" != 0 ] || { missed gl 'no GL adapter (packages libegl1, libgl1-mesa-dri)'; return; }
    executor gl WGPU_BACKEND=gl
}

gate_swiftshader() {
    local icd
    [ "$(uname -s)" = Linux ] || { absent swiftshader 'fetched for Linux only'; return; }
    have apt-get || { absent swiftshader 'it comes from a Debian package, and there is no apt'; return; }
    icd=$("$gate_lib/fetch-swiftshader" "$gate_cache") || { missed swiftshader 'it could not be fetched'; return; }
    executor swiftshader VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd"
}

has_layers() {
    { find -L {/usr/share,/usr/local/share,/etc}/vulkan/explicit_layer.d -name VkLayer_khronos_validation.json 2>/dev/null || true; } | grep . >/dev/null
}

# layered [ENABLES]: the self-test under the layers; what they say of it, warnings among it, is left in $scratch/said.
layered() {
    local dir=$scratch/layers
    mkdir -p "$dir"
    : >"$scratch/said"
    printf 'khronos_validation.%s\n' 'debug_action = VK_DBG_LAYER_ACTION_LOG_MSG' 'report_flags = error,warn,perf' \
        "log_filename = $scratch/said" "enables = ${1:-}" >"$dir/vk_layer_settings.txt"
    VK_LAYER_SETTINGS_PATH=$dir VK_LOADER_DEBUG=layer VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
        "$(built longtake)" selftest --json >"$scratch/selftest.json" 2>"$scratch/loader" || { tail -n 20 "$scratch/loader"; return 1; }
    # That the layer was there at all.
    grep 'Inserted* .*VK_LAYER_KHRONOS_validation' "$scratch/loader" >/dev/null || { say 'the layer was not loaded'; return 1; }
}

# wgpu validates whatever it is given; the layers look at what wgpu makes of it. Any message is a failure.
gate_validation() {
    [ "$(uname -s)" = Linux ] || { absent validation 'the layers are asked for on Linux'; return; }
    has_layers || apt_install vulkan-validationlayers || true
    has_layers || { missed validation 'no validation layers (package vulkan-validationlayers)'; return; }
    layered
    is_silent
    count_cases validation
    echo 'no message'
}

# Fails where the layers said anything.
is_silent() {
    [ ! -s "$scratch/said" ] || { cut -c 1-300 "$scratch/said" | head -n 20; return 1; }
}

# A test of the step before: wgpu lets no wrong use through that the layers would name, so they are asked to name unwise use
# as well, of which wgpu has some. The same run must fail by it then.
gate_validation_fails() {
    [ -e "$gate/columns/validation" ] || { say 'not run: the layers did not run'; return; }
    layered VK_VALIDATION_FEATURE_ENABLE_BEST_PRACTICES_EXT
    if is_silent; then
        say 'the layers were made to complain, and nothing was seen'
        return 1
    fi
}

gate_versions() {
    local naga
    naga=$(sed -nE 's/^naga = \{ version = "=([0-9.]+)".*/\1/p' "$root/Cargo.toml")
    printf '%s, %s. naga %s' "$(date -u +%F)" "$(uname -sm)" "$naga"
    ! have spirv-val || printf ', spirv-val %s' "$(spirv-val --version | sed -nE '1s/.* v([0-9.]+).*/\1/p')"
    ! have glslangValidator || printf ', glslang %s' "$(glslangValidator --version | sed -nE '1s/.*:([0-9.]+)$/\1/p')"
    [ ! -e "$gate/columns/tint" ] || printf ', Tint of webgpu %s' "$webgpu_version"
    printf '. Executors:\n\n'
    sed 's/^/- /' "$gate/executors"
}

# Printed, and written between the marks of the file that LONGTAKE_GATE_DOC names.
gate_table() {
    { gate_versions && "$gate_lib/gate-table" "$gate/columns"; } >"$gate/table"
    cat "$gate/table"
    [ -n "${LONGTAKE_GATE_DOC:-}" ] || return 0
    sed -i.before -e "/^<!-- gate: written/r $gate/table" -e '/^<!-- gate: written/,/^<!-- gate: end/{/^<!-- gate: /!d;}' "$LONGTAKE_GATE_DOC"
    rm -f "$LONGTAKE_GATE_DOC.before"
}
