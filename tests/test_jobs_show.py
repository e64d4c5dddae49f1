"""Claims about what is shown while a job runs: lines that a log can hold, and a last word that helps."""

import io
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace

import pytest

from cluster.dispatch import Limits, decide
from cluster.events import Admitted, FilmDone, Hired, Lost, Predicted, Raised, Turned, Window
from cluster.identity import Model, Picture, Sampling
from cluster.outcomes import Failure, Outcome
from cluster.shots import ShotTask
from cluster.state import State
from cluster.tasks import FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from jobs.census import work_of_size
from jobs.outcome import JobResult
from jobs.show import Bars, Lines, closing_lines, make_show, one_line
from jobs.size import forecast

N_STEPS = 10
LATE = Failure("E801_STORE", "disk\rfull\x1b[31m\nnow", "make room")


class Clock:
    """A time that moves when it is told."""

    def __init__(self):
        self.time = datetime(2026, 9, 12, 23, 59, 30, tzinfo=UTC)

    def __call__(self):
        return self.time

    def move(self, seconds):
        self.time += timedelta(seconds=seconds)


def film(row_id, langs=("hi-IN", "ta-IN")):
    shot = Shot("s", 25, (PromptSpan("a prompt"),), "", seed=1)
    layout = Layout(size=5, overlap=2, lead_in=1)
    task = ShotTask(Model("/m", "float32", row_id), shot, Sampling(N_STEPS, 6.0), layout, 16, 16, 8)
    segments = (SegmentTask(task, Picture(32, 32, Fraction(8), 20, "fast")),)
    return FilmTasks(
        row_id, MasterTask(segments), tuple(VersionTask(segments, lang, "", ()) for lang in langs)
    )


def ended(made, failing=(), reused=False, failure=LATE):
    results = {k: Outcome(k, t.kind, {}, seconds=1.5, reused=reused) for k, t in made.tasks.items()}
    return FilmDone(made, results | {v.key: failure for v in made.versions if v.lang in failing})


def job(*films):
    known = SimpleNamespace(work=work_of_size(forecast(films, None)))
    return SimpleNamespace(n_films=len(films), known=known, listed=None)


FILM = film("water")
SHOT = FILM.master.segments[0].source
STATE = decide(State(Limits(max_tries=3)), Admitted(FILM))[0]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def show(stream, clock):
    return make_show(stream, where="into out/ on this machine", now=clock)


def predict(show, clock, n, each_s):
    for k in range(n):
        step, part = divmod(k, 2)
        if part == 0:
            show.event(Turned(SHOT.key, 1, step), STATE)
        clock.move(each_s)
        show.event(Predicted("gang-0", Window(SHOT.key, 1, step, part)), STATE)


def test_the_first_line_says_what_is_rendered_and_where(show, stream):
    show.begin(job(film("water"), film("rain")))
    said = "23:59:30Z run   2 films, 2 shots, 4 windows x 10 steps; into out/ on this machine\n"
    assert stream.getvalue() == said


def test_a_progress_line_needs_both_time_and_a_hundredth_more(show, stream, clock):
    show.begin(job(FILM))
    show.event(Admitted(FILM), STATE)
    predict(show, clock, 20, 4.0)  # 80 seconds, 5 % each
    assert [text[:9] for text in stream.getvalue().splitlines()[1:]] == ["00:00:02Z", "00:00:34Z"]
    for _ in range(100):
        clock.move(60)
        show.event(Predicted("gang-9", Window(SHOT.key, 7, 0, 0)), STATE)  # late: moves nothing
    assert len(stream.getvalue().splitlines()) == 4
    assert "windows 20/20 (100%)" in stream.getvalue()


def test_a_lost_worker_is_told_at_once_and_once(show, stream, clock):
    show.begin(job(FILM))
    show.event(Hired("gang-0", "denoise"), STATE)
    show.event(Lost("gang-0"), STATE)
    show.event(Lost("gang-0"), STATE)
    lines = stream.getvalue().splitlines()
    assert lines[1:] == ["23:59:30Z warn  lost gang-0 (denoise); its work goes on elsewhere"]


def raised(error_class):
    """An encoder's call that raised, and the state that follows from it."""
    state, actions = decide(STATE, Hired("encode-0", "encode"))
    event = Raised(actions[0].task.key, "encode-0", Failure("E801_STORE", "disk full", "", error_class))
    return event, decide(state, event)[0]


def test_an_error_that_will_be_tried_again_is_a_warning_with_its_code(show, stream):
    show.begin(job(FILM))
    event, state = raised("TRANSIENT")
    show.event(event, state)
    said = (
        f"warn  E801_STORE  prompt {event.key[:8]} on encode-0, TRANSIENT error 1, tried again: disk full\n"
    )
    assert stream.getvalue().endswith(said)


def test_a_last_error_is_left_to_the_films_that_it_fails(show, stream):
    show.begin(job(FILM))
    before = stream.getvalue()
    show.event(*raised("DATA"))
    assert stream.getvalue() == before


def test_a_finished_film_says_its_languages_and_work(show, stream):
    show.begin(job(FILM, film("rain"), film("sun")))
    show.film(ended(FILM))
    show.film(ended(film("rain"), reused=True))
    n = len(FILM.tasks)
    lines = [text[10:] for text in stream.getvalue().splitlines()[1:]]
    assert lines == [
        f"film  water  hi-IN ta-IN  rendered in {1.5 * n:.1f} s of work",
        "film  rain  hi-IN ta-IN  reused",
    ]


