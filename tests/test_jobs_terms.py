"""Claims about what the crew is told of a configuration: all that both name, share among it."""

from dataclasses import fields, replace
from types import SimpleNamespace

from cluster.crew import Setup
from jobs.spec import ClusterSpec
from jobs.terms import setup_of

OTHER = {"device": "cpu", "exchange": "fused", "cache": "/elsewhere", "stage_gpus": 0.1}


def test_what_the_configuration_and_the_crew_both_name_is_handed_over():
    both = {field.name for field in fields(Setup)} & {field.name for field in fields(ClusterSpec)}
    usual = ClusterSpec()
    other = {name: OTHER[name] if name in OTHER else _other(getattr(usual, name)) for name in sorted(both)}
    assert {"share", "gangs", "threads", *OTHER} <= other.keys() and len(other) > 10
    spec = SimpleNamespace(cluster=replace(usual, **other), identity="/id", log="json")
    setup = setup_of(SimpleNamespace(spec=spec, job_id="a job"), "/store")
    assert {name: getattr(setup, name) for name in other} == other


def _other(value):
    return not value if isinstance(value, bool) else value + 1
