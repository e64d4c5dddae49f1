"""A gang against one rank: real processes over gloo, tiny random models, nothing shared but a store."""

import multiprocessing as mp
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.utils.logging import set_verbosity_error
from hypothesis import given
from hypothesis import strategies as st

from engine.families.cogvideox import CogVideoX
from engine.families.cogvideox_parallel import JointSequence, check, parallelise
from engine.parallel import form_group, gather, serve_rendezvous, shard, ulysses_attention
from engine.windows import plan_windows

LAYERS, TIMEOUT_S = 2, 60.0


@dataclass(frozen=True)
class Case:
    """A tiny model and a window for it: 16 video tokens a latent frame."""

    scale: float = 6.0
    rotary: bool = True
    batch: int = 1
    n_text: int = 6
    n_frames: int = 3
    heads: int = 2
    start: int = 0
    dtype: torch.dtype = torch.float32


CASES = {
    "guided": Case(),
    "unguided": Case(scale=1.0),
    "a batch of two under guidance": Case(batch=2),
    "positions added to the tokens": Case(rotary=False),
    "odd text and odd sum": Case(n_text=5),
    "more text than a rank's share": Case(n_text=61, n_frames=1),
    "half precision": Case(dtype=torch.bfloat16),
}
CASES |= {f"window {w.start}": Case(start=w.start) for w in plan_windows(7, 3, 1)}


def make_family(case):
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=case.heads, attention_head_dim=16, in_channels=4, out_channels=4,
        time_embed_dim=8, text_embed_dim=12, num_layers=LAYERS, sample_width=8, sample_height=8,
        sample_frames=9, patch_size=2, max_text_seq_length=6, use_rotary_positional_embeddings=case.rotary,
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler()
    return CogVideoX(CogVideoXPipeline(None, None, None, transformer.to(case.dtype).eval(), scheduler))


def predict(family, case):
    generator = torch.Generator().manual_seed(7)
    shot = torch.randn((case.batch, 7, 4, 8, 8), generator=generator).to(case.dtype)
    prompt, negative = torch.randn((2, case.batch, case.n_text, 12), generator=generator).to(case.dtype)
    window = shot[:, case.start : case.start + case.n_frames]
    return family.predict(window, torch.tensor(500), prompt, negative, case.scale)


class Rank:
    """What runs in a gang's process; the test calls its methods through a pipe."""

    def __init__(self):
        self.group, self.family, self.seen = None, None, []
        sys.addaudithook(lambda event, _: self.seen.append(event))

    def form(self, port, prefix, rank, size):
        self.group = form_group("127.0.0.1", port, prefix, rank, size, TIMEOUT_S)

    def predict(self, case, again=False):
        if not again:
            self.family = make_family(case)
        parallelise(self.family, self.group)
        return predict(self.family, case).numpy()

    def predict_counting(self, case):
        from deepspeed.sequence.layer import DistributedAttention

        calls, real = [], DistributedAttention.forward
        DistributedAttention.forward = lambda *args, **kwargs: (calls.append(1), real(*args, **kwargs))[1]
        try:
            self.predict(case)
        finally:
            DistributedAttention.forward = real
        return len(calls)

    def predict_beside_plain_instances(self, case):
        """Whether an instance made before, one made after, and the gang's own, released, are as stock."""
        before = make_family(case)
        stock = predict(before, case)
        shared = self.predict(case)
        plain = [predict(before, case), predict(make_family(case), case)]
        parallelise(self.family, None)
        plain.append(predict(self.family, case))
        return shared, [torch.equal(x, stock) for x in plain]

    def share_and_collect(self, length):
        x = torch.arange(2.0 * length).view(2, length, 1)
        share = shard(x, 1, self.group)
        return share.shape[1], torch.equal(gather(share, 1, self.group, length), x)

    def attend_with_three_heads(self):
        return ulysses_attention(*torch.zeros(3, 1, 4, 3, 8), self.group, 8)

    def chatter(self):
        return [event for event in self.seen if event in ("subprocess.Popen", "os.posix_spawn", "os.system")]

    def has_imported_deepspeed(self):
        return "deepspeed" in sys.modules