def test_a_failed_film_says_each_failure_once_beside_what_was_made(show, stream):
    show.begin(job(film("water", ("en-IN", "hi-IN", "ta-IN")), film("rain")))
    show.film(ended(film("water", ("en-IN", "hi-IN", "ta-IN")), failing=("hi-IN", "ta-IN")))
    lines = [text[10:] for text in stream.getvalue().splitlines()[1:]]
    assert lines[0].startswith("film  water  en-IN  rendered")
    assert lines[1:] == ["fail  E801_STORE  water  hi-IN ta-IN: disk full [31m now. make room"]


def test_the_last_film_is_followed_by_the_sum(show, stream):
    show.begin(job(FILM))
    show.film(ended(FILM))
    assert "films 1/1  windows" in stream.getvalue().splitlines()[-1]


def test_a_log_has_neither_carriage_returns_nor_colours(show, stream, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    show.begin(job(FILM, film("rain")))
    show.event(*raised("TRANSIENT"))
    show.film(ended(FILM, failing=("hi-IN",)))
    show.close()
    assert not re.search(r"[\r\x1b]", stream.getvalue())
    assert len(stream.getvalue().splitlines()) == 4


def test_only_a_terminal_gets_bars(stream, monkeypatch):
    assert isinstance(make_show(stream), Lines)
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_show(stream), Bars)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_show(stream), Lines)


def bars(stream, clock):
    show = make_show(stream, interactive=True, now=clock)
    show.begin(job(FILM, film("rain")))
    show.event(Admitted(FILM), STATE)
    show.event(Hired("gang-0", "denoise"), STATE)
    predict(show, clock, 5, 2.0)
    show.film(ended(FILM, failing=("hi-IN",)))
    show.event(Lost("gang-0"), STATE)
    show.close()
    return stream.getvalue()


def test_bars_show_counts_with_failures_above_them(stream, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", bars(stream, clock))
    assert "fail  E801_STORE  water  hi-IN: disk full [31m now. make room" in text
    last = text[text.rindex("films") :]
    assert text.index("fail  E801") < text.index("warn  lost gang-0") < text.rindex("films")
    assert "1/2" in last and "1 failed" in last and "20/40" in last and "lost 1" in last


def test_bars_honour_no_color(stream, clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3\dm", bars(stream, clock))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert re.search(r"\x1b\[[0-9;]*3\dm", bars(io.StringIO(), clock))


def test_bars_give_the_terminal_back(stream, clock):
    text = bars(stream, clock)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


# The last word.


def result(**more):
    fields = {"job_id": "lessons-4c1f", "status": "some_failed", "exit_code": 4, "films": 10, "done": 7}
    fields |= {"failed": 2, "invalid": 1, "reused": 3, "seconds": 61.0, "out": "s3://b/out"}
    fields |= {"results": "s3://b/out/results.parquet", "report": "s3://b/out/report/index.html"}
    return JobResult(**fields | more)


def row(row_id, lang="hi-IN", status="failed", **more):
    return {"row_id": row_id, "lang": lang, "status": status} | more


def test_failures_are_grouped_by_code_with_counts_and_one_example_then_the_command():
    bad = {"code": "E900_RENDER", "message": "it broke", "hint": "run again"}
    rows = [
        row(
            "x", "und", "invalid", code="E203_UNKNOWN_LANG", message="no such", json_path="/languages/1/lang"
        ),
        row("a", "en-IN", "done"),
        *(row(name, lang, **bad) for name in ("a", "b") for lang in ("hi-IN", "ta-IN")),
    ]
    command = ["python", "-m", "jobs", "run", "my lessons.parquet", "--out", "s3://b/out"]
    assert closing_lines(result(), rows, command) == (
        "E900_RENDER  2 films, 4 results\n  row a hi-IN\n  it broke\n  run again\n\n"
        "E203_UNKNOWN_LANG  1 film\n  row x /languages/1/lang\n  no such\n\n"
        "lessons-4c1f: 7 films done of 10, 3 reused, 2 failed, 1 invalid, in 0:01:01\n\n"
        "  films    s3://b/out/films/\n  results  s3://b/out/results.parquet\n"
        "  report   s3://b/out/report/index.html\n\n"
        "To go on, run again; what is done stays done:\n"
        "  python -m jobs run 'my lessons.parquet' --out s3://b/out"
    )


def test_a_job_without_failures_asks_for_nothing():
    text = closing_lines(result(status="done", done=10, failed=0, invalid=0), [row("a", status="done")])
    assert text.startswith("lessons-4c1f: 10 films done of 10, 3 reused, in") and "again" not in text


def test_invalid_rows_alone_are_to_be_mended_first():
    text = closing_lines(result(failed=0), [row("x", "und", "invalid", code="E1", message="m")])
    assert "Mend the rows above, then run again" in text and text.endswith("  the same command")


def test_the_last_word_stays_short_and_says_what_it_leaves_out():
    rows = [row(f"r{i}" * 64, code=f"E{i:03}", message="long\r\n" * 900, hint="x" * 5000) for i in range(500)]
    text = closing_lines(result(failed=500), rows, ["longtake", "run", "m.parquet"])
    assert len(text) < 8000 and "\r" not in text
    shown = text.count("\n  row ")
    assert shown >= 4 and f"and {500 - shown} codes more, all in the report" in text


def test_one_line_keeps_joiners_and_drops_what_moves_a_cursor():
    assert one_line("क्\u200dष\x1b[2J\r\n\u2028\ud800x") == "क्\u200dष [2J    x"
    assert one_line("abcdef", 4) == "abc…"
