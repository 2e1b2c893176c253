# start RUN STDIN LENGTH CAP OWNER: begins a run, and answers on the same channel.
#
# STDIN is none, bytes (LENGTH of them follow the preamble) or open. CAP is how
# many bytes of a stream are kept. On standard input comes the preamble: lines
# of sh that set f (folder) and define c (the command; its words are the run's
# directory and setsid, its variables the command's), each after a blank, then
# a line with a dot. Command line, environment and input are on no argv of ours.
#
# It says `began PID START BOOT NOW`, or why not: `refused WHY`, `exists`. When
# the run has ended it says `end STATUS`, followed by what was written to stdout;
# what was written to stderr goes to stderr. Whoever no longer listens by then
# finds the same in the files.
p=
l=
while IFS= read -r l; do
    [ "$l" = . ] && break
    p="$p${l# }
"
done
# A preamble that was cut begins nothing.
[ "$l" = . ] || exit 70
if [ -e "$d/spec" ]; then
    echo "$m exists"
    exit 0
fi
mkdir -m 700 "$d" 2>/dev/null || [ -d "$d" ] || {
    (umask 077 && mkdir -p "${d%/*}") 2>/dev/null
    mkdir -m 700 "$d" 2>/dev/null
} || [ -d "$d" ] || {
    echo "$m refused directory"
    exit 0
}
# The command gets this umask back.
umask >"$d/umask.$$"
umask 077
true >"$d/by.$5"
in=/dev/null
case $2 in
bytes)
    # A name of our own: an earlier attempt whose link was cut may still write.
    in=$d/stdin.$$
    cat >"$in" && l=$(wc -c <"$in") && [ "$l" -eq "$3" ] || {
        rm -f "$in"
        echo "$m refused input"
        exit 0
    }
    ;;
open)
    in=$d/in
    [ -p "$in" ] || mkfifo "$in" "$d/poke" || {
        echo "$m refused input"
        exit 0
    }
    ;;
