# stop RUN TENTHS WHY OWNER: ends a run with everything it started: TERM, so many
# tenths of a second of grace, then KILL until nothing is left. WHY goes into
# its status. It answers at once; the end comes in the run's own time, even if
# the link is cut meanwhile.
cd "$d" 2>/dev/null || {
    (umask 077 && mkdir -p "$d")
    cd "$d" || exit 1
}
umask 077
true >"by.$4"
set -C
{ echo "$3" >stop; } 2>/dev/null
set +C
echo "$m stopping"
[ ! -e status ] || exit 0
# A run that has not begun reads `stop` before it does.
read -r pid pb pB w wb began 2>/dev/null <pid || exit 0
boot
[ "$B" = "$pB" ] || exit 0
if read -r l x 2>/dev/null <stopping; then
    born "$l"
    [ -z "$b" ] || [ "$b" != "$x" ] || exit 0
fi
# strays: processes that left the group, by the mark in their environment.
strays() {
    set +f
    set -- $(grep -ls "FLEETD_RUN=$r" /proc/[0-9]*/environ 2>/dev/null)
    set -f
    strays=
    for l; do
        l=${l#/proc/}
        strays="$strays ${l%/environ}"
    done
}
hit() {
    strays
    # The number is the group's for as long as its leader is there or was not
    # waited for; without a leader only a live watcher vouches for it.
    born "$w"
    if [ -n "$b" ] && [ "$b" = "$wb" ]; then l=1; else
        l=
        born "$pid"
        [ -z "$b" ] || [ "$b" != "$pb" ] || l=1
    fi
    [ -z "$l" ] || kill -"$1" "-$pid"
    [ -z "$strays" ] || kill -"$1" $strays
}
# left: whether anything is there that a signal could reach. What has ended and
# was not waited for yet is not.
left() {
    kill -0 "-$pid" && {
        [ -e /proc/self/stat ] || return 0
        set +f
        for x in /proc/[0-9]*/stat; do
            read -r q <"$x" || continue
            set -f -- ${q##*) }
            [ "$3" != "$pid" ] || [ "$1" = Z ] || return 0
        done
        set -f
    }
    strays
    [ -n "$strays" ]
}
{
    if read -r l x </proc/self/stat; then born "$l"; else
        l=$(exec sh -c "echo \$PPID")
        born "$l"
    fi
    echo "$l $b" >stopping
    hit TERM
    # A stopped process cannot heed it.
    hit CONT
    n=0
    while [ $n -lt "$2" ] && left; do
        nap
        n=$((n + 1))
    done
    n=0
    while [ $n -lt 40 ] && left; do
        hit KILL
        nap
        n=$((n + 1))
    done
    true >stopped
    # What even KILL does not end is told as that: its watcher waits for ever.
    born "$pid"
    [ -n "$b" ] && [ "$b" = "$pb" ] || exit 0
    read -r y <stop
    now
    c=0 o=0
    [ ! -e stdout.cut ] || read -r c <stdout.cut
    [ ! -e stderr.cut ] || read -r o <stderr.cut
    set -- $(wc -c stdout stderr)
    echo "+$pid $y $((t - began)) $1 $3 $c $o" >outlived
    # Not over a status that came meanwhile.
    ln outlived status
} </dev/null >/dev/null 2>&1 &