def serve(pipe, log):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    torch.set_num_threads(1)
    set_verbosity_error()  # a remark of diffusers' on half precision is not what the log is kept for
    rank = Rank()
    while True:
        name, args = pipe.recv()
        try:
            pipe.send(("done", getattr(rank, name)(*args)))
        except Exception as error:
            pipe.send((type(error).__name__, str(error)))


class Gang:
    """Processes that each serve one Rank; a call goes to all of them at once."""

    def __init__(self, size, folder):
        context = mp.get_context("forkserver")  # imports once, and forks before torch has made threads
        context.set_forkserver_preload(["diffusers", "engine.families.cogvideox", __name__])
        self.logs = [folder / f"{os.getpid()}_{n}.log" for n in range(size)]
        self.pipes, self.processes = [], []
        for log in self.logs:
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=serve, args=(theirs, log), daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.pipes.append(ours)

    def call(self, name, *args):
        for n in range(len(self.pipes)):
            self.ask(n, name, *args)
        return [self.answer(n) for n in range(len(self.pipes))]

    def ask(self, n, name, *args):
        self.pipes[n].send((name, args))

    def answer(self, n):
        assert self.pipes[n].poll(90), f"process {n} does not answer:\n{self.logs[n].read_text()}"
        return self.pipes[n].recv()

    def form(self, store, prefix, members):
        for rank, n in enumerate(members):
            self.ask(n, "form", store.port, prefix, rank, len(members))
        assert [self.answer(n) for n in members] == [("done", None)] * len(members)

    def end(self):
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def store():
    return serve_rendezvous("127.0.0.1")


@pytest.fixture
def start(tmp_path):
    gangs = []
    yield lambda size: gangs.append(Gang(size, tmp_path)) or gangs[-1]
    for gang in gangs:
        gang.end()


@pytest.fixture(scope="module")
def gang(store, tmp_path_factory):
    gang = Gang(2, tmp_path_factory.mktemp("gang"))
    gang.form(store, "first", [0, 1])
    yield gang
    gang.end()


def done(answers):
    assert {kind for kind, _ in answers} == {"done"}, answers
    return [value for _, value in answers]


def assert_close(prediction, case):
    whole = predict(make_family(case), case)
    assert whole.std() > 0.01
    atol = 1e-5 if case.dtype == torch.float32 else 0.1
    torch.testing.assert_close(torch.as_tensor(prediction), whole, rtol=0, atol=atol)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_gang_of_two_equals_one_rank_and_both_ranks_hold_the_same_bits(gang, case):
    first, second = done(gang.call("predict", case))
    assert (first == second).all()
    assert_close(first, case)


def test_attention_really_goes_through_deepspeed(gang):
    assert done(gang.call("predict_counting", Case())) == [LAYERS, LAYERS]


def test_other_instances_in_the_process_stay_as_stock_and_a_released_one_returns_to_it(gang):
    for shared, plain in done(gang.call("predict_beside_plain_instances", Case())):
        assert_close(shared, Case())
        assert plain == [True, True, True]


