"""The site of a farm: plain pages in a folder, made anew in seconds because only pages whose data changed are.

Pages refer to each other by relative links alone, load nothing and run no script: a file share is enough to serve
them. Each page takes the place of the old one at once; the list of nights comes last, so that what it links to is
there. ``.devicelab-site.json`` says what each page was made from.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from devicelab import __version__
from devicelab.errors import ConfigError
from devicelab.model.campaign import CampaignInfo
from devicelab.model.night import Health, NightInfo, Quarantine
from devicelab.report import site_history, site_pages
from devicelab.report.build import build_report
from devicelab.report.night_view import read_night
from devicelab.report.page import environment, scripts_for
from devicelab.report.site_files import SiteBuild, SiteFiles, digest, in_turn, made_from
from devicelab.store.nights_overview import NightCounts
from devicelab.store.reading import StoreReader

_MAX_LOOKS = 1500


def build_site(reader: StoreReader, directory: Path, *, farm: str | None = None, reports: int = 1) -> Path:
    """``update_site``, and the page to open."""
    return update_site(reader, directory, farm=farm, reports=reports).index


def update_site(reader: StoreReader, directory: Path, *, farm: str | None = None, reports: int = 1) -> SiteBuild:
    """Make the site, or bring it up to date.

    Args:
        reader: where the nights are.
        directory: made if it is not there; an existing one must be empty or a site.
        farm: only the nights of that name.
        reports: for so many of the newest nights of each farm every campaign gets its report page (some seconds
            each, once). Reports that are there already stay as long as their campaign is stored.

    Raises:
        ConfigError: the folder holds something else, or cannot be written; no night of that farm.
        StoreError: the store cannot be read.
    """
    with in_turn(directory):
        return _updated(reader, directory, farm, reports)


def _updated(reader: StoreReader, directory: Path, farm: str | None, reports: int) -> SiteBuild:
    made = SiteFiles(directory)
    nights = reader.nights(farm=farm)
    if farm is not None and not nights:
        known = sorted({info.farm for info in reader.nights()})
        raise ConfigError(f"no night of a farm {farm!r} is stored", hint=f"known: {', '.join(known) or 'none'}")
    data = _read(reader, nights)
    made.begin()
    _reports(reader, data, made, reports)
    places = site_pages.Places(
        nights={info.night: info.started_unix_ns for info in data.nights},
        devices=frozenset(data.devices),
        experiments=frozenset(data.experiments),
        reports=frozenset(c.campaign for c in data.campaigns if made.has(site_pages.report_place(c.campaign))),
    )
    render = _Renderer(made, data)
    _nights(reader, data, places, render)
    experiments = _experiments(reader, data, places, render)
    devices = _devices(reader, data, places, render)
    _index(reader, data, places, render, devices=devices, experiments=experiments)
    made.finish()
    return made.build


@dataclass(frozen=True)
class _Data:
    """What several pages need; ``mark`` changes when anything in the store that is shown does."""

    nights: tuple[NightInfo, ...]
    counts: Mapping[str, NightCounts]
    campaigns: tuple[CampaignInfo, ...]
    simulated: frozenset[str]
    quarantines: tuple[Quarantine, ...]
    devices: tuple[str, ...]
    experiments: tuple[str, ...]
    mark: str


def _read(reader: StoreReader, nights: tuple[NightInfo, ...]) -> _Data:
    shown = {info.night for info in nights}
    every = reader.night_counts()
    counts = {info.night: every[info.night] for info in nights if info.night in every}
    nights = tuple(info for info in nights if info.night in counts)  # one may have begun since
    campaigns = tuple(info for info in reader.campaigns() if info.night in shown)
    devices = {device for one in counts.values() for device in one.devices}
    quarantines = tuple(one for one in reader.quarantines() if one.device in devices or one.night in shown)
    newest = reader.health(limit=1)
    return _Data(
        nights=nights,
        counts=counts,
        campaigns=campaigns,
        simulated=reader.simulated_campaigns(),
        quarantines=quarantines,
        devices=tuple(sorted(devices | {one.device for one in quarantines})),
        experiments=tuple(sorted({info.experiment for info in campaigns})),
        mark=digest([one.mark for one in counts.values()], quarantines, newest),
    )


def _reports(reader: StoreReader, data: _Data, made: SiteFiles, nights: int) -> None:
    """Reports of the newest nights are made, older ones kept; one that fails costs nothing but itself."""
    per_farm: dict[str, list[str]] = defaultdict(list)
    for info in data.nights:
        per_farm[info.farm].append(info.night)
    wanted = {night for found in per_farm.values() for night in found[:nights]}
    for campaign in data.campaigns:
        place = site_pages.report_place(campaign.campaign)
        key = digest(made_from(), campaign)
        if made.current(place, key):
            made.keep(place, key)
        elif campaign.night in wanted and campaign.runs_done:
            try:
                build_report(reader, campaign.campaign, made.directory / place)
            except Exception as error:  # noqa: BLE001 - one report's failure must not cost the site; it is told
                made.build.problems.append(f"no report of {campaign.campaign}: {error}")
            else:
                made.wrote(place, key)
        elif made.known(place):
            made.keep(place, made.key(place))


def _nights(reader: StoreReader, data: _Data, places: site_pages.Places, render: "_Renderer") -> None:
    order: dict[str, list[NightInfo]] = defaultdict(list)
    for info in data.nights:
        order[info.farm].append(info)
    linked: dict[str | None, list[str]] = defaultdict(list)
    for campaign in data.campaigns:
        if campaign.campaign in places.reports:
            linked[campaign.night].append(campaign.campaign)
    for infos in order.values():
        for newer, info, older in zip([None, *infos], infos, [*infos[1:], None], strict=False):
            around = [other.night if other else None for other in (newer, older)]
            own = [one for one in data.quarantines if one.night == info.night]
            key = digest(data.counts[info.night].mark, around, own, linked[info.night])

            def page(info: NightInfo = info, newer: NightInfo | None = newer, older: NightInfo | None = older) -> Any:
                return site_pages.night_page(
                    read_night(reader, info.night),
                    places,
                    looks=reader.health(night=info.night),
                    flags=reader.night_flags(info.night),
                    newer=newer,
                    older=older,
                )

            render(places.night(info.night), "night", key, page)


def _experiments(
    reader: StoreReader, data: _Data, places: site_pages.Places, render: "_Renderer"
) -> list[dict[str, Any]]:
    """Write the pages of experiments; their rows for the list."""
    started = {info.night: info.started_unix_ns for info in data.nights}
    rows = []
    for name in data.experiments:
        own = [info for info in data.campaigns if info.experiment == name]
        # Judged once for all pages: every night that ran the experiment would change all its charts.
        nights = sorted({info.night for info in own if info.night is not None})
        key = digest("experiment", name, [data.counts[night].mark for night in nights])
        row = render.made.remembered(f"experiment {name}", key)
        if row is None:
            row = _experiment(reader, name, own, started, places, render, data, key)
            render.made.remember(f"experiment {name}", key, row)
        else:
            render.made.keep_group(f"experiment {name}")
        rows.append(row["row"])
    return rows


def _experiment(
    reader: StoreReader,
    name: str,
    campaigns: Sequence[CampaignInfo],
    started: Mapping[str, int],
    places: site_pages.Places,
    render: "_Renderer",
    data: _Data,
    key: str,
) -> dict[str, Any]:
    verdicts = reader.verdict_frame(name)
    judged = set(zip(verdicts["program"], verdicts["metric"], strict=True))
    medians = reader.night_medians(name, judged or None)
    if not judged and len(medians):
        # Before anything was judged: the first figure the workload gives.
        first = medians.drop_duplicates(["device", "cell_id"])[["program", "metric"]].drop_duplicates()
        medians = medians.merge(first, on=["program", "metric"])
    series = site_history.all_series(medians, verdicts, started)
    simulated = frozenset(info.device for info in campaigns if info.campaign in data.simulated)
    pages = []
    question = campaigns[0].question
    for place, content in site_history.experiment_pages(name, question, series, started, places, simulated):
        render(place, "experiment", digest(key, place), lambda content=content: content)
        pages.append(place)
    row = site_history.experiment_row(name, question, series, places, simulated=bool(simulated))
    return {"row": row, "pages": pages}


def _devices(reader: StoreReader, data: _Data, places: site_pages.Places, render: "_Renderer") -> list[dict[str, Any]]:
    """Write the pages of devices; their rows for the list."""
    rows = []
    for device in data.devices:
        looks = reader.health(device=device, limit=_MAX_LOOKS)
        quarantines = [one for one in data.quarantines if one.device == device]
        campaigns = [info for info in data.campaigns if info.device == device]
        virtual = any(info.campaign in data.simulated for info in campaigns)
        reports = sorted(info.campaign for info in campaigns if info.campaign in places.reports)
        marks = [data.counts[info.night].mark for info in data.nights if device in data.counts[info.night].devices]
        key = digest("device", marks, quarantines, reports, looks[:1], len(looks))

        def page(
            device: str = device,
            looks: Sequence[Health] = looks,
            quarantines: Sequence[Quarantine] = tuple(quarantines),
            campaigns: Sequence[CampaignInfo] = tuple(campaigns),
        ) -> Any:
            return site_history.device_page(
                device,
                places,
                looks=looks,
                quarantines=quarantines,
                campaigns=campaigns,
                verdicts=reader.moved(device),
                simulated=data.simulated,
            )

        render(places.device(device), "device", key, page)
        rows.append(site_history.device_row(device, places, looks, quarantines, simulated=virtual))
    return rows


def _index(
    reader: StoreReader,
    data: _Data,
    places: site_pages.Places,
    render: "_Renderer",
    *,
    devices: Sequence[dict[str, Any]],
    experiments: Sequence[dict[str, Any]],
) -> None:
    def page() -> Any:
        newest: dict[str, str] = {}
        for info in data.nights:
            newest.setdefault(info.farm, info.night)
        headlines = {night: site_pages.night_tone(read_night(reader, night)) for night in newest.values()}
        return site_pages.index_page(
            data.nights, data.counts, places, devices=devices, experiments=experiments, headlines=headlines
        )

    render("index.html", "index", digest(data.mark, devices, experiments), page)


class _Renderer:
    """Renders a page if what it is made from has changed."""

    def __init__(self, made: SiteFiles, data: _Data) -> None:
        self.made = made
        self._templates: Environment = environment()
        self._data = data

    def __call__(self, place: str, template: str, key: str, page: Any) -> None:
        whole = digest(made_from(), key)
        if self.made.current(place, whole):
            self.made.keep(place, whole)
            return
        context = {"page": page(), "root": "../" * place.count("/"), "version": __version__}
        if template == "experiment":
            context["scripts"] = scripts_for(charts=True)
        text = self._templates.get_template(f"site/{template}.html.j2").render(context)
        self.made.write(place, whole, text)
