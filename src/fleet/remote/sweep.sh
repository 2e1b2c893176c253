# sweep DAYS OWNER: forgets runs. Standard input names runs whose output the daemon
# has: that goes at once, what says that they ran and how they ended stays.
# Directories of OWNER's ended runs older than DAYS go as a whole; another
# daemon may still want to know of its own.
cd "${d%/*}" 2>/dev/null || exit 0
by=$2
while read -r l; do
    [ ! -e "$l/status" ] || rm -f "$l"/stdout "$l"/stderr
done
set -- $(find . -type d -name "*-*-*-*-*" -mtime "+$r" 2>/dev/null)
boot
for l; do
    [ -e "$l/by.$by" ] || continue
    if [ -e "$l/status" ] || [ ! -e "$l/pid" ]; then
        rm -rf "$l"
    elif read -r n n pB n <"$l/pid" && [ "$B" != "$pB" ]; then
        rm -rf "$l"
    fi
done
echo "$m swept"
