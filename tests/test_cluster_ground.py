"""Claims about nodes as a driver knows them: none counts twice, none that is to go, and each is told once."""

import pytest

from cluster import ground
from cluster.ground import UNNOTICED_S, Ground


class Nodes:
    """What Ray says of nodes, and which of them answer."""

    def __init__(self):
        self.table, self.told, self.answering = {}, set(), set()
        self.now_s = 1000.0

    def come(self, *names):
        self.table |= {name: {"CPU": 1.0, "name": name} for name in names}
        self.answering |= set(names)

    def die(self, name):
        """Ray does not know of it yet."""
        self.answering.discard(name)


@pytest.fixture
def nodes(monkeypatch):
    nodes = Nodes()
    monkeypatch.setattr(ground, "living", lambda: dict(nodes.table))
    monkeypatch.setattr(ground, "draining_nodes", lambda: set(nodes.told))
    monkeypatch.setattr(ground, "lives", lambda node: node in nodes.answering)
    monkeypatch.setattr(ground.time, "monotonic", lambda: nodes.now_s)
    return nodes


def names(known):
    return {has["name"] for has in known.staying()}


def loses(known, node):
    """Whether a worker that came to this node, and is gone, is lost with it."""
    known.came("worker", node)
    failure = known.lost("worker")
    return failure is not None and failure.error_class == "NODE_LOST"


def test_a_node_that_was_found_dead_counts_no_more_though_ray_takes_it_for_alive(nodes):
    known = Ground()
    nodes.come("a", "b")
    assert known.look() == ([], False) and names(known) == {"a", "b"}
    nodes.die("a")
    assert names(known) == {"a", "b"}, "nobody has asked it"
    assert loses(known, "a") and not loses(known, "b")
    nodes.come("c")
    assert known.look() == ([], False) and names(known) == {"b", "c"}
    del nodes.table["a"]
    assert known.look() == ([], True) and known.look() == ([], False) and names(known) == {"b", "c"}


def test_a_node_whose_link_was_cut_counts_again_after_a_while(nodes):
    known = Ground()
    nodes.come("a")
    nodes.die("a")
    known.look()
    assert loses(known, "a") and names(known) == set()
    nodes.come("a")
    assert loses(known, "a"), "it is not asked for each of its workers"
    nodes.now_s += UNNOTICED_S
    assert names(known) == {"a"} and not loses(known, "a")


def test_a_node_with_notice_is_told_once_and_does_not_stay(nodes):
    known = Ground()
    nodes.come("a", "b")
    nodes.told = {"b"}
    assert known.look() == (["b"], False) and known.draining == {"b"} and names(known) == {"a"}
    for worker, node in (("gang-0", "a"), ("gang-1", "b")):
        known.came(worker, node)
    assert known.going(["gang-0", "gang-1", "gang-2"]) == {"gang-1"}
    assert known.lost("gang-1").error_class == "PREEMPTED" and known.lost("gang-1") is None, (
        "it is known once"
    )
    assert known.look() == ([], False)
    nodes.told, nodes.table = set(), {"a": nodes.table["a"]}
    assert known.look() == ([], True) and known.draining == {"b"}
