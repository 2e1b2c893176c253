# Words that every script begins with. The run is $1, and $m begins each line
# that is ours: what a login's own files print before it is skipped.
# Nothing here forks where Linux can be asked by reading a file. Functions have
# no variables of their own; b, B, t and q are theirs.
set -f
r=$1
m=fleetd-$r
d=${HOME:-$(cd && pwd)}/.fleetd/runs/$r
# born PID: sets b to the start of that process, empty if there is none.
born() {
    b=
    if [ -r /proc/self/stat ]; then
        read -r q 2>/dev/null </proc/"$1"/stat || return 0
        # The name, in brackets, may hold anything.
        set -- ${q##*) }
        # A zombie is not there any more.
        [ "$1" = Z ] || b=${20}
    else
        set -- $(ps -o lstart= -p "$1" 2>/dev/null)
        b=$1$2$3$4$5
    fi
}
# boot: sets B to the life of this machine, boot id and start of process 1.
boot() {
    i=
    read -r i 2>/dev/null </proc/sys/kernel/random/boot_id ||
        i=$(sysctl -n kern.bootsessionuuid 2>/dev/null || sysctl -n kern.boottime 2>/dev/null)
    set -- $i
    [ $# -le 1 ] || i=$4
    born 1
    B=${i:--}/${b:--}
}
# now: sets t to hundredths of a second since the boot, or since 1970.
now() {
    if read -r t q 2>/dev/null </proc/uptime; then
        t=${t%.*}${t#*.}
    else
        t=$(date +%s)00
    fi
}
# nap: a tenth of a second, where sleep can do that.
nap() {
    sleep 0.1 2>/dev/null || sleep 1
}
