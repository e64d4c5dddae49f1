"""Claims about the report: what a customer opens works from a folder, and nothing in it can act."""

import re
from base64 import b64decode
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.film.languages import NATIVE_NAMES
from jobs.markup import Html, tag
from jobs.outcome import JobResult, captions_key, film_key, sheet_key
from jobs.report import EAGER_PLAYERS, FILMS_A_PAGE, write_report
from manifests.store import open_store

KEY = "report/index.html"
NASTY = "</style><script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
VTT = b"WEBVTT\n\n00:00.000 --> 00:02.000\nlesson\n"
VOID = {"meta", "img", "track"}


class Page(HTMLParser):
    """A page's elements in order, its text, and whether every element was closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, name):
        return [attributes for other, attributes in self.elements if other == name]

    @property
    def text(self):
        return " ".join(self.words)

    @property
    def headings(self):
        return re.findall(r"film-\d+", self.text)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def done(row_id, lang="hi-IN", **more):
    row = {
        "row_id": row_id,
        "lang": lang,
        "status": "done",
        "output_uri": film_key(row_id, lang),
        "output_bytes": 1_234_567,
        "width_px": 384,
        "height_px": 256,
        "fps_num": 24_000,
        "fps_den": 1001,
        "frame_count": 1439,
        "duration_s": 60.018,
        "shots": 3,
        "windows": 9,
        "reused": False,
        "render_s": 754.0,
        "model": "0123456789abcdef0123",
        "seed": 42,
    }
    return row | {"finished_at": datetime(2026, 9, 12, 1, 44, tzinfo=UTC)} | more


def failed(row_id, lang="hi-IN", **more):
    row = {"row_id": row_id, "lang": lang, "status": "failed", "code": "E900_RENDER", "message": "it broke"}
    return row | more


def result_of(store, **more):
    counts = {"films": 3, "done": 1, "failed": 1, "invalid": 1, "reused": 0, "seconds": 7512.0}
    fields = {"job_id": "lessons-4c1f", "status": "some_failed", "exit_code": 4} | counts | more
    out = store.url
    return JobResult(**fields, out=out, results=f"{out}/results.parquet", report=f"{out}/{KEY}")


def publish(store, row):
    """The files that a done row names, and the film's sheet."""
    store.publish(store.put_artefact(b"film " + row["lang"].encode()), row["output_uri"])
    store.publish(store.put_artefact(b"sheet"), sheet_key(row["row_id"]))
    if row.get("captions_uri"):
        store.publish(store.put_artefact(VTT), row["captions_uri"])


def pages(store, rows, **more):
    write_report(store, KEY, result_of(store, **more), lambda: iter(rows))
    names = ["index.html", *(f"page-{n}.html" for n in range(2, 9))]
    texts = [store.read(f"report/{name}") for name in names]
    return [Page(text.decode()) for text in texts if text is not None]


def test_every_link_leads_to_a_file_of_the_store(store, tmp_path):
    rows = [done("water.cycle", lang) for lang in ("hi-IN", "ta-IN")] + [failed("broken")]
    rows[0]["captions_uri"] = captions_key("water.cycle", "hi-IN")
    for row in rows[:2]:
        publish(store, row)
    Path(tmp_path, "results.parquet").touch()
    (page,) = pages(store, rows)
    links = [a.get("src") or a.get("href") for _, a in page.elements if "src" in a or "href" in a]
    files = [link for link in links if not link.startswith("data:")]
    assert len(files) == 2 * 2 + 2 + 1  # two players and links, the sheet twice, the table
    for link in files:
        assert Path(tmp_path, "report", unquote(link)).is_file(), link


def test_captions_are_in_the_page_because_browsers_read_no_captions_from_a_disk(store):
    row = done("water", captions_uri=captions_key("water", "hi-IN"))
    publish(store, row)
    (page,) = pages(store, [row])
    (track,) = page.all("track")
    assert track["src"].startswith("data:text/vtt;base64,")
    assert b64decode(track["src"].partition(",")[2]) == VTT
    assert (track["kind"], track["srclang"], track["label"]) == ("captions", "hi-IN", "हिन्दी")


def test_a_page_asks_nothing_of_a_network_and_forbids_scripts(store):
    row = done("water", captions_uri=captions_key("water", "hi-IN"))
    publish(store, row)
    pages(store, [row])
    text = store.read(KEY).decode()
    assert not re.search(r"https?:|url\(|@import", text)
    links = [a.get("src") or a.get("href") or "" for _, a in Page(text).elements]
    assert not [link for link in links if link.startswith("/")]
    policy = Page(text).all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy" and "script-src 'none'" in policy["content"]


def test_no_text_of_a_manifest_or_an_error_becomes_markup(store):
    fields = dict.fromkeys(("code", "message", "json_path", "hint", "title"), NASTY)
    rows = [failed(NASTY, NASTY, **fields), done("film-1", NASTY, title=NASTY, output_uri=NASTY, model=NASTY)]
    (page,) = pages(store, rows, job_id=NASTY)
    assert page.text.count(NASTY) >= 9
    names = {name for name, _ in page.elements}
    assert "script" not in names and len(page.all("img")) == 1
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]


# HTML has no way to say NUL, and reads CR as a line's end
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@given(TEXT, TEXT)
def test_an_element_says_exactly_its_text_and_attributes(text, value):
    page = Page(tag("p", text, title=value))
    assert page.elements == [("p", {"title": value})]
    assert "".join(page.words) == text


