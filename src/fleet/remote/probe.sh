# probe: the state of every run that standard input names, one per line with
# `fence` or `look` behind it.
while read -r run how; do
    state "$run" "$how"
done
