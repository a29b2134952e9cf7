# shellcheck shell=bash disable=SC2154 # scratch comes from packages.sh
# Sourced after packages.sh by scripts/test: named, timed steps and the closing count.
#
#   step NAME COMMAND...          runs COMMAND in this shell with stdin closed; its failure ends the script
#   optional_tool CMD PKG LOSS    a tool that is installed if possible; says what is lost without it

steps_passed=0
step_name=''

step() {
    step_name=$1
    step_start=$SECONDS
    shift
    echo "== step: $step_name"
    # Not in a condition: bash would ignore `set -e` within a function that is run there.
    "$@" </dev/null
    echo "== ok: $step_name ($((SECONDS - step_start)) s)"
    steps_passed=$((steps_passed + 1))
    step_name=''
}

report() {
    local rc=$? failed=0
    rm -rf "$scratch"
    if [ -n "$step_name" ]; then
        failed=1
        echo "== FAILED: $step_name ($((SECONDS - step_start)) s, exit $rc)"
    fi
    [ "$steps_passed$failed" = 00 ] || echo "$steps_passed passed, $failed failed"
    [ "$failed" = 0 ] || [ "$rc" != 0 ] || rc=1
    exit "$rc"
}
trap report EXIT

optional_tool() {
    have "$1" || apt_install "$2" || true
    have "$1" || say "not checked, for want of $1 (package $2): $3"
}
