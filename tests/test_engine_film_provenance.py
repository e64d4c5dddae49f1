"""A signed film proves where it came from, and any tampering shows."""

import hashlib
import json
import stat
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest

from engine.film.provenance import (
    RENDER_LABEL,
    SOURCE_TYPE,
    Claim,
    Identity,
    Verdict,
    make_development_identity,
    sign,
    verify,
)

PROMPT = "a very private prompt about somebody's grandmother"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CLAIM = Claim("Monsoon", sha256("row"), "cogvideox-2b@abc", 2**60 + 1, (sha256(PROMPT),))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight noisy frames: enough media for a changed byte to land in."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(8):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_development_identity(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(film: Path, identity: Identity, tmp_path: Path) -> Path:
    target = tmp_path / "signed.mp4"
    sign(film, target, CLAIM, identity)
    return target


def stream_copy(source: Path, target: Path) -> None:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def test_a_signed_film_is_trusted_with_our_root(signed: Path, identity: Identity) -> None:
    assert verify(signed, identity.root.read_text()) == Verdict(True, "Trusted", ())


def test_without_our_root_a_signed_film_is_valid_but_untrusted(signed: Path) -> None:
    assert verify(signed, None) == Verdict(True, "Valid", ("signingCredential.untrusted",))


def test_another_root_does_not_make_a_film_trusted(signed: Path, tmp_path: Path) -> None:
    stranger = make_development_identity(tmp_path / "stranger")
    assert verify(signed, stranger.root.read_text()).state == "Valid"


def test_one_byte_changed_in_the_media_makes_a_film_invalid(signed: Path, identity: Identity) -> None:
    data = bytearray(signed.read_bytes())
    data[data.index(b"mdat") + 400] ^= 1
    signed.write_bytes(data)
    verdict = verify(signed, identity.root.read_text())
    assert (verdict.signed, verdict.state) == (True, "Invalid")
    assert "assertion.bmffHash.mismatch" in verdict.reasons


def test_a_file_that_is_no_film_is_invalid(tmp_path: Path, identity: Identity) -> None:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"not a film")
    verdict = verify(junk, identity.root.read_text())
    assert (verdict.signed, verdict.state) == (False, "Invalid")
    assert verdict.reasons


def test_a_stream_copy_has_no_manifest_and_is_unsigned(
    signed: Path, identity: Identity, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    stream_copy(signed, copy)
    assert verify(copy, identity.root.read_text()) == Verdict(False, "Unsigned", ())


def test_the_target_of_a_failed_sign_does_not_exist(identity: Identity, tmp_path: Path) -> None:
    source, folder = tmp_path / "broken.mp4", tmp_path / "out"
    source.write_bytes(b"not a film")
    folder.mkdir()
    with pytest.raises(c2pa.C2paError):
        sign(source, folder / "signed.mp4", CLAIM, identity)
    assert list(folder.iterdir()) == []


def test_a_failed_sign_leaves_an_earlier_target_as_it_was(
    signed: Path, identity: Identity, tmp_path: Path
) -> None:
    before = signed.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a film")
    with pytest.raises(c2pa.C2paError):
        sign(broken, signed, CLAIM, identity)
    assert signed.read_bytes() == before


def test_no_prompt_text_is_in_the_file_but_its_hash_is(signed: Path) -> None:
    data = signed.read_bytes()
    assert PROMPT.encode() not in data
    assert sha256(PROMPT).encode() in data


def test_a_claim_refuses_a_text_where_a_hash_belongs() -> None:
    with pytest.raises(ValueError, match="never texts") as caught:
        Claim("Monsoon", sha256("row"), "model", 1, (PROMPT,))
    assert PROMPT not in str(caught.value)


def test_the_manifest_says_what_the_claim_says_without_a_thumbnail(signed: Path) -> None:
    with c2pa.Reader(str(signed)) as reader:
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    found = {a["label"]: a["data"] for a in manifest["assertions"]}
    assert manifest["title"] == "Monsoon"
    assert "thumbnail" not in manifest
    assert found["c2pa.actions.v2"]["actions"][0]["digitalSourceType"] == SOURCE_TYPE
    assert found[RENDER_LABEL] == {
        "manifest_sha256": CLAIM.manifest_row_hash,
        "model": CLAIM.model,
        "seed": str(2**60 + 1),
        "prompt_sha256": [sha256(PROMPT)],
    }


def test_an_identity_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = make_development_identity(tmp_path)
    key = first.key.read_bytes()
    assert make_development_identity(tmp_path) == first
    assert first.key.read_bytes() == key
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["development-identity"]
