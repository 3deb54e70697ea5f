"""The shell scripts around XSched: its server's start and end, what its log proves, and a tenant in front of it."""

# Is there such a process, and not just its remains that nobody has waited for? Linux: proc_pid_status(5).
_ALIVE = r"""
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }
started() { s=$(cat "/proc/$1/stat" 2>/dev/null) && set -- ${s##*)} && echo "${20}"; } # a name may have blanks
ours() { alive "$1" && [ "$(started "$1")" = "$(cat "$2/start")" ]; }
"""

# $1: directory, then port, the tenants' Python and the server's argv. It is up when a socket of its own listens on the
# port, seen in its own network namespace. SysV queues that are there before are noted, and those that appear while it
# starts (own).
START = (
    _ALIVE
    + r"""
d=$1; port=$(printf '%04X' "$2"); python=$3; shift 3; mkdir -p "$d" || exit 1
queues() { awk 'NR > 1 {print $2}' /proc/sysvipc/msg 2>/dev/null | sort; }
queues >"$d/queues"
own() { queues | comm -13 "$d/queues" - >"$d/own"; :; }
# Loopback is down in a new network namespace; where there is no ip(8) the tenants' Python brings it up (netdevice(7):
# SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP).
up='import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags, = struct.unpack_from("h", fcntl.ioctl(s, 0x8913, struct.pack("16sh14x", b"lo", 0)), 16)
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))'
if unshare -n true 2>/dev/null; then
  setsid unshare -n sh -c '
    python=$1 up=$2; shift 2; ip link set lo up 2>/dev/null || "$python" -c "$up" 2>/dev/null; exec "$@"' \
    sh "$python" "$up" "$@" </dev/null >"$d/log" 2>&1 &
else
  setsid "$@" </dev/null >"$d/log" 2>&1 &
fi
p=$!; echo $p >"$d/pid"; started $p >"$d/start"
listens() {
  for inode in $(awk -v port=":$port" '$4 == "0A" && substr($2, length($2) - 4) == port {print $10}' \
    "/proc/$p/net/tcp" "/proc/$p/net/tcp6" 2>/dev/null)
  do ls -l "/proc/$p/fd" 2>/dev/null | grep -q "socket:\[$inode\]" && return 0; done
  return 1
}
n=0
until listens; do
  n=$((n + 1))
  if [ $n -ge 100 ] || ! alive "$p"; then
    own; tail -c 500 "$d/log" >&2; echo "the server does not listen" >&2; exit 1
  fi
  sleep 0.1
done
own
"""
)

GONE = "the server had ended before"

# $1: directory. Ends only the process that was started: pid and start time have to be the same. A server that was
# killed leaves its SysV queue (and one that finds a queue asks on stdin): of the new queues that are ours those go that
# appeared while it started or in which it took part, once their last sender and receiver are no more. Other programs
# make queues meanwhile.
STOP = (
    _ALIVE
    + rf"""
d=$1; [ -d "$d" ] || exit 0
p=$(cat "$d/pid" 2>/dev/null)
if [ -n "$p" ]; then
  ours "$p" "$d" || echo "{GONE}"
  for signal in TERM KILL; do
    n=0; ours "$p" "$d" && kill -$signal "$p"
    while ours "$p" "$d" && [ $n -lt 30 ]; do n=$((n + 1)); sleep 0.1; done
  done
  awk -v me="$(id -u)" 'NR > 1 && ($8 == me || $10 == me) {{print $2, $6, $7}}' /proc/sysvipc/msg 2>/dev/null |
  while read -r q sender receiver; do
    [ "$sender" = "$p" ] || [ "$receiver" = "$p" ] || grep -qsx "$q" "$d/own" || continue
    grep -qx "$q" "$d/queues" || alive "$sender" || alive "$receiver" || ipcrm -q "$q"
  done
fi
rm -rf "$d"
"""
)

# $1: directory. What the log says of the policy, of each process that has a queue and of the priorities those got, a
# line each however long the log is; then a word on the server itself. The log's lines are those of v1.2.0
# (service/server/src/server.cpp, sched/src/scheduler/local.cpp, sched/src/policy/hpf.cpp).
LOOK = (
    _ALIVE
    + r"""
d=$1; p=$(cat "$d/pid") || exit 1
LC_ALL=C awk '
  match($0, /scheduler created with policy [A-Z]+/) { policy = substr($0, RSTART + 30, RLENGTH - 30) }
  match($0, /policy changed from [A-Z]+ to [A-Z]+/) { n = split(substr($0, RSTART, RLENGTH), w, " "); policy = w[n] }
  match($0, /XQueue \(0x[0-9a-fA-F]+\) from process [0-9]+ created/) {
    split(substr($0, RSTART, RLENGTH), w, /[ ()]+/); owner[w[2]] = w[5]; queued[w[5]] = 1
  }
  match($0, /set priority -?[0-9]+ for XQueue 0x[0-9a-fA-F]+/) {
    split(substr($0, RSTART, RLENGTH), w, " "); priority[w[6]] = w[3]
  }
  END {
    print "policy " (policy == "" ? "unknown" : policy)
    for (pid in queued) print "XQueue from process " pid " created"
    for (q in owner) if (q in priority) seen[owner[q] " priority " priority[q]] = 1
    for (line in seen) print "process " line
  }' "$d/log" | sort
ours "$p" "$d" && echo "server alive"; :
"""
)

# $1: cuda or hip; $2: the driver's library, or nothing: then the first that the loader's cache or the usual places
# have; $3: the prefix; $4: the server's directory. The rest is the tenant's command line, which takes this shell's
# place: the shim is in front of that process alone. XSched only warns of a library that is not there, and schedules
# nothing then.
# Clients of a server that dies may hang for ever, so somebody looks after it, twice a second, and ends the tenant.
FRONT = (
    _ALIVE
    + r"""
kind=$1 lib=$2 prefix=$3 d=$4; shift 4
cached() { ldconfig -p 2>/dev/null | sed -n "s/^[[:space:]]*$1 (libc6[^)]*64[^)]*) => //p"; }
if [ -z "$lib" ]; then
  if [ "$kind" = hip ]; then places="$(cached 'libamdhip64\.so[.0-9]*') /opt/rocm/lib/libamdhip64.so"
  else places="$(cached 'libcuda\.so\.1') /usr/local/nvidia/lib64/libcuda.so.1 /usr/lib64/libcuda.so.1
    /usr/lib/$(uname -m)-linux-gnu/libcuda.so.1"; fi
  for lib in $places; do case $lib in "$prefix"/*) ;; *) [ -e "$lib" ] && break;; esac; done
fi
if [ ! -e "$lib" ]; then
  echo "XSched: the driver's library is not there: $lib (lab.toml: prefixes.$kind names it)" >&2; exit 4
fi
server=$(cat "$d/pid")
(
  while ours "$server" "$d" && alive $$; do sleep 0.5; done
  alive $$ && { echo "XSched: the server ended while tenants ran" >&2; kill -KILL $$; }
) </dev/null >/dev/null &
if [ "$kind" = hip ]; then LD_PRELOAD=$prefix/lib/libshimhip.so XSCHED_HIP_LIB=$lib exec "$@"; fi
LD_LIBRARY_PATH=$prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} XSCHED_CUDA_LIB=$lib CUXTRA_CUDA_LIB=$lib exec "$@"
"""
)

# $1: the prefix. Everything in it that holds code of a tenant's process or of the server.
FILES = 'cd "$1" && sha256sum bin/xserver $(find lib -name "*.so*" -type f | sort)'