def test_one_instance_takes_windows_of_other_lengths(gang):
    done(gang.call("predict", Case()))
    case = Case(n_frames=2, n_text=4)
    assert_close(done(gang.call("predict", case, True))[0], case)


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_gathering_shares_gives_the_whole_back(gang, length):
    assert done(gang.call("share_and_collect", length)) == [(-(-length // 2), True)] * 2


def test_heads_that_do_not_divide_are_refused_with_their_numbers_and_the_gang_lives_on(gang):
    for answers in (gang.call("predict", Case(heads=3)), gang.call("attend_with_three_heads")):
        for kind, message in answers:
            assert kind == "ValueError"
            assert "3 attention heads" in message and "2 ranks" in message and "one of 1, 3" in message
    assert_close(done(gang.call("predict", Case()))[0], Case())


def test_deepspeed_says_nothing_and_starts_no_compiler(gang):
    done(gang.call("predict", Case()))
    assert done(gang.call("has_imported_deepspeed")) == [True, True]
    assert done(gang.call("chatter")) == [[], []]
    assert [log.read_text() for log in gang.logs] == ["", ""]


def test_a_gang_of_one_forms_no_group_and_never_imports_deepspeed(start, store):
    gang = start(1)
    gang.form(store, "alone", [0])
    assert_close(done(gang.call("predict", Case()))[0], Case())
    assert done(gang.call("has_imported_deepspeed")) == [False]


def test_after_a_peer_was_killed_the_survivor_raises_and_forms_anew_with_another(start, store):
    gang = start(3)
    gang.form(store, "gen0", [0, 1])
    gang.ask(0, "predict", Case())
    time.sleep(1.0)  # so that it waits for rank 1 inside a collective
    assert not gang.pipes[0].poll(0)
    gang.processes[1].kill()
    start = time.monotonic()
    kind, message = gang.answer(0)
    assert kind != "done" and "Connection" in message, message
    assert time.monotonic() - start < 5.0 < TIMEOUT_S
    gang.form(store, "gen1", [0, 2])
    gang.ask(0, "predict", Case(), True)
    gang.ask(2, "predict", Case())
    first, second = done([gang.answer(0), gang.answer(2)])
    assert (first == second).all()
    assert_close(first, Case())


def test_no_group_leaves_the_instance_bit_identical():
    family = make_family(Case())
    parallelise(family, None)
    assert torch.equal(predict(family, Case()), predict(make_family(Case()), Case()))


def test_one_rank_alone_attends_as_scaled_dot_product_attention_does_and_ignores_padding():
    q, k, v = torch.randn(3, 2, 7, 4, 8, generator=torch.Generator().manual_seed(0))
    out = ulysses_attention(q, k, v, None, 5)
    plain = torch.nn.functional.scaled_dot_product_attention(*(x[:, :5].transpose(1, 2) for x in (q, k, v)))
    assert torch.equal(out[:, :5], plain.transpose(1, 2))
    assert not out[:, 5:].any()


def test_a_rank_outside_the_gang_is_refused():
    with pytest.raises(ValueError, match="rank 2 is not in a gang of 2"):
        form_group("127.0.0.1", 1, "p", 2, 2, 1.0)


def test_a_peer_that_never_comes_is_an_error_after_the_timeout(store):
    with pytest.raises(RuntimeError, match=r"(?i)time"):
        form_group("127.0.0.1", store.port, "lonely", 0, 2, 0.5)


@given(n_text=st.integers(0, 300), n_video=st.integers(1, 300), size=st.integers(1, 16))
def test_ranks_hold_every_text_token_once_and_before_any_video(n_text, n_video, size):
    sequence = JointSequence(n_text, n_video)
    share = -(-sequence.n_tokens // size)
    held = [sequence.text_share(rank, size) for rank in range(size)]
    assert sum(held) == n_text
    assert all(0 <= n <= share for n in held)
    assert all(before == share for before, after in pairwise(held) if after)


def test_planning_can_ask_what_fits_without_a_model():
    config = SimpleNamespace(num_attention_heads=48, patch_size=2, patch_size_t=None)
    assert check(config, 226, (1, 13, 16, 60, 90), 8) == JointSequence(226, 17550)
    with pytest.raises(
        ValueError, match=r"48 attention heads .* 5 ranks .* 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"
    ):
        check(config, 226, (1, 13, 16, 60, 90), 5)
    with pytest.raises(ValueError, match=r"\(13, 61, 90\).*\(1, 2, 2\)"):
        check(config, 226, (1, 13, 16, 61, 90), 8)
    config.patch_size_t = 2
    assert check(config, 226, (1, 14, 16, 60, 90), 8).n_video == 7 * 30 * 45
