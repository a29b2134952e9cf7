# shellcheck shell=bash disable=SC2154 # have, say, built and scratch come from packages.sh
# Sourced by scripts/test: the program that was built, run as a user would.

film=$scratch/film.mp4
film_frames=8

film_devices() {
    "$(built longtake)" --version
    "$(built longtake)" devices
}

film_generate() {
    "$(built longtake)" generate --frames "$film_frames" -o "$film" --json --overwrite >"$scratch/events.jsonl"
    [ -s "$film" ]
    [ -s "$scratch/events.jsonl" ]
    tail -n 1 "$scratch/events.jsonl"
    # Refused without --overwrite: a film that took hours is not to be lost to a repeated command line.
    refused 'a film that exists' generate --frames "$film_frames" -o "$film"
}

film_probe() {
    local seen
    if ! have ffprobe; then
        say 'left out: no ffprobe'
        return
    fi
    seen=$(ffprobe -v error -count_frames -select_streams v:0 -of default=noprint_wrappers=1 \
        -show_entries stream=codec_name,width,height,avg_frame_rate,nb_read_frames "$film")
    echo "$seen"
    grep -x 'codec_name=h264' <<<"$seen" >/dev/null
    [ "$(sed -n 's/^nb_read_frames=//p' <<<"$seen")" -ge "$film_frames" ]
}

film_info() { "$(built longtake)" info "$film"; }

# The program must end with a failure of its own, neither well nor by a panic (101) or a signal (128 and above).
refused() {
    local what=$1 rc=0
    shift
    "$(built longtake)" "$@" >"$scratch/out" 2>&1 || rc=$?
    if [ "$rc" = 0 ] || [ "$rc" -ge 101 ]; then
        cat "$scratch/out"
        say "$what: exit $rc"
        return 1
    fi
    echo "refused, exit $rc: $what"
}

film_wrong_use() {
    refused 'an unknown option' generate --no-such-option
    refused 'a film that is not there' info "$scratch/none.mp4"
    printf 'not a film' >"$scratch/text.mp4"
    refused 'a film that is none' info "$scratch/text.mp4"
}
