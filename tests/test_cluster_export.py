"""Claims about what leaves processes of a Ray cluster: an endpoint has the numbers, lines have fields."""

import io
import json
import re
import time
import urllib.request
from contextlib import redirect_stderr

import pytest

from cluster.account import Account, advance, settled
from cluster.events import FilmDone
from cluster.export import RaySink, equip
from cluster.logs import LOG
from cluster.metrics import METRICS, Meter
from jobs.books import Noted
from manifests.store import open_store

SEEN_S = 60.0  # within about 10 s on a quiet machine
ROLES = {"denoise", "conduct", "decode", "encode", "finish"}  # whose workers touch the store

pytestmark = pytest.mark.usefixtures("ray_here")


def scraped():
    """Every sample of ours at the node's endpoint: name, labels and value, as Prometheus reads them."""
    import ray

    (node,) = (node for node in ray.nodes() if node["Alive"])
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = []
    for name, labels, value in re.findall(r"^(ray_longtake_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)))
    return found


def total(samples, name, **labels):
    return sum(
        v for n, told, v in samples if n == name and all(told.get(k) == want for k, want in labels.items())
    )


def test_a_nodes_endpoint_has_what_a_job_counted_and_what_its_workers_stored(on_ray, make_film):
    lent = on_ray(1, 1)
    crew, meter, began = lent.crew, Meter(RaySink(), "counted"), time.monotonic()
    account = Account()

    def note(what):
        nonlocal account
        account = advance(account, time.monotonic() - began, what)

    def watch(event, state):
        note(event)
        meter.event(time.monotonic() - began, event, state, account)

    lent.crew = Noted(crew, note)
    try:
        (done,) = lent.render([make_film("counted")], watch).values()
    finally:
        lent.crew = crew
    assert isinstance(done, FilmDone)
    account, tally = settled(account, done)
    meter.film(done)
    meter.close(account)
    assert tally.used_us == account.used_us > 0 and account.job.wasted_us == 0
    steps = sum(segment.source.course.n_predictions for segment in done.film.master.segments)

    counted = {
        ("ray_longtake_window_steps_total", ""): steps,
        ("ray_longtake_window_step_seconds_count", ""): steps,
        ("ray_longtake_films_total", "done"): 1,
        ("ray_longtake_shots_total", ""): 2,
        ("ray_longtake_gpu_used_seconds_total", ""): pytest.approx(account.used_us / 1e6, rel=1e-3),
        ("ray_longtake_gangs", ""): 0,  # none is left
    }
    told, roles, samples = {}, set(), []
    deadline = time.monotonic() + SEEN_S
    while (told != counted or not roles >= ROLES) and time.monotonic() < deadline:
        time.sleep(2.0)  # a process reports some of its numbers a few seconds before the others
        samples = scraped()
        told = {
            (name, outcome): total(samples, name, job="counted", **({"outcome": outcome} if outcome else {}))
            for name, outcome in counted
        }
        roles = {labels["role"] for name, labels, _ in samples if name == "ray_longtake_store_seconds_total"}
    assert told == counted
    assert roles >= ROLES
    assert total(samples, "ray_longtake_store_written_bytes_total", role="decode") > 0
    exported = {metric.exported for metric in METRICS.values()}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name, _, _ in samples} <= exported


class Stored:
    """As much of a worker as it is equipped for."""

    def __init__(self, folder):
        self.store = open_store(folder)


def said(worker):
    """What a line of its log is."""
    out = io.StringIO()
    with redirect_stderr(out):
        LOG.warning("it is warm")
    return out.getvalue()


def test_a_workers_line_says_whose_it_is_and_at_which_window(tmp_path):
    import ray

    actor = ray.remote(num_cpus=0)(Stored).remote(str(tmp_path))
    try:
        actor.__ray_call__.remote(equip, "gang-3", "night", "json")
        line = ray.get(actor.__ray_call__.options(name="ab12cd34 step 3 part 1").remote(said), timeout=60)
    finally:
        ray.kill(actor)
    told = json.loads(line)
    assert (told["job"], told["worker"], told["message"]) == ("night", "gang-3", "it is warm")
    assert (told["task"], told["window"], told["row"]) == ("ab12cd34", "step 3 part 1", None)
