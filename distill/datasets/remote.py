"""Bytes from where they are: a local file, or anything fsspec reaches (https, s3, hf, memory)."""

import glob as globs
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import fsspec

_ATTEMPTS = 5
_FINAL = (401, 403, 404, 410)  # answers that another attempt will not change
_TAGS = (  # of what changes with a file, as S3, HTTP, Hugging Face, Azure and others call it
    *("ETag", "etag", "LastModified", "Last-Modified", "last_modified", "blob_id"),
    *("mtime", "created"),
)
_AT_ONCE = 16  # files that are asked for their version at a time
_BLOCK = 1 << 16  # bytes that a look into a far file fetches at least
_PAUSE = 0.5  # seconds before the second attempt; then twice as long each time
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Unreachable(ConnectionError):
    """The way to a file failed at every attempt; nothing is wrong with the file."""


def is_remote(place: str) -> bool:
    """Whether `place` is a URL; `file://` is one, too."""
    return "://" in place


def read_range(place: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, also not at the fifth attempt; or it is too short.
    """
    if is_remote(place):
        data = patiently(place, lambda fs, path: fs.cat_file(path, offset, offset + size))
        if len(data) > size:
            raise OSError(f"{place}: sends {len(data)} bytes for {size}; it must know byte ranges")
    else:
        with Path(place).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    if len(data) < size:
        raise OSError(f"{place}: ends at {offset + len(data)}, before {offset + size}; it is cut")
    return bytes(data)


def with_file(place: str, work: Callable[[Any], T]) -> T:
    """What `work` makes of the binary file, which it may seek in; from the start when it breaks.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, also not at the fifth attempt.
    """
    if not is_remote(place):
        with Path(place).open("rb") as file:
            return work(file)

    def whole(fs: Any, path: str) -> T:
        with fs.open(path, "rb", block_size=_BLOCK) as file:
            return work(file)

    return patiently(place, whole)


def version(place: str) -> str:
    """What changes when the file does: its size, and its time or the server's tag.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be reached.
    """
    if not is_remote(place):
        status = Path(place).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    about = patiently(place, lambda fs, path: fs.info(path))
    tags = [about.get(name) for name in _TAGS]
    return f"{about['size']} {next(filter(None, tags), '')}"


def unchanged(versions: Mapping[str, str]) -> bool:
    """Whether each file is there with its `version`.

    Raises:
        OSError: one cannot be reached.
    """
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(version, versions)) == list(versions.values())
    except FileNotFoundError:
        return False


def expand(patterns: str | Path | Sequence[str | Path], *, suffix: str) -> list[str]:
    """The files that a pattern, or several, name; those of this machine by their absolute paths.

    What is there on this machine is taken as it is called. Else `{000..123}` counts, `*` and `?`
    match what is there (in a web address `?` starts the query), a folder stands for all files below
    it that end with `suffix`; what is none of these is a file.

    Raises:
        FileNotFoundError: nothing is there.
    """
    several = [patterns] if isinstance(patterns, str | Path) else patterns
    return sorted({place for one in several for place in _expanded(one, suffix)})


def short_names(places: Sequence[str]) -> dict[str, str]:
    """Names in keys: a file's own, with folders in front where that is not enough.

    In the order that keys have which begin with them. Of a web address without its query, which may
    hold a signature that changes.

    Raises:
        ValueError: two places cannot be told apart.
    """
    for parts in range(1, 20):
        names = {place: "/".join(_parts(place)[-parts:]) for place in places}
        if len(set(names.values())) == len(set(places)):
            return dict(sorted(names.items(), key=lambda place_name: f"{place_name[1]}/"))
    raise ValueError(f"{places[0]}: files of one name; give each another")


def _expanded(pattern: str | Path, suffix: str) -> list[str]:
    found: list[str] = []
    pattern = str(pattern) if is_remote(str(pattern)) else str(Path(pattern).absolute())
    for one in [pattern] if _is_here(pattern) else _counted(pattern):
        if not _is_here(one) and any(sign in one for sign in _signs(one)):
            found += _matching(one)
        elif _is_folder(one):
            found += _below(one, suffix)
        else:
            found.append(one)
    if not found:
        raise FileNotFoundError(f"{pattern}: no file ending with {suffix}")
    return found


def _counted(pattern: str) -> Iterator[str]:
    range_ = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if range_ is None:
        yield pattern
        return
    first, last = range_.groups()
    if int(last) < int(first):
        raise ValueError(f"{pattern}: {{{first}..{last}}} counts down; exchange the two")
    for number in range(int(first), int(last) + 1):
        rest = f"{number:0{len(first)}d}{pattern[range_.end() :]}"
        yield from _counted(pattern[: range_.start()] + rest)


def _signs(pattern: str) -> str:
    return "*" if _is_web(pattern) else "*?["


def _parts(place: str) -> list[str]:
    return re.split(r"/+", place.partition("?")[0] if _is_web(place) else place)


def _is_web(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _is_here(place: str) -> bool:
    return not is_remote(place) and Path(place).exists()


def _below(folder: str, suffix: str) -> list[str]:
    """Hidden files, such as macOS's `._x.tar`, left out."""
    if is_remote(folder):
        return _matching(f"{folder.rstrip('/')}/**/*{suffix}")
    found = _matching(f"{globs.escape(folder)}/**/*")
    return [path for path in found if path.lower().endswith(suffix)]


def _matching(pattern: str) -> list[str]:
    if not is_remote(pattern):
        found = globs.glob(pattern, recursive=True)  # noqa: PTH207 patterns may be absolute
        return [path for path in found if Path(path).is_file()]
    return patiently(
        pattern, lambda fs, path: [fs.unstrip_protocol(found) for found in fs.glob(path)]
    )


def _is_folder(place: str) -> bool:
    if not is_remote(place):
        return Path(place).is_dir()
    if Path(place).suffix and not place.endswith("/"):  # a file's name: to ask may list all files
        return False
    return patiently(place, lambda fs, path: fs.isdir(path))


def patiently(place: str, work: Callable[[Any, str], T]) -> T:
    """`work` on the filesystem of `place` and its path there, again when the way fails for a while.

    Raises:
        FileNotFoundError: there is no such file.
        Unreachable: it did not work, also not at the fifth attempt.
        OSError: it will not work.
    """
    pause = _PAUSE
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            fs, path = fsspec.url_to_fs(place)
            return work(fs, path)
        except (OSError, TimeoutError, *_client_errors()) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)) and not _passes(error):
                if str(error) == place:  # as fsspec says it over HTTP
                    raise type(error)(f"{place}: {error.__cause__ or 'no such file'}") from error
                raise
            if attempt == _ATTEMPTS:
                raise Unreachable(f"{place}: {_reason(error)}, {attempt} times in a row") from error
            _log.warning("%s: %s; again in %.1f s", place, _reason(error), pause)
            time.sleep(pause)
            pause *= 2
        except ValueError as error:
            if "range requests" not in str(error):
                raise
            raise OSError(
                f"{place}: the server does not send parts of a file (HTTP range requests); "
                "fetch the file, or serve it from one that does"
            ) from error
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    """What went wrong; what fsspec calls a missing file over HTTP is told by its cause alone."""
    told = error.__cause__ if isinstance(error.__cause__, _client_errors()) else error
    return str(told) or type(told).__name__


def _passes(error: Exception) -> bool:
    """Whether it may be over soon: over HTTP fsspec calls whatever went wrong a missing file."""
    cause = error.__cause__
    return isinstance(cause, _client_errors()) and getattr(cause, "status", 0) not in _FINAL


def _client_errors() -> tuple[type[Exception], ...]:
    try:
        import aiohttp
    except ImportError:
        return ()
    return (aiohttp.ClientError,)
