"""Pages on loopback: read only, nothing outside of the folder, nothing for another site's page."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devicelab.report import build_report, served
from devicelab.report.serve import Answer, Pages, files_of, server
from devicelab.store import Store
from tests import labdata

pytestmark = pytest.mark.slow

Ask = Callable[..., tuple[int, bytes, dict[str, str]]]


@contextmanager
def asking(pages: Pages) -> Iterator[Ask]:
    with server(pages) as running:
        worker = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        worker.start()

        def ask(path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
            connection = http.client.HTTPConnection("127.0.0.1", running.server_port, timeout=20)
            connection.request(method, path, headers={"Host": host} if host else {})
            got = connection.getresponse()
            body = got.read()
            connection.close()
            return got.status, body, dict(got.getheaders())

        try:
            yield ask
        finally:
            running.shutdown()
            worker.join()


def test_a_folder_is_served_and_nothing_outside_of_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "nights").mkdir(parents=True)
    (site / "index.html").write_text("<p>all</p>")
    (tmp_path / "secret").write_text("no")
    (site / "link").symlink_to(tmp_path / "secret")
    with asking(files_of(site)) as ask:
        status, body, headers = ask("/")
        assert (status, body) == (200, b"<p>all</p>")
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/../secret", "/%2e%2e/secret", "/link", "/nights", "/nights/../../secret", "/none"):
            assert ask(path)[0] == 404, path
        assert ask("/", method="HEAD")[:2] == (200, b"")
        assert ask("/", method="POST")[0] == 501


def test_a_name_that_is_not_this_computers_is_refused() -> None:
    with asking(lambda _: Answer("text/plain", b"mine")) as ask:
        assert ask("/", host="evil.example:80")[0] == 403
        assert ask("/", host="localhost:80")[0] == 200
        assert ask("/", host="127.0.0.1")[0] == 200


def test_a_page_that_fails_is_said_and_the_server_goes_on() -> None:
    def pages(path: str) -> Answer | None:
        if path == "bad":
            raise ValueError("this one")
        return Answer("text/plain", b"fine")

    with asking(pages) as ask:
        status, body, _ = ask("/bad")
        assert (status, body) == (500, b"ValueError: this one\n")
        assert ask("/")[1] == b"fine"


def test_a_served_report_leads_from_each_run_to_its_samples(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=1))
        page = build_report(store, campaign, tmp_path / "page.html")
        results = store.results(campaign)
        pages = served.campaign_pages(page, results)
        run = str(results.runs()["run_id"].iloc[0])
        first, samples = pages(""), pages(f"run/{run}.csv")
        assert first is not None
        assert b"<body data-served>" in first.body
        assert samples is not None
        assert b"# kernels\n" in samples.body
        assert samples.body.count(run.encode()) > 12
        for path in ("run/none.csv", f"run/{run}.exe", f"other/{run}.csv", "run/../page.html"):
            assert pages(path) is None
