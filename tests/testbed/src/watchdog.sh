# Ends the servers of a test process that is gone. Reads "PID START SIGNAL" lines until the pipe from the
# test process closes, which the kernel does however that process ended. START is the start time of /proc/PID/stat:
# a process id that was given to somebody else since is left alone. $1 is the folder to remove.
trap '' HUP INT TERM
servers=
while read -r pid start signal; do servers="$servers $pid:$start:$signal"; done

# Sets ppid and start of process $1; fails when it is gone.
look() {
    line=
    { read -r line < "/proc/$1/stat"; } 2> /dev/null || return 1
    set -- ${line##*) }
    ppid=$2
    shift 19
    start=$1
}

doomed=
for server in $servers; do
    pid=${server%%:*} rest=${server#*:}
    look "$pid" && [ "$start" = "${rest%%:*}" ] || continue
    doomed="$doomed $pid"
    # A PostgreSQL backend has a session of its own: the process group does not reach it.
    for entry in /proc/[0-9]*; do
        look "${entry#/proc/}" && [ "$ppid" = "$pid" ] && doomed="$doomed ${entry#/proc/}"
    done
    # An immediate stop lets PostgreSQL release its shared memory, which SIGKILL would leave behind.
    [ "${rest##*:}" = QUIT ] && kill -QUIT "$pid" && for one in $doomed; do kill -CONT "$one"; done
done 2> /dev/null

tries=20
while [ "$tries" -gt 0 ]; do
    left=
    for one in $doomed; do [ -d "/proc/$one" ] && left=1; done
    case "$servers" in *QUIT*) ;; *) left= ;; esac
    [ -n "$left" ] || break
    sleep 0.05
    tries=$((tries - 1))
done
[ -n "$doomed" ] && kill -KILL $doomed 2> /dev/null
rm -rf "$1"
