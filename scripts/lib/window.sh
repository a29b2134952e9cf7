# shellcheck shell=bash disable=SC2154 # say, have and apt_install come from packages.sh
# Sourced by scripts/test: the viewer, which a plain build leaves out.

# What its test of the real window needs: a display, keys and a mouse, pictures of the screen.
window_tools() {
    local tools=(Xvfb xdotool import) tool
    if [ "$(uname -s)" = Linux ]; then
        apt_install xvfb xdotool imagemagick libxkbcommon-x11-0 libx11-xcb1 libxcursor1 libxi6 libxrandr2 || true
    fi
    for tool in "${tools[@]}"; do
        if ! have "$tool"; then
            say "not checked, for want of $tool: the real window"
            [ "${CI:-}" != true ] || [ "$(uname -s)" != Linux ] || return 1
            return 0
        fi
    done
    export LONGTAKE_REQUIRE_WINDOW=1
}

window_lints() { cargo clippy --release --locked -p longtake-viewer --all-targets -- -D warnings; }

window_tests() {
    window_tools
    cargo test --release --locked -p longtake-viewer
}
