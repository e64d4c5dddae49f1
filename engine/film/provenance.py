"""Content Credentials: sign a film with C2PA, and say what a film's credentials are worth.

A claim states how a film was made and carries hashes only: prompts may hold personal data, and a signed
film travels further than the manifest it was rendered from. The development identity proves integrity
inside one organisation; other people's viewers trust only certificates on the public C2PA trust list.
No time-stamp authority is asked, so after the leaf expires nothing shows that a film was signed in time.
"""

import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import c2pa  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

State = Literal["Trusted", "Valid", "Invalid", "Unsigned"]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
RENDER_LABEL = "org.longtake.render"
MEDIA_TYPE = "video/mp4"
ROOT_DAYS, LEAF_DAYS = 3650, 825
DRAFT_MIB = 4  # of the signed copy that c2pa may hold in memory; its own default is the first 512

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Identity:
    """Where a signing identity lies: the root to trust, the leaf-first chain, and the leaf's key."""

    root: Path
    chain: Path
    key: Path


@dataclass(frozen=True)
class Claim:
    """What a film says about its making; hashes are lower-case hexadecimal SHA-256."""

    title: str
    manifest_row_hash: str
    model: str
    seed: int
    prompt_hashes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse anything but hashes, so that a prompt's text cannot slip into a published file."""
        for value in (self.manifest_row_hash, *self.prompt_hashes):
            if not _SHA256.fullmatch(value):
                raise ValueError("a claim holds SHA-256 hashes in lower-case hexadecimal, never texts")


@dataclass(frozen=True)
class Verdict:
    """What verification found; `reasons` are C2PA failure codes, or why the file could not be read."""

    signed: bool
    state: State
    reasons: tuple[str, ...]


def make_development_identity(folder: Path) -> Identity:
    """Return the self-made identity kept under `folder`, making it on first use."""
    home = folder / "development-identity"
    if not home.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".identity-", dir=folder))
        try:
            _write_identity(draft)
            _publish(draft, home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return _identity_in(home)


def _identity_in(home: Path) -> Identity:
    return Identity(home / "root.pem", home / "chain.pem", home / "key.pem")


def _publish(draft: Path, home: Path) -> None:
    """Move the whole folder in one step, so that a key is never seen beside another run's certificate."""
    try:
        os.rename(draft, home)
    except OSError:
        if not home.is_dir():
            raise
        # Another process was first: its identity stands, and this draft is thrown away.


def _write_identity(home: Path) -> None:
    """Write a fresh chain; the root's key is never stored, so nobody can issue a second leaf from it."""
    identity = _identity_in(home)
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _root_certificate(root_key)
    leaf = _leaf_certificate(leaf_key, root, root_key)
    _write(identity.root, _pem(root), 0o644)
    _write(identity.chain, _pem(leaf) + _pem(root), 0o644)
    secret = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(identity.key, secret, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Create the file with its final mode: a later chmod would leave a key readable for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Longtake development"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _draft_certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    """Start a certificate, valid from yesterday because the clocks of a cluster disagree."""
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    """A root signs certificates and a leaf signs films; C2PA refuses a key that may do both."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _root_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Root")
    draft = _draft_certificate(name, name, key.public_key(), ROOT_DAYS)
    draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return draft.add_extension(_key_usage(ca=True), critical=True).sign(key, hashes.SHA256())


def _leaf_certificate(
    key: ec.EllipticCurvePrivateKey, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Issue the signing leaf with the extensions that C2PA's certificate profile demands."""
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    draft = _draft_certificate(_name("Film signer"), root.subject, key.public_key(), LEAF_DAYS)
    draft = draft.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    draft = draft.add_extension(_key_usage(ca=False), critical=True)
    draft = draft.add_extension(purpose, critical=False).add_extension(authority, critical=False)
    return draft.sign(root_key, hashes.SHA256())


def sign(source: Path, target: Path, claim: Claim, identity: Identity) -> None:
    """Write a signed copy of the MP4 `source` to `target`, which appears whole or not at all."""
    settings = {
        "builder": {"thumbnail": {"enabled": False}},  # a thumbnail of a video cannot be made
        "core": {"backing_store_memory_threshold_in_mb": DRAFT_MIB},
    }
    with (
        _draft_beside(target) as draft,
        _context(settings) as context,
        _signer(identity) as signer,
        c2pa.Builder(_manifest(claim), context) as builder,
    ):
        with source.open("rb") as film, draft.open("w+b") as copy:
            builder.sign(signer, MEDIA_TYPE, film, copy)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(draft, target)


@contextmanager
def _draft_beside(target: Path) -> Iterator[Path]:
    """Lend a folder in the target's own file system, where the final rename is atomic."""
    with tempfile.TemporaryDirectory(prefix=".signing-", dir=target.parent) as folder:
        yield Path(folder) / target.name


def _context(settings: dict[str, Any]) -> Any:
    return c2pa.Context.builder().with_settings(c2pa.Settings.from_dict(settings)).build()


def _signer(identity: Identity) -> Any:
    """Load the key; c2pa takes chain and key as bytes when the algorithm is the enum."""
    chain, key = identity.chain.read_bytes(), identity.key.read_bytes()
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None))


def _manifest(claim: Claim) -> dict[str, Any]:
    created = {
        "action": "c2pa.created",
        "softwareAgent": {"name": "longtake"},
        "digitalSourceType": SOURCE_TYPE,
    }
    render = {
        "manifest_sha256": claim.manifest_row_hash,
        "model": claim.model,
        "seed": str(claim.seed),  # text, because JSON readers round integers above 2**53
        "prompt_sha256": list(claim.prompt_hashes),
    }
    return {
        "claim_generator_info": [{"name": "longtake"}],
        "title": claim.title,
        "format": MEDIA_TYPE,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": RENDER_LABEL, "data": render},
        ],
    }


def verify(path: Path, root_pem: str | None) -> Verdict:
    """Check a film's credentials, trusting `root_pem`; without a root the best state is Valid."""
    settings: dict[str, Any] = {"verify": {"verify_trust": True}}
    if root_pem is not None:
        settings["trust"] = {"user_anchors": root_pem}
    with _context(settings) as context, path.open("rb") as film:
        try:
            with c2pa.Reader(MEDIA_TYPE, film, context=context) as reader:
                # A state the library leaves out is no pass.
                return Verdict(True, reader.get_validation_state() or "Invalid", _failures(reader))
        except c2pa.C2paError.ManifestNotFound:
            return Verdict(False, "Unsigned", ())
        except c2pa.C2paError as error:
            # A file that cannot even be parsed has no readable signature, and must never pass.
            return Verdict(False, "Invalid", (str(error),))


def _failures(reader: Any) -> tuple[str, ...]:
    """List the failure codes of the film's own manifest, once each, in the order they were found."""
    results = reader.get_validation_results() or {}
    failures = results.get("activeManifest", {}).get("failure", [])
    return tuple(dict.fromkeys(str(failure["code"]) for failure in failures))
