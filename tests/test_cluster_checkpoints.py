"""What a checkpoint that is damaged where it lies may cost: the steps since the one before, and no more."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import checkpoints
from cluster.conductor import Conductor
from cluster.logs import LOG
from cluster.rank import Rank
from cluster.stages import Encoder
from manifests.store import open_store


def conducted(task, url, until=None, **told):
    """The outcome of a shot, or None where its conductor is lost before step `until`; and its steps."""
    conductor, rank, steps = Conductor(url, **{"checkpoint_every": 1} | told), Rank(url), []
    turn, *requests = conductor.open(task, 1)
    while turn.outcome is None:
        if turn.step == until:
            return None, steps
        steps.append(turn.step)
        predictions = [rank.predict(request)[1] for request in requests if request is not None]
        turn, *requests = conductor.advance(task.key, 1, *predictions)
    return turn.outcome.files["latents"], steps


def encoded(task, folder):
    encoder = Encoder(str(folder))
    for prompt in {*task.prompts, task.negative}:
        encoder.run(prompt)
    return str(folder)


@pytest.fixture(scope="module")
def task(make_film):
    task = make_film("a").master.segments[0].source
    return replace(task, sampling=replace(task.sampling, n_steps=5))


@pytest.fixture(scope="module")
def half(task, tmp_path_factory):
    """A store that a shot has left with three steps behind it, a checkpoint after each."""
    url = encoded(task, tmp_path_factory.mktemp("half"))
    assert conducted(task, url, until=3) == (None, [0, 1, 2])
    assert [checkpoints.steps_of(key) for key in named(url, task)] == [1, 2, 3]
    return Path(url)


@pytest.fixture(scope="module")
def latents(task, tmp_path_factory):
    """The hash of the latents of a shot that nothing befell."""
    return conducted(task, encoded(task, tmp_path_factory.mktemp("calm")))[0]


def named(url, task):
    return open_store(str(url)).list_keys(f"checkpoints/{task.key}")


def flip(path, bit):
    """Another bit at that place, counted around the file."""
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def tear(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGE = st.tuples(st.just(flip), st.integers(0, 1 << 40)) | st.tuples(st.just(tear), st.floats(0, 0.999))


@settings(deadline=None, max_examples=200)
@given(damage=DAMAGE, n=st.integers(1, 3))
def test_a_checkpoint_of_which_any_bit_is_another_is_discarded_and_the_one_before_holds(
    half, task, damage, n
):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(half / "checkpoints", Path(folder, "checkpoints"))
        names, (hurt, place) = named(folder, task), damage
        sound = Path(folder, names[2 - n]).read_bytes() if n < 3 else None
        for name in names[3 - n :]:
            hurt(Path(folder, name), place)
        found = checkpoints.last(open_store(folder), task.key)
        assert found == ((names[2 - n], sound) if n < 3 else None)
        assert named(folder, task) == names[: 3 - n]


@settings(deadline=None, max_examples=6)
@given(damage=DAMAGE, n=st.integers(1, 3))
def test_a_shot_whose_checkpoints_are_damaged_has_the_bits_of_one_that_nothing_befell(
    half, task, latents, damage, n
):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(half, folder, dirs_exist_ok=True)
        hurt, place = damage
        for name in named(folder, task)[3 - n :]:
            hurt(Path(folder, name), place)
        again, steps = conducted(task, folder)
        assert again == latents and steps[0] == 3 - n
        assert not named(folder, task)


def test_a_damaged_checkpoint_is_told_in_the_log_with_its_shot(
    half, task, tmp_path, capsys, caplog, monkeypatch
):
    monkeypatch.setattr(LOG, "propagate", True)
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    name = named(tmp_path, task)[-1]
    tear(tmp_path / name, 0.5)
    checkpoints.last(open_store(str(tmp_path)), task.key)
    told, size = caplog.records[0], (half / name).stat().st_size // 2
    assert capsys.readouterr().err.count("\n") == 1
    assert told.levelname == "WARNING" and told.task == task.key[:8]
    assert f"{name} is damaged, {size} bytes" in told.getMessage() and "discarded" in told.getMessage()


def test_bytes_that_were_damaged_on_their_way_are_read_again_and_kept(half, task, monkeypatch):
    store, answers = open_store(str(half)), iter([b"torn", b""])
    read = type(store).read
    monkeypatch.setattr(type(store), "read", lambda self, key: next(answers, None) or read(self, key))
    key, data = checkpoints.last(store, task.key)
    assert data == read(store, key) and checkpoints.steps_of(key) == 3


@pytest.mark.parametrize(("checkpoint_s", "saved"), [(0.5, [1, 2, 3]), (1.5, [2]), (100.0, [])])
def test_steps_that_take_long_are_saved_by_time_before_their_number_is_due(
    task, half, tmp_path, monkeypatch, checkpoint_s, saved
):
    shutil.copytree(half / "done", tmp_path / "done")
    shutil.copytree(half / "cas", tmp_path / "cas")
    clock, predict = SimpleNamespace(now_s=0.0), Rank.predict
    monkeypatch.setattr("cluster.conductor.time", SimpleNamespace(monotonic=lambda: clock.now_s))

    def slow(self, request):
        clock.now_s += 1.0 / len(task.course.parts_at(0))  # a second for each step
        return predict(self, request)

    monkeypatch.setattr(Rank, "predict", slow)
    outcome, _ = conducted(task, str(tmp_path), until=3, checkpoint_every=100, checkpoint_s=checkpoint_s)
    assert outcome is None
    assert [checkpoints.steps_of(key) for key in named(tmp_path, task)] == saved
