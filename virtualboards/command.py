"""``devicelab sim``: virtual boards, so that every job can be tried and tested without a phone."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import JsonOption, echo, print_json, print_table, say


def _complete_kind(incomplete: str) -> list[str]:
    from virtualboards.kernel import kind_names

    return [kind for kind in kind_names() if kind.startswith(incomplete)]


def _complete_name(incomplete: str) -> list[str]:
    from virtualboards import lifecycle

    return [item.name for item in lifecycle.boards() if item.name.startswith(incomplete)]


def _complete_fault(incomplete: str) -> list[str]:
    from virtualboards.faults import FAULTS

    return [fault for fault in (*FAULTS, "random") if fault.startswith(incomplete)]


NameArgument = Annotated[str, typer.Argument(help="The board's name or serial.", autocompletion=_complete_name)]


def _up_machines(kind: str | None, capture: Path | None, name: str | None, count: int, *, json_: bool) -> None:
    from dataclasses import asdict

    from virtualboards.kernel import load_spec, spec_from_capture
    from virtualboards.qemu import machine

    spec = spec_from_capture(capture) if capture else load_spec(kind or "")
    names = [name if count == 1 or name is None else f"{name}-{number}" for number in range(1, count + 1)]
    started = [machine.up(spec, name=chosen) for chosen in names]
    if json_:
        print_json({"machines": [asdict(one) for one in started]})
        return
    for one in started:
        say(f"{one.name}: {spec.title}, with a real kernel, x86_64, root")
        echo(one.address)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    sim = typer.Typer(name="sim", help="Virtual boards: start, list, disturb and end them.", no_args_is_help=True)
    app.add_typer(sim)

    @sim.command(epilog="Example: devicelab sim up note10 && devicelab load 1000 5000 20 --board note10")
    def up(
        kind: Annotated[
            str | None, typer.Argument(help="Kind of board (see devicelab sim kinds).", autocompletion=_complete_kind)
        ] = None,
        name: Annotated[str | None, typer.Option("--name", help="Name of the board; the kind if left out.")] = None,
        count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many to start.")] = 1,
        capture: Annotated[
            Path | None, typer.Option("--from", help="Archive of `devicelab capture`, instead of a kind.")
        ] = None,
        shell_v2: Annotated[
            bool | None, typer.Option("--shell-v2/--no-shell-v2", help="Offer adb's shell protocol v2 or do not.")
        ] = None,
        su: Annotated[str | None, typer.Option("--su", help="Root: none, magisk, su-0 or adb-root.")] = None,
        abi: Annotated[str | None, typer.Option("--abi", help="arm64-v8a (through qemu) or x86_64.")] = None,
        seed: Annotated[int, typer.Option("--seed", help="Of noise and chance; the next board's is one higher.")] = 0,
        boot_s: Annotated[float, typer.Option("--boot-s", min=0, help="How long a reboot takes, seconds.")] = 1.0,
        kernel: Annotated[
            bool, typer.Option("--kernel", help="With a real Linux kernel, in QEMU and over ssh, instead of adb.")
        ] = False,
        json_: JsonOption = False,
    ) -> None:
        """Start virtual boards, attach them to the adb server and print their serials."""
        from typing import cast

        from devicelab.errors import ConfigError
        from virtualboards import lifecycle
        from virtualboards.users import Su

        if (kind is None) == (capture is None):
            raise ConfigError("give a kind of board or --from ARCHIVE, one of them", hint="devicelab sim kinds")
        if kernel:
            _up_machines(kind, capture, name, count, json_=json_)
            return
        started = lifecycle.up(
            kind or "",
            name=name,
            count=count,
            capture=capture,
            seed=seed,
            su=cast("Su | None", su),
            shell_v2=shell_v2,
            abi=abi,
            boot_s=boot_s,
        )
        if json_:
            print_json({"boards": [item.as_dict() for item in started]})
            return
        for item in started:
            say(f"{item.name}: {item.title}, {item.abi}, root: {item.su}")
            echo(item.serial)

    @sim.command("list", epilog="Example: devicelab sim list --json")
    def list_(json_: JsonOption = False) -> None:
        """List the virtual boards that run."""
        from dataclasses import asdict

        from virtualboards import lifecycle
        from virtualboards.qemu import machine

        running, machines = lifecycle.boards(), machine.machines()
        if json_:
            print_json({"boards": [item.as_dict() for item in running], "machines": [asdict(one) for one in machines]})
            return
        if not (running or machines):
            say("no virtual board is up (devicelab sim up KIND starts one)")
            return
        rows = [(item.name, item.kind, item.serial, item.abi, item.su, str(item.pid)) for item in running]
        rows += [(one.name, one.kind, one.address, "x86_64", "self", str(one.pid)) for one in machines]
        print_table(("name", "kind", "serial", "ABI", "root", "pid"), rows)

    @sim.command(epilog="Example: devicelab sim kinds")
    def kinds(json_: JsonOption = False) -> None:
        """List the kinds of virtual boards there are."""
        from virtualboards.kernel import kind_names, load_spec

        specs = [load_spec(kind) for kind in kind_names()]
        if json_:
            print_json({"kinds": [{"kind": s.kind, "title": s.title, "abi": s.abi, "su": s.su} for s in specs]})
            return
        print_table(("kind", "title", "ABI", "root"), [(s.kind, s.title, s.abi, s.su) for s in specs])

    @sim.command(epilog="Example: devicelab sim down --all")
    def down(
        names: Annotated[
            list[str] | None, typer.Argument(help="Names or serials.", autocompletion=_complete_name)
        ] = None,
        all_: Annotated[bool, typer.Option("--all", help="End every virtual board.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """End virtual boards; nothing of them is left."""
        from devicelab.errors import ConfigError
        from virtualboards import lifecycle

        if bool(names) == all_:
            raise ConfigError("name the boards to end, or give --all", hint="devicelab sim list")
        from virtualboards.qemu import machine

        ours = [one for one in machine.machines() if all_ or one.name in (names or ()) or one.address in (names or ())]
        ended = []
        for one in ours:
            machine.down(one)
            ended.append(one.name)
        others = [name for name in names or () if not any(name in {one.name, one.address} for one in ours)]
        if all_ or others:
            ended += lifecycle.down(others, everything=all_)
        if json_:
            print_json({"ended": ended})
        else:
            for name in ended:
                say(f"{name}: down")

    @sim.command(epilog="Example: devicelab sim fault note10 drop --at-bytes 1000000")
    def fault(
        name: NameArgument,
        what: Annotated[
            str,
            typer.Argument(
                help="drop, reboot, hang, slow, disk-full, thermal, daemon, kill-su, corrupt; "
                "clear ends what lasts; random is a campaign.",
                autocompletion=_complete_fault,
            ),
        ],
        args: Annotated[
            list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Arguments of the fault, as count=3.")
        ] = None,
        after_s: Annotated[float | None, typer.Option("--after-s", help="That many seconds from now.")] = None,
        at_bytes: Annotated[int | None, typer.Option("--at-bytes", help="After that many bytes over adb.")] = None,
        at_runs: Annotated[int | None, typer.Option("--at-runs", help="After that many finished runs.")] = None,
        for_s: Annotated[float | None, typer.Option("--for-s", help="How long it lasts; 0: until clear.")] = None,
        seed: Annotated[int, typer.Option("--seed", help="Of what is random in it.")] = 0,
        count: Annotated[int, typer.Option("--count", min=1, help="random: number of faults.")] = 10,
        every_s: Annotated[float, typer.Option("--every-s", min=0.01, help="random: mean time between two.")] = 5.0,
        json_: JsonOption = False,
    ) -> None:
        """Disturb a virtual board: now, after a time, or at a count of bytes or of runs."""
        from virtualboards import faults, lifecycle

        values = _arguments(args or [])
        if what == "random":
            among = tuple(str(values["among"]).split(",")) if "among" in values else faults.CAMPAIGN_FAULTS
            wanted = faults.campaign(seed, count, every_s, among)
        else:
            wanted = (
                faults.Fault.from_dict(
                    {
                        "fault": what,
                        "after_s": after_s,
                        "at_bytes": at_bytes,
                        "at_runs": at_runs,
                        "for_s": for_s,
                        "seed": seed,
                        "args": values,
                    }
                ),
            )
        waiting = lifecycle.arm(name, wanted)
        if json_:
            print_json({"faults": [item.as_dict() for item in wanted], "armed": waiting})
        else:
            say(f"{name}: {what}, {waiting} waiting for their time" if waiting else f"{name}: {what}")

    @sim.command(epilog="Example: devicelab sim stats note10")
    def stats(name: NameArgument, json_: JsonOption = False) -> None:  # noqa: ARG001  # it has no other form
        """Print what passed over adb by service, the processes inside, and the faults performed, as JSON."""
        from virtualboards import lifecycle

        print_json(lifecycle.ask(name, {"do": "stats"}))


def _arguments(words: list[str]) -> dict[str, float | str]:
    from devicelab.errors import ConfigError

    values: dict[str, float | str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"not KEY=VALUE: {word!r}")
        try:
            values[key] = float(text)
        except ValueError:
            values[key] = text
    return values
