"""The few POSIX shell scripts that transports run on a device, and how what they print is read.

They use nothing but builtins and programs of toybox, so that they run on any Android and any Linux. Values reach them
as positional parameters only; no text is ever pasted into them.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from devicelab.errors import ConfigError

NO_DIGEST = 71
MISMATCH = 72

# First line of a command on stderr: a random token and /proc/PID/stat of the shell that becomes the command. It costs
# no process and no round trip, and tells whom to end after a time-out. Expects the token in $1.
_STAT_LINE = "{ IFS= read -r _dl </proc/$$/stat; } 2>/dev/null || _dl=$$; "
HEADER = _STAT_LINE + 'echo "$1 $_dl" >&2; shift; '

# Puts the program's path in place of its name.
_LOOKUP = r"""
case $1 in */*) ;; *)
  _dl=; _dl_ifs=$IFS; IFS=:
  for _dl_dir in $PATH; do
    [ -f "$_dl_dir/$1" ] && [ -x "$_dl_dir/$1" ] && { _dl=$_dl_dir/$1; break; }
  done
  IFS=$_dl_ifs
  [ -n "$_dl" ] || { echo "$1: not found" >&2; exit 127; }
  shift; set -- "$_dl" "$@";;
esac
"""

# `exec` runs the program where the shell has a builtin of that name. Not so in Android's mksh, whose echo, for one, is
# not the program's equal: there the program is looked up first.
_PROGRAM = f'if [ -n "${{KSH_VERSION-}}" ]; then {_LOOKUP} fi\n'

EXEC = HEADER + _PROGRAM + 'exec "$@"'

# As EXEC for a command that gets no input: nothing has to be sent to end it.
EXEC_WITHOUT_INPUT = "exec </dev/null; " + EXEC

# The shell stays, and turns a signal into 128 + n. It says nothing itself ("Killed"): its own stderr is closed off, the
# program's is not. (Redirecting the subshell from outside would take mksh's own words along.)
_CHILD = "exec 3>&2 2>/dev/null; (" + _PROGRAM + 'exec "$@" ) 2>&3 3>&-; '

# As EXEC where a signal that ends the session's shell would be lost. The token on stdout tells where the command's own
# output begins: an rc file of the login shell may print before it.
EXEC_AND_WAIT = _STAT_LINE + 'echo "$1 $_dl" >&2; echo "$1"; shift; ' + _CHILD + "exit $?"

# As EXEC for a command that gets input: what it does not read is taken off here. An adbd of 2016 or 2017 (Android 7)
# that finds nobody to give input to closes the stream, and with it goes what the command had said.
EXEC_AND_DRAIN = HEADER + _CHILD + "_dl=$?; cat >/dev/null; exit $_dl"

# For an adb without shell_v2, whose one stream has no exit code: token and header line, the program's stdout, token and
# exit code, the program's stderr, token. $1 and $2 token in two halves, so that no list of processes shows it whole; $3
# file to take as stdin and remove (empty: stdin as it is), rest the program. The file for stderr is unlinked as soon as
# it is open, so nothing stays behind whatever happens.
LEGACY = (
    "exec 2>/dev/null\n"
    + _STAT_LINE
    + r"""
token=$1$2 input=$3; shift 3
echo "$token $_dl"
for dir in /data/local/tmp "${TMPDIR:-/tmp}" /tmp; do err=$dir/.${token#?}; true >"$err" && break; done
[ -e "$err" ] || { echo "$token 73"; echo "no folder for temporary files"; echo "$token"; exit; }
exec 4>"$err" 5<"$err"; rm -f "$err"
if [ -n "$input" ]; then exec <"$input"; [ "$input" = /dev/null ] || rm -f "$input"; fi
( exec 2>&4 4>&- 5<&-
"""
    + _PROGRAM
    + r"""exec "$@" ); code=$?
echo "$token $code"; cat <&5; echo "$token"
"""
)

# $1 pid of a session's first process, $2 its start time in ticks (may be empty). Kills whoever is in its session or
# process group or descends from it, again and again until nobody is left (zombies are dead). A pid cannot be used
# anew while a session or group still bears it, hence another start time means that all are gone.
KILL = r"""
top=$1 start=$2 known=" $1 " tries=0
case $top in ''|0|1|*[!0-9]*) exit 2;; esac
if [ -n "$start" ] && { IFS= read -r line <"/proc/$top/stat"; } 2>/dev/null; then
  set -- ${line##*) }; shift 19
  [ "$1" = "$start" ] || exit 0
fi
while :; do
  more=1
  while [ $more = 1 ]; do
    more=0 alive=
    for dir in /proc/[0-9]*; do
      { IFS= read -r line <"$dir/stat"; } 2>/dev/null || continue
      pid=${dir#/proc/}
      set -- ${line##*) }
      case $known in
        *" $pid "*) ;;
        *" $2 "*) known="$known$pid " more=1;;
        *) [ "$3" = "$top" ] || [ "$4" = "$top" ] || continue; known="$known$pid " more=1;;
      esac
      case $1 in Z|X) ;; *) alive="$alive $pid";; esac
    done
  done
  [ -n "$alive" ] || exit 0
  [ $tries -lt 50 ] || { echo $alive; exit 1; }
  tries=$((tries + 1))
  for pid in $alive; do kill -9 "$pid" 2>/dev/null; done
  sleep 0.02 2>/dev/null || sleep 1
done
"""

# $1 log, rest the program. A subshell in the background leads no process group, so setsid(1) need not fork. SIGHUP is
# ignored before it is made, and that is inherited: the session's end may come before its first instruction. With all
# three streams detached nothing holds the session open. The program is looked up here because toybox's setsid prefers
# toybox's own program of a name (su) to the one in PATH.
START = (
    "trap '' HUP\nlog=$1; shift\n"
    + _LOOKUP
    + r"""
true >"$log" || exit 73
if command -v setsid >/dev/null
then ( exec setsid "$@" ) </dev/null >"$log" 2>&1 &
else ( exec "$@" ) </dev/null >"$log" 2>&1 &
fi
"""
)

# $1 file to wait for (may be empty), rest the program that follows it. A guard reads our stdin: when that ends, we
# closed it or the connection died, and the follower is ended.
FOLLOW = r"""
file=$1; shift
exec 3<&0
( exec 3<&-
  if [ -n "$file" ]; then
    until [ -e "$file" ]; do { sleep 0.1 || sleep 1; } >/dev/null 2>&1; done
  fi
  exec "$@" ) </dev/null & follower=$!
( read -r line <&3; kill -9 $follower ) </dev/null >/dev/null 2>&1 & guard=$!
wait $follower; code=$?
exec 2>/dev/null
kill -9 $guard; wait $guard
exit $code
"""

# Groups of four: temporary name, final name, SHA-256 (empty: checked elsewhere), octal mode. All are checked before
# the first is renamed. Some file systems (/sdcard) refuse every chmod, which matters to programs alone. Redirections
# instead of arguments keep odd names out of the tools' output.
PLACE = r"""
digest() { sha256sum 2>/dev/null || toybox sha256sum 2>/dev/null || busybox sha256sum 2>/dev/null; }
check() {
  while [ $# -gt 0 ]; do
    if [ -n "$3" ]; then
      sum=$(digest <"$1")
      case $sum in '') return 71;; "$3 "*) ;; *) echo "$2"; return 72;; esac
    fi
    [ ! -d "$2" ] || { echo "$2 is a directory" >&2; return 73; }
    shift 4
  done
}
place() {
  while [ $# -gt 0 ]; do
    chmod "$4" "$1" || case $4 in *[1357]*) return 73;; esac
    mv -f "$1" "$2" || return 73
    shift 4
  done
}
forget() { while [ $# -gt 0 ]; do rm -f "$1"; shift 4; done; }
check "$@" && place "$@"; code=$?
case $code in 0|71) ;; *) forget "$@";; esac
exit $code
"""

# $1 command lines that come first, rest the program: it runs only if they succeed, and what they say stays before this
# word on a line of its own.
BEGUN = "begun"
_FIRST = 'eval "$1" </dev/null || exit; shift\n' + f"echo {BEGUN}\n"

AFTER = _FIRST + _PROGRAM + 'exec "$@"'

# The same with FOLLOW and its arguments behind the command lines.
AFTER_FOLLOW = _FIRST + FOLLOW

FORGET = 'rm -f "$@"'

# $1 file to write from stdin, missing folders above it are made.
RECEIVE = r"""
case $1 in */*) [ -d "${1%/*}/" ] || mkdir -p "${1%/*}/" || exit;; esac
exec cat >"$1"
"""

SEND = 'exec cat <"$1"'


@dataclass(frozen=True)
class Leader:
    """The first process of a command on the device: its pid and its start time in ticks since boot (if known)."""

    pid: int
    start_ticks: int | None


def script(text: str, *args: str) -> tuple[str, ...]:
    """The argv that runs one of the scripts of this module."""
    return ("sh", "-c", text, "sh", *args)


def new_token() -> str:
    """A word that no program prints by chance.

    It begins with a rare byte: output that ends like the beginning of a token has to be held back until more comes.
    """
    return f"\x1edevicelab-{secrets.token_hex(16)}"


def new_name() -> str:
    """A hidden file's name that nobody else has."""
    return f".devicelab-{secrets.token_hex(8)}"