def test_html_is_not_escaped_twice_and_absent_things_leave_nothing():
    assert (
        tag("a", Html("<b>1</b>"), None, " & 2", href=None, download=True)
        == "<a download><b>1</b> &amp; 2</a>"
    )


def test_troubles_come_first_with_code_place_message_and_hint(store):
    invalid = {"row_id": "film-3", "lang": "und", "status": "invalid", "code": "E203", "message": "no such"}
    rows = [
        done("film-1"),
        failed("film-2"),
        invalid | {"json_path": "/languages/1/lang", "hint": "use hi-IN"},
    ]
    (page,) = pages(store, rows)
    assert page.headings[:2] == ["film-2", "film-3"] and page.headings[-1] == "film-1"
    for word in ("E900_RENDER", "it broke", "E203", "no such", "/languages/1/lang", "use hi-IN"):
        assert word in page.text


def test_a_trouble_of_several_languages_is_told_once_beside_those_that_are_done(store):
    rows = [done("film-1", "en-IN"), failed("film-1", "ta-IN"), failed("film-1", "ur-IN")]
    (page,) = pages(store, rows)
    assert page.text.count("it broke") == 1
    assert "தமிழ், اردو" in page.text and "1 of 3 languages" in page.text
    assert len(page.all("video")) == 1


def test_a_film_shows_how_it_was_made(store):
    (page,) = pages(store, [done("film-1"), done("film-2", reused=True)])
    for word in (
        "60.0 s",
        "1,439 at 23.976/s",
        "384\u00d7256 px",
        "42",
        "0123456789ab",
        "rendered in 13 min",
    ):
        assert word in page.text
    assert "reused" in page.text and "0123456789abc" not in page.text
    assert page.all("video")[0]["preload"] == "metadata" and "controls" in page.all("video")[0]


def test_a_film_shows_which_shots_were_held_and_how_far_they_had_drifted(store):
    held = [{"shot_id": "hills", "drift_de_per_min": 12.34, "held_de_per_min": 0.5}]
    (page,) = pages(store, [done("film-1", held=held), done("film-2", held=[]), done("film-3")])
    assert page.text.count("colours held") == 1
    assert "hills: 12.3 to 0.5 dE a minute" in page.text


def test_every_language_has_its_own_name_in_its_own_script(store):
    tags = sorted(f"{lang}-IN" for lang in NATIVE_NAMES)
    assert len(tags) == 13
    (page,) = pages(store, [done("film-1", lang) for lang in tags])
    assert all(NATIVE_NAMES[lang[:2]] in page.text for lang in tags)
    assert [a["lang"] for a in page.all("bdi")] == tags
    (page,) = pages(store, [done("film-1", "xx-IN")])
    assert "xx-IN" in page.text


def test_the_headline_counts_films_and_gives_the_verdict(store):
    (page,) = pages(store, [done("film-1"), failed("film-2"), failed("film-3")])
    for word in (
        "lessons-4c1f",
        "Some films failed",
        "took 2 h 05 min, finished 12 September 2026, 01:44 UTC",
    ):
        assert word in re.sub(r"\s+", " ", page.text).replace(" ,", ",")
    (page,) = pages(store, [done("film-1")], status="done", failed=0, invalid=0, films=1)
    assert "All films are done" in page.text and "invalid" not in page.text


def test_films_are_spread_over_pages_that_link_to_each_other(store):
    rows = [done(f"film-{i}") for i in range(2 * FILMS_A_PAGE)] + [failed("film-9999")]
    first, second, third = pages(store, rows)
    assert [len(page.all("article")) for page in (first, second, third)] == [200, 200, 1]
    assert first.headings[0] == "film-9999" and third.headings[0] == f"film-{2 * FILMS_A_PAGE - 1}"
    links = [a["href"] for a in first.all("nav") + first.all("a") if "page" in a.get("href", "")]
    assert set(links) == {"page-2.html", "page-3.html"}
    assert "index.html" in [a["href"] for a in third.all("a")]


def test_a_page_of_many_players_loads_one_picture_a_film(store):
    langs = [f"{lang}-IN" for lang in NATIVE_NAMES][:12]
    rows = [done(f"film-{i}", lang) for i in range(EAGER_PLAYERS // 12 + 1) for lang in langs]
    (page,) = pages(store, rows)
    loading = [a["preload"] for a in page.all("video")]
    assert loading == (["metadata"] + ["none"] * 11) * (EAGER_PLAYERS // 12 + 1)


def test_no_more_than_a_page_of_films_is_held_at_once(store):
    drawn, at_publish = [], []

    def rows():
        for i in range(3 * FILMS_A_PAGE):
            drawn.append(i)
            yield done(f"film-{i}")

    class Watched:
        url = store.url

        def put_artefact(self, data):
            at_publish.append(len(drawn) - 3 * FILMS_A_PAGE)  # less those of the counting
            return store.put_artefact(data)

        publish = store.publish

    write_report(Watched(), KEY, result_of(store), rows)
    assert at_publish == [201, 401, 600]  # one row ahead, to see that the film before it is whole


def test_a_report_is_replaced_by_a_later_one_and_a_job_without_rows_has_a_page(store):
    pages(store, [failed("film-1")])
    (page,) = pages(store, [], films=0, done=0, failed=0, invalid=0, status="failed")
    assert "No film was made" in page.text and not page.all("article")
