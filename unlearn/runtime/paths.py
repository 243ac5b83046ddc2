"""Where models and datasets are: in local folders, or on the Hugging Face hub, if that can be reached."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify

_SECONDS = 5.0


def local(path: str) -> Path:
    """Return the path with ~ expanded; UserError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}") from error


def is_local(path: str) -> bool:
    """Whether `path` is there, or could be no hub id: it begins with / . or ~, or has more than one slash."""
    return path.startswith(("/", ".", "~")) or path.count("/") > 1 or local(path).exists()


def local_state(path: str) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of a local file, or a folder's files; [] for a hub id.

    A changed model is another model.
    """
    place = local(path)
    files = sorted(f for f in place.iterdir() if f.is_file()) if place.is_dir() else [place] if place.is_file() else []
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]


@functools.cache
def prefer_local() -> None:
    """Tell the hub's libraries where the hub does not answer.

    By themselves they try for a minute before they look at what was downloaded earlier (or fail). Call it before
    anything is fetched; it asks once a process.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_SECONDS).close()
    except HTTPError:
        return
    except (OSError, ValueError) as error:
        if isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError):
            return  # it answers; its libraries may know another certificate
        notify(f"{constants.ENDPOINT} does not answer: going on with what was downloaded earlier")
        os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries not yet imported, and for processes started from here
        constants.HF_HUB_OFFLINE = True
