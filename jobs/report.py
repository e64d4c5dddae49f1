"""The page to look at in the morning: every film with its sheet and players, troubles first. Static HTML.

Self-contained but for the films and sheets beside it: inlined CSS, no script (a policy in the page forbids
them), nothing from a network. Whatever comes from a manifest or an error is escaped by `tag`. A page holds
200 films, so a job of any length costs the memory of one page.

Decides: which films stand on which page, in which order, and what is said of them all. Does not decide: what
is shown of one film (jobs/film_card.py), nor colours and lengths (page/style.css).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from jobs.bill import spoken
from jobs.film_card import Captions, Row, film_card, page_url, span, troubles_of
from jobs.markup import Html, tag
from jobs.outcome import JobResult
from manifests.store import Store

STYLE = Path(__file__).parent / "page" / "style.css"
FILMS_A_PAGE = 200
EAGER_PLAYERS = 400  # a page with more previews one a film: Chromium refuses the 1,001st player
POLICY = "script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"
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
            (film for film in _films(rows()) if troubles_of(film)),
            (film for film in _films(rows()) if not troubles_of(film)),
        )
    )
    folder = key.rpartition("/")[0]
    for number in range(1, count.pages + 1):
        films = list(islice(ordered, FILMS_A_PAGE))
        page = _page(result, count, number, films, Captions(store))
        hash = store.put_artefact(page.encode("utf-8", "replace"))
        store.publish(hash, key if number == 1 else f"{folder}/{_page_name(number)}".lstrip("/"))


# Rows and films.


def _films(rows: Iterable[Row]) -> Iterator[list[Row]]:
    return (list(film) for _, film in groupby(rows, key=lambda row: row["row_id"]))


def _count(rows: Iterator[Row]) -> Count:
    troubled = sound = 0
    finished_at: datetime | None = None
    for film in _films(rows):
        troubled, sound = troubled + bool(troubles_of(film)), sound + (not troubles_of(film))
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
    cards = [film_card(film, captions, eager) for film in films]
    body = tag("body", _header(result, count), pages, tag("main", *cards), pages, _footer(result))
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def _header(result: JobResult, count: Count) -> Html:
    tiles = [("films", result.films), ("done", result.done), ("reused", result.reused)]
    tiles += [("failed", result.failed), ("dropped", result.dropped), ("invalid", result.invalid)]
    when = _moment(count.finished_at) if count.finished_at else None
    due = f", due {_moment(datetime.fromisoformat(result.deadline))}" if result.deadline else None
    times = tag(
        "p", f"took {span(result.seconds)}", f", finished {when}" if when else None, due, class_="quiet"
    )
    spent = ", ".join(spoken(asdict(result.gpu)))
    return tag(
        "header",
        tag("p", result.job_id, class_="job"),
        tag("h1", VERDICTS.get(result.status, result.status), class_=_mood(result)),
        times,
        tag("p", spent, class_="quiet") if spent else None,
        tag("dl", *(_tile(name, n) for name, n in tiles if n or name in ("films", "done")), class_="tiles"),
    )


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %B %Y, %H:%M} UTC"


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
    table = tag("a", "all results as a table (Parquet)", href=page_url(result.results.rpartition("/")[2]))
    return tag("footer", tag("p", said), tag("p", "longtake, ", table))
