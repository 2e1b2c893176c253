# usage RUN: milliseconds of CPU time that the processes of a run's group or
# session have used, and what they waited for where Linux can be asked.
cd "$d" 2>/dev/null || exit 0
read -r pid pb pB w wb began 2>/dev/null <pid || exit 0
s=0
if [ -r /proc/self/stat ]; then
    set +f
    for l in /proc/[0-9]*/stat; do
        read -r q 2>/dev/null <"$l" || continue
        set -f -- ${q##*) }
        [ "$3" != "$pid" ] && [ "$4" != "$pid" ] || s=$((s + ${12} + ${13} + ${14} + ${15}))
    done
    l=$(getconf CLK_TCK 2>/dev/null)
    echo "$m used $((s * 1000 / ${l:-100}))"
    exit 0
fi
# [days-][hours:]minutes:seconds[.hundredths]
ps -A -o pgid= -o time= 2>/dev/null | {
    while read -r q t; do
        [ "$q" = "$pid" ] || continue
        l=0
        x=0
        case $t in *-*) l=${t%%-*} t=${t#*-} ;; esac
        case $t in *.*) x=${t#*.} t=${t%%.*} ;; esac
        l=$((l * 24))
        IFS=:
        set -- $t
        unset IFS
        [ $# -gt 2 ] || set -- 0 "$@"
        l=$(((l + ${1#0}) * 60 + ${2#0}))
        s=$((s + (l * 60 + ${3#0}) * 1000 + ${x#0} * 10))
    done
    echo "$m used $s"
}
