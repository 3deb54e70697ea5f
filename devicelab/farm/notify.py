"""Telling people how a night went, through Apprise (the extra ``notify``): chats, mail, push services, webhooks.

The services' URLs hold secrets. They come from an environment variable, and no text that leaves this module holds any
part of one: a service is named by its place in the variable and its kind.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from devicelab.ground import extras
from devicelab.model.night import Notify

if TYPE_CHECKING:
    from apprise import Apprise

_TIMEOUT_S = 30.0
_NOT_INSTALLED = f"nobody was told: Apprise is missing ({extras.install('notify')})"


def notify(notify: Notify, title: str, body: str) -> tuple[str, ...]:
    """Send a message to every service named in the environment variable ``notify.urls_env``.

    Whether it is time to (``notify.when``) is for the caller to say. A service that fails costs nothing but its
    message: nothing is raised.

    Args:
        notify: where the URLs are.
        title: one line.
        body: Markdown; Apprise turns it into what each service shows.

    Returns:
        A sentence for each service that was not told, without secrets; empty if all were, or if there are none.
    """
    urls = os.environ.get(notify.urls_env, "").split()
    if not urls:
        return ()
    try:
        import apprise
    except ImportError:
        return (_NOT_INSTALLED,)
    problems = []
    with _unheard():
        for place, url in enumerate(urls, 1):
            asset = apprise.AppriseAsset(app_id="devicelab", app_desc="devicelab", app_url="", secure_logging=True)
            problem = _tell(apprise.Apprise(asset=asset), url, " ".join(title.split()), body)
            if problem:
                problems.append(f"service {place} of ${notify.urls_env} {problem}")
    return tuple(problems)


def _tell(service: "Apprise", url: str, title: str, body: str) -> str:
    """What went wrong, without a word of the URL; empty if nothing did."""
    from apprise import AppriseResultStatus, NotifyFormat

    try:
        if not service.add(url):
            return "is no URL that Apprise knows"
        done = service.notify(body, title=title, body_format=NotifyFormat.MARKDOWN, timeout=_TIMEOUT_S)
        kind = next((str(one.name) for one in done), "of no kind")
    except Exception as error:  # noqa: BLE001 - a service's own code may raise anything; its text may hold the URL
        return f"failed ({type(error).__name__})"
    if done:
        return ""
    late = done.status is AppriseResultStatus.TIMEOUT
    return f"({kind}) did not answer within {_TIMEOUT_S:.0f} s" if late else f"({kind}) did not take the message"


@contextmanager
def _unheard() -> Iterator[None]:
    """Log lines that name hosts and paths of URLs are dropped."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was