esac
eval "$p"
case $f in
[~] | "") f=$HOME ;;
[~]/*) f=$HOME/${f#??} ;;
/*) ;;
*) f=$HOME/$f ;;
esac
cd -- "$f" 2>/dev/null || {
    echo "$m refused folder"
    exit 0
}
# Nothing is said from the fence to the watcher: a link that is cut there would
# end us by SIGPIPE.
echo "$m" >&2
# The fence: of all attempts, and of everybody who says that there is to be
# none, one alone makes this file.
set -C
{ true >"$d/spec"; } 2>/dev/null || {
    echo "$m exists"
    exit 0
}
set +C
read -r u <"$d/umask.$$"
boot
now
began=$t
# e DIRECTORY SETSID COMMAND...: becomes the command, in a session of its own
# where we can. By now a variable may be the command's, even one named as ours.
e() {
    [ "$3" = /bin/sh ] || command -v "$3" >/dev/null 2>&1 || {
        true >"$1/missing"
        exit 127
    }
    shift
    [ -n "$1" ] || shift
    exec "$@"
}
s=
for l in /usr/bin/setsid /bin/setsid; do
    [ ! -x "$l" ] || s=$l
done
# keeper: while the run lasts, `life` is open for writing, so whoever reads it
# learns of the end; and a stream over twice the cap is cut back to it.
keeper() {
    nap
    mkfifo life || return
    # Both ways: opening it for writing alone would wait for a reader.
    exec 9<>life
    while [ -n "$w" ]; do
        sleep 1 9<&-
        born "$w"
        [ "$b" = "$wb" ] && [ ! -e status ] || exit 0
        l=$(find stdout stderr -size +$(($1 * 2))c 2>/dev/null 9<&-)
        [ -z "$l" ] || for l in $l; do
            shorten "$l" "$1" 9<&-
        done
    done
}
# feeder: moves the pieces that `input` takes into the command, in order. A
# piece that the link cut off is not there at all, and none comes twice.
feeder() {
    n=0
    exec 9<>poke 7>in
    while :; do
        set +f
        set -- "in.$n."*
        set -f
        if [ -e "$1" ]; then
            cat "$1" >&7 9<&- || break
            n=$((n + ${1##*.}))
            echo "$n" >taken
            rm -f "$1" 7>&- 9<&-
        elif [ -s in.end ] && read -r l <in.end && [ "$l" = "$n" ]; then
            break
        else
            read -r _ <&9
        fi
    done
    true >in.closed
}
# shorten FILE CAP: cuts it, and adds what is gone to FILE.cut. The command
# appends, so it goes on writing at the new end. Followers must not see it
# shrink: they end before, and the daemon sends another.
shorten() {
    mkdir cutting
    set +f
    for l in f.*.*; do
        l=${l#f.}
        born "${l%.*}"
        [ -z "$b" ] || [ "$b" != "${l#*.}" ] || kill "${l%.*}"
    done
    set -f
    c=0
    [ ! -e "$1.cut" ] || read -r c <"$1.cut"
    n=$(wc -c <"$1")
    dd if=/dev/null of="$1" bs=1024 seek=$(($2 / 1024)) count=0 &&
        echo $((c + n - $2)) >"$1.cut.new" && mv "$1.cut.new" "$1.cut"
    rmdir cutting
}
# count FILE SIZE CAP: sets k and c, bytes kept and cut.
count() {
    k=$2 c=0
    [ ! -e "$1.cut" ] || read -r c <"$1.cut"
    [ "$k" -le "$3" ] || {
        c=$((c + k - $3))
        k=$3
    }
}
watcher() {
    # A shell says this and that about its children; none of it is the command.
    exec 8>&2 2>/dev/null
    keeper=
    feeder=
    if [ -e "$d/stop" ]; then
        read -r y <"$d/stop"
        finish "- $y 0 0 0 0 0" 0 0
        return
    fi
    [ -n "$s" ] || set -m
    (
        umask "$u"
        c "$d" "$s"
    ) <"$in" >>"$d/stdout" 2>>"$d/stderr" 8>&- &
    pid=$!
    [ -n "$s" ] || set +m
    # Only now: what a parent ignores its children ignore.
    trap "" PIPE
    born "$pid"
    pb=$b
    if read -r w l 2>/dev/null </proc/self/stat; then
        :
    else
        w=$(exec sh -c "echo \$PPID")
    fi
    born "$w"
    wb=$b
    cd "$d" || exit
    echo "$pid ${pb:--} $B $w $wb $began" >pid
    echo "$m began $pid ${pb:--} $B"
    keeper "$1" >/dev/null 8>&- &
    keeper=$!
    [ "${in##*/}" != in ] || {
        feeder >/dev/null 8>&- &
        feeder=$!
    }
    wait "$pid"
    x=$?
    now
    t=$((t - began))
    # Children that were left may still be writing, as after the end of a pipe.
    n=0
    while [ $n -lt 10 ] && kill -0 "-$pid" && [ ! -e stop ]; do
        nap
        n=$((n + 1))
    done
    y=-
    if [ -e stop ]; then
        read -r y <stop
        # Whoever stops it says when nothing of it is left.
        n=0
        while [ $n -lt 600 ] && [ -e stopping ] && [ ! -e stopped ]; do
            nap
            n=$((n + 1))
        done
    fi
    [ ! -e missing ] || y=missing
    set -- "$1" 0 0
    if [ -s stdout ] || [ -s stderr ]; then
        set -- "$1" $(wc -c stdout stderr)
        set -- "$1" "$2" "$4"
    fi
    count stdout "$2" "$1"
    i=$k o=$c
    count stderr "$3" "$1"
    finish "$x $y $t $i $k $o $c" "$i" "$k"
}
# finish STATUS OUT ERR: tells whoever listens, and writes it down. The line
# goes first, which fits any pipe; the bytes may block, so they go beside.
finish() {
    cd "$d" || exit
    echo "$m end $1"
    if [ "$2" != 0 ]; then cat stdout 8>&- & fi
    if [ "$3" != 0 ]; then cat stderr >&8 & fi
    echo "$1" >status.new
    # Elsewhere than on Linux this would sync all disks.
    [ ! -e /proc/self/stat ] || sync status.new
    mv status.new status
    # Followers learn of the end by the keeper's.
    [ -z "$keeper$feeder" ] || kill $keeper $feeder
    set +f
    [ "$in" = /dev/null ] || rm -f "$in" in.*.*
    set -f
    wait
}
# Not this process: sshd counts it as one of few sessions until it ends.
watcher "$4" &
