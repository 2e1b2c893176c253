# probe - OWNER: the state of every run that standard input names, one per line with
# `fence` or `look` behind it.
by=$2
while read -r run how; do
    state "$run" "$how"
done
