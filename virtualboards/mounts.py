"""``mount`` and ``umount`` on a board: what Android has mounted, and control groups mounted once more elsewhere.

A hierarchy that is mounted already appears at the new place with the options it has (kernel/cgroup/cgroup-v1.c:
``cgroup1_root_to_use``); a combination of controllers that no hierarchy has is busy.
"""

from collections.abc import Callable, Mapping, Sequence

from virtualboards.android import Answer

_GROUP = "rw,nosuid,nodev,noexec,relatime"
_FIXED = (
    "/dev/block/dm-0 on / type ext4 (ro,seclabel,nodev,relatime)",
    "tmpfs on /dev type tmpfs (rw,seclabel,nosuid,relatime,mode=755)",
    "devpts on /dev/pts type devpts (rw,seclabel,relatime,mode=600)",
    "proc on /proc type proc (rw,relatime,gid=3009,hidepid=2)",
    "sysfs on /sys type sysfs (rw,seclabel,relatime)",
    "/dev/block/by-name/userdata on /data type f2fs (rw,seclabel,nosuid,nodev,noatime)",
    "/data/media on /storage/emulated type sdcardfs (rw,nosuid,nodev,noexec,noatime)",
)
_GENERAL = {"rw", "ro", "noprefix", "nosuid", "nodev", "noexec", "relatime", "xattr"}

Bind = tuple[str, str]


class Mounts:
    """The mounts of one board; ``controllers`` gives controller → where its hierarchy is mounted."""

    def __init__(self, controllers: Callable[[], Mapping[str, str]]) -> None:
        self._controllers = controllers
        self._made: dict[str, str] = {}

    def boot(self) -> None:
        """Nothing but what Android mounts."""
        self._made.clear()

    def listing(self) -> str:
        """What ``mount`` prints."""
        options = {name: name + (",noprefix" if name == "cpuset" else "") for name in self._controllers()}
        groups = [
            f"none on {path} type cgroup ({_GROUP},{options[name]})" for name, path in self._controllers().items()
        ]
        return "".join(f"{line}\n" for line in (*_FIXED, *groups, *self._made.values()))

    def mount(self, args: Sequence[str], uid: int) -> Bind:
        """Source and target of the bind mount that ``mount ARGS`` stands for.

        Raises:
            Answer: nothing is to be done, or it is refused; says why.
        """
        kind, options, names = _parse(args)
        if not names and not options:
            raise Answer(0, self.listing())
        if uid:
            raise Answer(
                1, f"mount: '{names[0] if names else ''}'->'{names[-1] if names else ''}': Operation not permitted\n"
            )
        if "remount" in options:
            raise Answer(0)
        wanted = [word for word in options if word not in _GENERAL]
        if len(names) != 2 or kind not in {"cgroup", "cpuset"} or not names[1].startswith("/"):
            raise Answer(1, f"mount: '{' '.join(names)}': Invalid argument\n")
        device, target = names
        if kind == "cpuset":
            wanted = ["cpuset"]
        roots = {self._controllers().get(word, "") for word in wanted}
        if "" in roots or not roots:
            raise Answer(1, f"mount: '{device}'->'{target}': Invalid argument\n")
        if len(roots) > 1 or len(wanted) > 1:
            raise Answer(1, f"mount: '{device}'->'{target}': Device or resource busy\n")
        option = wanted[0] + (",noprefix" if wanted == ["cpuset"] else "")
        self._made[target] = f"{device} on {target} type cgroup ({_GROUP},{option})"
        return roots.pop(), target

    def failed(self, target: str) -> None:
        """The mount did not come about."""
        self._made.pop(target, None)

    def unmount(self, args: Sequence[str], uid: int) -> str:
        """Which mount of ours ``umount ARGS`` means.

        Raises:
            Answer: it is refused; says why.
        """
        names = [word for word in args if not word.startswith("-")]
        if len(names) != 1 or names[0].rstrip("/") not in self._made or uid:
            raise Answer(1, f"umount: {' '.join(names)}: {'Operation not permitted' if uid else 'Invalid argument'}\n")
        target = names[0].rstrip("/")
        del self._made[target]
        return target


def _parse(args: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Type, options and names of a ``mount`` command line."""
    kind, words = "", list(args)
    options: list[str] = []
    names: list[str] = []
    while words:
        word = words.pop(0)
        if word in {"-t", "-o"} and words:
            value = words.pop(0)
            kind, options = (value, options) if word == "-t" else (kind, options + value.split(","))
        elif word == "-o" or not word.startswith("-"):
            names.append(word)
    return kind, options, names
