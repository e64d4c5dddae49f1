"""Claims about nodes that are lost: who is asked, and whose word counts where nobody can be asked."""

import socket
from types import SimpleNamespace

import pytest

from cluster import nodes
from cluster.nodes import OTHERS, is_there, lives

PLACES = {name: (name, 1) for name in ("own", "other", "third")}


def reached(*names):
    return lambda place: place[0] in names


@pytest.mark.parametrize(
    ("node", "answering", "there"),
    [
        ("other", ("own", "other"), True),
        ("other", ("own",), False),
        ("other", ("third",), False),
        ("other", (), True),  # from outside of the cluster no node can be reached, and Ray's word counts
        ("gone", (), False),  # as it does of a node that Ray has given up
        ("gone", ("own",), False),
    ],
)
def test_a_node_is_lost_that_does_not_answer_where_others_do(node, answering, there):
    assert is_there(node, PLACES, reached(*answering)) is there


def test_however_many_nodes_there_are_few_are_asked_and_the_drivers_own_first():
    asked = []

    def silent(place):
        asked.append(place[0])
        return False

    assert is_there("n99", {"own": ("own", 1)} | {f"n{k}": (f"n{k}", 1) for k in range(500)}, silent)
    assert len(asked) == 1 + OTHERS and asked[:2] == ["n99", "own"]


def test_a_driver_that_reaches_its_own_node_takes_one_that_refuses_for_lost_and_else_believes_ray(
    monkeypatch,
):
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("127.0.0.1", 0)) as dead:
        ports = {"own": own.getsockname()[1], "dead": dead.getsockname()[1]}
        dead.close()
        table = [
            {"NodeID": name, "Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
            for name, port in sorted(ports.items())
        ]
        monkeypatch.setattr(nodes.ray, "nodes", lambda: table)
        context = SimpleNamespace(get_node_id=lambda: "own")
        monkeypatch.setattr(nodes.ray, "get_runtime_context", lambda: context)
        assert lives("own") and not lives("dead")
        own.close()
        assert lives("dead"), "nobody can be reached from here"
        table[0]["Alive"] = False
        assert table[0]["NodeID"] == "dead" and not lives("dead")
