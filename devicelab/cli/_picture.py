"""The README's picture, from a report page: ``python -m devicelab.cli._picture PAGE.html docs/pictures/report.png``.

Two views of the page beside each other: its top, and its figures. Needs the extra ``dev`` and an installed Chromium.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

_WIDTH, _HEIGHT, _GAP = 900, 1000, 16


def picture(page: Path, to: Path) -> None:
    """Write the picture as a PNG of 64 colours.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError("chromium")
    shots = []
    with sync_playwright() as driver:
        # May run as root in a container, where Chromium's own sandbox cannot start.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--hide-scrollbars"])
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.goto(page.resolve().as_uri())
        for heading in ("body", "#figures"):
            tab.locator(heading).evaluate("it => it.scrollIntoView({behavior: 'instant', block: 'start'})")
            shots.append(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
        browser.close()
    both = Image.new("RGB", (2 * _WIDTH + _GAP, _HEIGHT), "#c8ccd6")
    for number, shot in enumerate(shots):
        both.paste(shot, (number * (_WIDTH + _GAP), 0))
    both.quantize(64).save(to, optimize=True)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
