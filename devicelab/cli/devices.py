"""``devicelab devices``, ``facts`` and ``capture``: what there is, and what it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli._out import BoardOption, JsonOption, echo, print_json, print_table, say, table_as_it_comes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devicelab.knobs.cpufreq import Policy
    from devicelab.model.device import Facts

_TELLING = ("ro.product.model", "ro.board.platform", "ro.soc.model", "ro.hardware")
"""Properties that tell one kind of board from others."""


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command(epilog="Example: devicelab devices --json")
    def devices(json_: JsonOption = False) -> None:
        """List the devices that are attached or named in lab.toml, with board kind, root and health."""
        from dataclasses import asdict

        from devicelab.device import choose, lab
        from devicelab.ground import registry
        from devicelab.jobs.pin import healths

        found = choose.survey(lab.load_lab())
        told = {seen.entry.name: choose.as_json(seen) for seen in found.devices}
        rows = {name: {**row, "usable": False} for name, row in told.items()}
        answers = healths([seen.entry for seen in found.devices if seen.usable])
        if json_:
            rows |= {entry.name: {**told[entry.name], **asked} for entry, asked in answers}
            every, left_out = [rows[name] for name in told], [asdict(one) for one in registry.left_out()]
            blind, unready = [asdict(one) for one in found.blind], list(found.unready)
            print_json({"devices": every, "unavailable": blind, "unready": unready, "left_out": left_out})
            return
        add = table_as_it_comes(_COLUMNS, [(name, "", "", "", row["address"], "") for name, row in told.items()])
        for seen in found.devices:
            if not seen.usable:
                add(_row(rows[seen.entry.name]))
        for entry, asked in answers:
            rows[entry.name] = {**told[entry.name], **asked}
            add(_row(rows[entry.name]))
        for one in found.blind:
            say(f"{one.scheme} cannot look for devices: {one.error}{f' ({one.hint})' if one.hint else ''}")
        for todo in (*found.unready, *(f"{one.entry.name}: {one.hint}" for one in found.devices if one.hint)):
            say(todo)
        for row in rows.values():
            if row.get("pinned") or row.get("to_restore"):
                say(f"{row['name']}: `devicelab restore --board {row['name']}` puts back what it had")

    @app.command(epilog="Example: devicelab facts --board note10")
    def facts(board: BoardOption = None, json_: JsonOption = False) -> None:
        """Show what was read from a device: clusters, tables, GPU, zones, and what each knob can do there."""
        from devicelab import knobs
        from devicelab.device import choose
        from devicelab.device.facts import open_device
        from devicelab.knobs import cpufreq, show

        device = open_device(choose.choose(board))
        device.transport.close()
        facts = device.facts
        known, policies = knobs.known(facts), cpufreq.policies(facts)
        clusters = known.clusters
        if json_:
            data = facts.model_dump(mode="json")
            data["nodes"] = {path: node.model_dump(mode="json") for path, node in facts.tree.items()}
            data["clusters"] = [cluster.model_dump(mode="json") for cluster in clusters]
            data["policies"] = [
                {
                    "name": one.name, "cpus": one.cpus, "online": one.online, "table_khz": one.table,
                    "min_khz": one.lowest, "max_khz": one.highest,
                }
                for one in policies
            ]  # fmt: skip
            data["not_known"] = known.doubts
            print_json(data)
            return
        echo(f"{facts.name}: {facts.board.title}{' (simulated)' if facts.simulated else ''}")
        echo(f"{facts.abi}, kernel {facts.kernel}, root: {facts.root}, directory {facts.dir}")
        rows = []
        for cluster in clusters:
            ours = [policy for policy in policies if set(policy.cpus) & set(cluster.cpus)]
            rows.append((cluster.name, show(cluster.cpus), *_clocks(ours, facts)))
        print_table(("cluster", "CPUs", "frequencies", "now kHz", "governor"), rows)
        if offline := tuple(cpu for cpu in facts.cpus_present if cpu not in facts.cpus_online):
            echo(f"offline: CPUs {show(offline)}")
        for doubt in known.doubts:
            echo(f"not known: {doubt}")
        _show_more(facts)
        echo(f"{len(facts.tree)} nodes read; --json prints them all")

    @app.command(epilog="Example: devicelab capture --board X --to new-phone.tar.gz")
    def capture(
        to: Annotated[Path, typer.Option("--to", help="The archive to write.")] = Path("capture.tar.gz"),
        board: BoardOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Write a device's facts and sysfs tree into one archive, from which a virtual board can be made."""
        from devicelab.device import choose
        from devicelab.device.capture import write_capture
        from devicelab.device.facts import open_device
        from devicelab.jobs.pin import capture_patterns

        device = open_device(choose.choose(board), patterns=capture_patterns())
        device.transport.close()
        write_capture(device.facts, tuple(device.facts.tree.values()), to)
        if json_:
            print_json({"capture": str(to), "device": device.facts.name, "nodes": len(device.facts.tree)})
        else:
            say(f"{len(device.facts.tree)} nodes of {device.facts.name}")
            echo(str(to))