_STAT = re.compile(rb"(\d{1,10})(?: \(.*\) (.*))?")


def parse_header(line: bytes) -> Leader | None:
    """The header line (behind its token) as the command's leader; ``None`` if it is garbled."""
    match = _STAT.fullmatch(line.strip())
    if match is None:
        return None
    fields = (match[2] or b"").split()
    # Field 22 of /proc/PID/stat (proc(5)) is the start time; the first two stand before these.
    start = int(fields[19]) if len(fields) > 19 and re.fullmatch(rb"[0-9]{1,20}", fields[19]) else None
    return Leader(int(match[1]), start)


def checked_argv(argv: Sequence[str], device: str) -> tuple[str, ...]:
    """The argv, if it can be a command line at all.

    Raises:
        ConfigError: it is empty, begins with a hyphen or holds a NUL.
    """
    if not argv or not argv[0] or argv[0].startswith("-"):
        raise ConfigError(f"not a command: {list(argv)!r}", device=device)
    if any("\0" in word for word in argv):
        raise ConfigError(f"a word of a command cannot hold a NUL: {argv[0]}", device=device)
    return tuple(argv)


def plain_path(path: str, device: str) -> str:
    """The path in a form that no program takes for an option.

    Raises:
        ConfigError: it is empty or holds a NUL.
    """
    if not path or "\0" in path:
        raise ConfigError(f"not a path: {path!r}", device=device)
    return f"./{path}" if path.startswith("-") else path
