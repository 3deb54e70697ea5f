"""A real browser: the system's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.opened import WIDE, Opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; the tests are skipped where none is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        # Tests may run as root in a container, where Chromium's own sandbox cannot start.
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    pages = []

    def open_page(path: Path, width: int = WIDE, **options: Any) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        pages.append(page)
        opened = Opened(page)
        page.on("console", lambda message: opened.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.console.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        return opened

    yield open_page
    for page in pages:
        page.close()