def _clocks(policies: "Sequence[Policy]", found: "Facts") -> tuple[str, str, str]:
    """Table or range, clock now and governor of a cluster's policies; several values where they differ."""
    spans = []
    for one in policies:
        points = f", {len(one.table)} points" if one.table else ", no table"
        spans.append(f"{one.lowest} … {one.highest} kHz{points}" if one.highest is not None else "not told")
    now, governors = (
        [found.tree.text(one.path(node)) or "?" for one in policies]
        for node in ("scaling_cur_freq", "scaling_governor")
    )
    shown = [" / ".join(dict.fromkeys(texts)) for texts in (spans, now, governors)]
    return shown[0], shown[1], shown[2]


def _show_more(found: "Facts") -> None:
    """Every knob there is, thermal zones, and what tells this board from others: what a board's file is made of."""
    from devicelab import knobs
    from devicelab.experiment import evidence

    families = {word: knobs.families(word, found) for word in knobs.words()}
    words = (f"{word} ({names[0]})" if word == "gpu" else word for word, names in families.items() if names)
    echo(f"can be set: {', '.join(words)}")
    silicon = set(evidence.thermal_zones(found).values())
    types = [found.tree.text(path) or "?" for path in found.tree.glob("/sys/class/thermal/thermal_zone*/type")]
    zones = ", ".join(dict.fromkeys(f"{kind}*" if kind in silicon else kind for kind in types))
    echo(f"thermal zones (* stands for the silicon): {zones or 'none'}")
    services = sorted(name.removeprefix("init.svc.") for name in found.props if name.startswith("init.svc."))
    restless = [name for name in services if any(word in name for word in ("thermal", "perf", "power"))]
    if restless:
        echo(f"services named after thermal, perf or power: {', '.join(restless)}")
    telling = ", ".join(f'{name} = "{found.props[name]}"' for name in _TELLING if found.props.get(name))
    if telling:
        echo(f"recognised by: {telling}")


_COLUMNS = (("name", 0), ("board", 20), ("ABI", 11), ("root", 8), ("address", 0), ("health", 0))
"""With the width that most need."""


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    board = f"{row.get('board') or '?'}{' (simulated)' if row.get('simulated') else ''}"
    return row["name"], board, row.get("abi"), row.get("root"), row["address"], _health(row)


def _health(row: dict[str, Any]) -> str:
    if row.get("error"):
        return f"{row['state']}: {row['error']}"
    if row.get("to_restore"):
        return f"{len(row['to_restore'])} things to restore"
    if row.get("pinned"):
        return "pinned"
    if row.get("busy") or row.get("holder"):
        return f"held by {row.get('holder') or 'an agent'}"
    if row.get("reserved"):
        return str(row["reserved"])
    return "ok" if row.get("usable") else str(row["state"])
