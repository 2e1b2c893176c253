# state RUN fence|look: says what became of a run, from its directory alone.
# $by is the daemon that a fence is of.
#
#   end STATUS              its status
#   runs PID START NOW      it runs; NOW is how long, in hundredths of a second
#   begins                  it was permitted to start, and nothing else is known
#   gone PID ALIVE          its watcher was killed; ALIVE is 1 if the command lives
#   rebooted                the machine's life has ended meanwhile, without a status
#   never                   it never began and never will: somebody fenced it
#   absent                  it has not begun
state() {
    d=${d%/*}/$1
    m=fleetd-$1
    if [ "$2" = fence ] && [ ! -e "$d/spec" ]; then
        [ -d "$d" ] || mkdir -m 700 "$d" 2>/dev/null || (umask 077 && mkdir -p "$d")
        true >"$d/by.$by"
        set -C
        if { echo never >"$d/spec"; } 2>/dev/null; then
            set +C
            echo "$m never"
            return
        fi
        set +C
    fi
    if [ -e "$d/pid" ] && read -r pid pb pB w wb began <"$d/pid"; then
        boot
        born "$w"
        # Read after the look at the watcher, which may just have ended.
        if [ -e "$d/status" ]; then
            read -r l <"$d/status"
            echo "$m end $l"
        elif [ "$B" != "$pB" ]; then
            echo "$m rebooted"
        elif [ -n "$b" ] && [ "$b" = "$wb" ]; then
            now
            echo "$m runs $pid $pb $((t - began))"
        else
            born "$pid"
            l=0
            [ -z "$b" ] || [ "$b" != "$pb" ] || l=1
            echo "$m gone $pid $l"
        fi
    elif [ -e "$d/status" ]; then
        read -r l <"$d/status"
        echo "$m end $l"
    elif [ -s "$d/spec" ]; then
        echo "$m never"
    elif [ -e "$d/spec" ]; then
        echo "$m begins"
    else
        echo "$m absent"
    fi
}
