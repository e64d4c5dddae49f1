"""The page to look at in the morning: every film with its sheet and players, troubles first. Static HTML.

Self-contained but for the films and sheets beside it: inlined CSS, no script (a policy in the page forbids
them), nothing from a network. Whatever comes from a manifest or an error is escaped by `tag`. A page holds
200 films, so a job of any length costs the memory of one page.

Decides: what is shown of a film, and in which order. Does not decide: colours and lengths (page/style.css).
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jobs.markup import Html, tag
from jobs.outcome import JobResult, sheet_key
from manifests.store import Store

Row = Mapping[str, Any]
STYLE = Path(__file__).parent / "page" / "style.css"
FILMS_A_PAGE = 200
EAGER_PLAYERS = 400  # a page with more previews one a film: Chromium refuses the 1,001st player
TROUBLES_A_FILM = 20
TROUBLE = ("code", "message", "json_path", "hint")
LARGEST_CAPTIONS = 1 << 16  # bytes
POLICY = "script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"
LANGUAGES = {
    "as": "অসমীয়া",
    "bn": "বাংলা",
    "en": "English",
    "gu": "ગુજરાતી",
    "hi": "हिन्दी",
    "kn": "ಕನ್ನಡ",
    "ml": "മലയാളം",
    "mr": "मराठी",
    "or": "ଓଡ଼ିଆ",
    "pa": "ਪੰਜਾਬੀ",
    "ta": "தமிழ்",
    "te": "తెలుగు",
    "und": "Pictures only",
    "ur": "اردو",
}
VERDICTS = {"done": "All films are done", "some_failed": "Some films failed", "failed": "No film was made"}


@dataclass(frozen=True)
class Count:
    """What the rows add up to."""

    troubled: int = 0
    sound: int = 0
    finished_at: datetime | None = None

    @property
    def pages(self) -> int:
        """How many pages hold them; a job without rows has an empty one."""
        return max(1, -(-(self.troubled + self.sound) // FILMS_A_PAGE))


def write_report(
    store: Store, key: str, result: JobResult, rows: Callable[[], Iterator[dict[str, Any]]]
) -> None:
    """`key` shows the first page, `page-2.html` beside it the second, and so on. Raises OSError.

    `rows` gives the rows of results anew at every call, those of one film one after another. It is
    read once to count, and once or twice more to have films with troubles first.
    """
    count = _count(rows())
    ordered: Iterator[list[Row]] = (
        _films(rows())
        if not count.troubled
        else chain(
            (film for film in _films(rows()) if _troubles(film)),
            (film for film in _films(rows()) if not _troubles(film)),
        )
    )
    folder = key.rpartition("/")[0]
    for number in range(1, count.pages + 1):
        films = list(islice(ordered, FILMS_A_PAGE))
        page = _page(result, count, number, films, Captions(store))
        hash = store.put_artefact(page.encode("utf-8", "replace"))
        store.publish(hash, key if number == 1 else f"{folder}/{_page_name(number)}".lstrip("/"))


@dataclass(frozen=True)
class Captions:
    """Captions as URLs: of the file, or of the text itself where a browser would not read the file.

    A page opened from a disk may show a neighbouring film, but not its captions.
    """

    store: Store

    def url(self, key: str) -> str:
        """The value of a track's `src`. Raises OSError."""
        if self.store.url.startswith("s3://"):
            return _url(key)
        text = self.store.read(key)
        if text is None or len(text) > LARGEST_CAPTIONS:
            return _url(key)
        return f"data:text/vtt;base64,{b64encode(text).decode()}"


# Rows and films.


def _films(rows: Iterable[Row]) -> Iterator[list[Row]]:
    return (list(film) for _, film in groupby(rows, key=lambda row: row["row_id"]))


def _troubles(film: Iterable[Row]) -> list[Row]:
    return [row for row in film if row["status"] != "done"]


