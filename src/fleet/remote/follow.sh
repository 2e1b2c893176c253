# follow RUN OUT ERR: sends what stdout and stderr of a run hold from these
# offsets on, and what comes, until the run ends or nobody listens any more.
# `-` for an offset leaves that stream out.
cd "$d" 2>/dev/null || exit 0
echo "$m follow"
echo "$m" >&2
# An earlier follower of this run may not have noticed that its link is gone.
set +f
for l in f.*.*; do
    [ -e "$l" ] || continue
    rm -f "$l"
    l=${l#f.}
    born "${l%.*}"
    [ -z "$b" ] || [ "$b" != "${l#*.}" ] || kill "${l%.*}"
done
set -f
# The keeper makes `life` a moment after the start.
n=0
while [ ! -p life ] || [ -d cutting ]; do
    [ ! -e status ] && [ $n -lt 100 ] || exit 0
    nap
    n=$((n + 1))
done
born $$
l=f.$$.$b
true >"$l"
o=
x=
[ "$2" = - ] || {
    tail -c "+$(($2 + 1))" -f stdout 2>/dev/null </dev/null &
    o=$!
}
[ "$3" = - ] || {
    tail -c "+$(($3 + 1))" -f stderr >&2 2>/dev/null </dev/null &
    x=$!
}
trap "kill $o $x \$n 2>/dev/null; rm -f $l; exit 0" TERM HUP
# When nobody holds `life` open for writing any more, the run has ended. Opened
# for reading alone it would block for ever if that is so already.
(
    exec 9<>life 8<life 9<&-
    [ -e status ] || read -r n <&8
    kill $$
) &
n=$!
while read -r _; do :; done
kill $o $x $n 2>/dev/null
rm -f "$l"
