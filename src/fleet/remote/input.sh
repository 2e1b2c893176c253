# input RUN OFFSET LENGTH END: takes the next piece of a run's standard input
# (OFFSET `-`: none), whole or not at all; END is 1 if nothing follows it. Says
# `held HELD TAKEN CLOSED`: bytes here without a hole, bytes that the command's
# pipe has taken, and 1 if it reads no more.
cd "$d" 2>/dev/null || exit 1
umask 077
[ "$2" = - ] || {
    l=new.$$
    cat >"$l"
    n=$(wc -c <"$l")
    # A piece that was cut on its way is as if it had never come.
    if [ "$n" -eq "$3" ] && [ "$n" -gt 0 ]; then mv "$l" "in.$2.$3"; else rm -f "$l"; fi
    [ "$4" != 1 ] || [ "$n" -ne "$3" ] || echo $(($2 + $3)) >in.end
    # Both ways: it must not wait for a reader that has ended.
    [ ! -p poke ] || echo 9<>poke >&9
}
n=0
[ ! -s taken ] || read -r n <taken
k=$n
set +f
while set -- "in.$k."*; do
    [ -e "$1" ] || break
    k=$((k + ${1##*.}))
done
l=0
[ ! -e in.closed ] && [ ! -e status ] || l=1
echo "$m held $k $n $l"