def _count(rows: Iterator[Row]) -> Count:
    troubled = sound = 0
    finished_at: datetime | None = None
    for film in _films(rows):
        troubled, sound = troubled + bool(_troubles(film)), sound + (not _troubles(film))
        times = [row["finished_at"] for row in film if row.get("finished_at")]
        finished_at = max([finished_at, *times] if finished_at else times, default=None)
    return Count(troubled, sound, finished_at)


# The page.


def _page(result: JobResult, count: Count, number: int, films: list[list[Row]], captions: Captions) -> str:
    eager = sum(len(film) for film in films) <= EAGER_PLAYERS
    pages = _pages(number, count.pages)
    title = f"{result.job_id}: {VERDICTS.get(result.status, result.status)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title if number == 1 else f"{title}, page {number}"),
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    cards = [_film(film, captions, eager) for film in films]
    body = tag("body", _header(result, count), pages, tag("main", *cards), pages, _footer(result))
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def _header(result: JobResult, count: Count) -> Html:
    tiles = [("films", result.films), ("done", result.done), ("reused", result.reused)]
    tiles += [("failed", result.failed), ("invalid", result.invalid)]
    when = f"{count.finished_at.astimezone(UTC):%-d %B %Y, %H:%M} UTC" if count.finished_at else None
    times = tag("p", f"took {_span(result.seconds)}", f", finished {when}" if when else None, class_="quiet")
    return tag(
        "header",
        tag("p", result.job_id, class_="job"),
        tag("h1", VERDICTS.get(result.status, result.status), class_=_mood(result)),
        times,
        tag("dl", *(_tile(name, n) for name, n in tiles if n or name in ("films", "done")), class_="tiles"),
    )


def _mood(result: JobResult) -> str:
    return "good" if result.status == "done" else "mixed" if result.done else "bad"


def _tile(name: str, n: int) -> Html:
    return tag("div", tag("dt", name), tag("dd", f"{n:,}"), class_=name)


def _pages(number: int, n_pages: int) -> Html:
    """Links to the neighbours, and to first and last; nothing where there is one page."""
    if n_pages == 1:
        return Html()
    near = sorted({1, n_pages, *range(max(1, number - 2), min(n_pages, number + 2) + 1)})
    links: list[Html] = []
    for before, page in zip([0, *near], near, strict=False):
        links += [tag("span", "…")] if page > before + 1 else []
        links += [
            tag("a", f"{page:,}", href=_page_name(page), aria_current="page" if page == number else None)
        ]
    return tag("nav", tag("span", "Page "), *links, aria_label="Pages")


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"page-{number}.html"


def _footer(result: JobResult) -> Html:
    said = "AI-generated: every film carries Content Credentials that say so, and how it was made."
    table = tag("a", "all results as a table (Parquet)", href=_url(result.results.rpartition("/")[2]))
    return tag("footer", tag("p", said), tag("p", "longtake, ", table))


# A film.


def _film(film: list[Row], captions: Captions, eager: bool) -> Html:
    first, troubles = film[0], _troubles(film)
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
    seconds = f" in {_span(film[0]['render_s'])}" if status == "done" and film[0].get("render_s") else ""
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
    source = _url(sheet_key(row_id))
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
        src=_url(row["output_uri"]),
        width=str(row["width_px"]),
        height=str(row["height_px"]),
    )
    title = tag("bdi", row["title"], lang=lang, class_="title") if row.get("title") else None
    known = tag("bdi", name, lang=lang, class_="language") if lang != "und" else tag("span", name)
    size = tag("span", f"{row['output_bytes'] / 1e6:.1f} MB", class_="quiet")
    link = tag("a", "mp4", href=_url(row["output_uri"]), download=True)
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
    ]
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    return tag("dl", *pairs, class_="facts")


def _language(lang: str) -> str:
    """The language's own name for itself; the tag, where it is not known."""
    return LANGUAGES.get(lang.split("-")[0].lower(), lang)


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _url(key: str) -> str:
    """From a page to a key of the store: pages lie one folder down."""
    return "../" + quote(key)
