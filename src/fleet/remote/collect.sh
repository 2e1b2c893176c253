# collect RUN OUT ERR: the state of a run, then what its files hold from these
# offsets on, each on its own stream. `-` leaves a stream out.
state "$1" look
echo "$m" >&2
[ "$2" = - ] || tail -c "+$(($2 + 1))" "$d/stdout" 2>/dev/null
[ "$3" = - ] || tail -c "+$(($3 + 1))" "$d/stderr" >&2 2>/dev/null
exit 0
