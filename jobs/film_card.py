"""A film on the report's page: its title, troubles, sheet, players and facts.

Decides what is shown of a film. Does not decide which films a page holds, nor how they look.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from engine.film.languages import NATIVE_NAMES
from jobs.bill import money
from jobs.markup import Html, tag
from jobs.outcome import sheet_key
from manifests.places import Disk
from manifests.store import Store

Row = Mapping[str, Any]
TROUBLES_A_FILM = 20
TROUBLE = ("code", "message", "json_path", "hint")
LARGEST_CAPTIONS = 1 << 16  # bytes


@dataclass(frozen=True)
class Captions:
    """Captions as URLs: of the file, or of the text itself where a browser would not read the file.

    A page opened from a disk may show a neighbouring film, but not its captions.
    """

    store: Store

    def url(self, key: str) -> str:
        """The value of a track's `src`. Raises OSError."""
        if not isinstance(self.store.place, Disk):
            return page_url(key)
        text = self.store.read(key)
        if text is None or len(text) > LARGEST_CAPTIONS:
            return page_url(key)
        return f"data:text/vtt;base64,{b64encode(text).decode()}"


def troubles_of(film: Iterable[Row]) -> list[Row]:
    """The rows of a film that have no file."""
    return [row for row in film if row["status"] != "done"]


def film_card(film: list[Row], captions: Captions, eager: bool) -> Html:
    """One film, whose rows differ in language. Not `eager`, only its first player loads a picture unasked."""
    first, troubles = film[0], troubles_of(film)
    done = [row for row in film if row["status"] == "done"]
    title = next((row["title"] for row in film if row.get("title")), None)
    name = first["row_id"] or "(a row without row_id)"
    heading = tag("h2", title or name, dir="auto")
    players = [_player(row, captions, eager or row is done[0]) for row in done]
    return tag(
        "article",
        tag("div", heading, tag("code", name) if title else None, _badge(film), class_="head"),
        _trouble_list(troubles) if troubles else None,
        tag("div", _sheet(first["row_id"]), tag("div", *players, class_="players"), class_="pictures")
        if done
        else None,
        _facts(done[0]) if done else None,
    )


def _badge(film: list[Row]) -> Html:
    statuses = {row["status"] for row in film}
    if len(statuses) > 1:
        n = sum(row["status"] == "done" for row in film)
        return tag("span", f"{n} of {len(film)} languages", class_="badge failed")
    status = statuses.pop()
    if status == "done" and all(row.get("reused") for row in film):
        return tag("span", "reused", class_="badge reused")
    seconds = f" in {span(film[0]['render_s'])}" if status == "done" and film[0].get("render_s") else ""
    return tag("span", f"{'rendered' if status == 'done' else status}{seconds}", class_=f"badge {status}")


def _trouble_list(troubles: list[Row]) -> Html:
    """Each trouble once, with its languages."""
    same: dict[tuple[Any, ...], list[Row]] = {}
    for row in troubles:
        same.setdefault(tuple(row.get(name) for name in TROUBLE), []).append(row)
    items = [_trouble(rows) for rows in islice(same.values(), TROUBLES_A_FILM)]
    more = len(same) - len(items)
    return tag(
        "ul", *items, tag("li", f"and {more:,} more, in the table") if more else None, class_="troubles"
    )


def _trouble(rows: list[Row]) -> Html:
    """One trouble; the rows differ in nothing but the language."""
    code, message, path, hint = (rows[0].get(name) for name in TROUBLE)
    spoken = [_language(row["lang"]) for row in rows if row["lang"] != "und"]
    return tag(
        "li",
        tag("code", code or "no code", class_="code"),
        tag("span", ", ".join(spoken), class_="langs") if spoken else None,
        tag("p", message or "no message", dir="auto"),
        tag("p", tag("span", "at "), tag("code", path), class_="quiet") if path else None,
        tag("p", hint, class_="hint") if hint else None,
    )


def _sheet(row_id: str) -> Html:
    source = page_url(sheet_key(row_id))
    picture = tag("img", src=source, alt=f"Contact sheet of {row_id}", loading="lazy", decoding="async")
    return tag("a", picture, href=source, class_="sheet")


def _player(row: Row, captions: Captions, eager: bool) -> Html:
    lang = row["lang"]
    name = _language(lang)
    track = None
    if row.get("captions_uri"):
        source = captions.url(row["captions_uri"])
        track = tag("track", kind="captions", src=source, srclang=lang, label=name, default=True)
    video = tag(
        "video",
        track,
        controls=True,
        preload="metadata" if eager else "none",
        playsinline=True,
        src=page_url(row["output_uri"]),
        width=str(row["width_px"]),
        height=str(row["height_px"]),
    )
    title = tag("bdi", row["title"], lang=lang, class_="title") if row.get("title") else None
    known = tag("bdi", name, lang=lang, class_="language") if lang != "und" else tag("span", name)
    size = tag("span", f"{row['output_bytes'] / 1e6:.1f} MB", class_="quiet")
    link = tag("a", "mp4", href=page_url(row["output_uri"]), download=True)
    return tag("figure", video, tag("figcaption", known, title, tag("span", size, " ", link, class_="file")))


def _facts(row: Row) -> Html:
    rate = row["fps_num"] / row["fps_den"]
    facts = [
        ("length", f"{row['duration_s']:.1f} s"),
        ("frames", f"{row['frame_count']:,} at {rate:g}/s"),
        ("picture", f"{row['width_px']}\u00d7{row['height_px']} px"),
        ("shots", f"{row['shots']} in {row['windows']} windows"),
        ("seed", str(row["seed"])),
        ("model", row["model"][:12]),
        *(("GPU", told) for told in _spent(row)),
        *(("colours held", _held(shot)) for shot in row.get("held") or ()),
    ]
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    return tag("dl", *pairs, class_="facts")


def _spent(row: Row) -> Iterator[str]:
    """What gangs took for the film, and what it cost; nothing where it was all there."""
    if row.get("gpu_used_s"):
        wasted = f", {row['gpu_wasted_s']:,.1f} wasted" if row["gpu_wasted_s"] else ""
        cost = f", {money(row['cost'], row['currency'])}" if row.get("cost") is not None else ""
        yield f"{row['gpu_used_s']:,.1f} s{wasted}{cost}"
    if row.get("gpu_saved_s"):
        yield f"{row['gpu_saved_s']:,.1f} s saved"


def _held(shot: Row) -> str:
    """A shot whose colours drifted, and how fast before and after."""
    return f"{shot['shot_id']}: {shot['drift_de_per_min']:.1f} to {shot['held_de_per_min']:.1f} dE a minute"


def _language(lang: str) -> str:
    """The language's own name for itself; the tag, where it is not known."""
    return "Pictures only" if lang == "und" else NATIVE_NAMES.get(lang.split("-")[0].lower(), lang)


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def page_url(key: str) -> str:
    """From a page to a key of the store: pages lie one folder down."""
    return "../" + quote(key)
