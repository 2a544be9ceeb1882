"""RemoteGenerator before engines whose certificates are of a CA of the test's own."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from generator.interface import ChatMessage, GeneratorUnavailable
from generator.remote import RemoteGenerator
from tests.fake_engine import DONE, STREAM, FakeEngine, delta, fake_engine

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "when does it arrive?")]
ANSWER = STREAM + delta("On Monday.") + DONE
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def ours() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def another() -> trustme.CA:
    return trustme.CA()


def speaking(certificate: trustme.LeafCert) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    return tls


def file_of(ca: trustme.CA, folder: Path) -> Path:
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


async def ask(url: str, ca_file: Path | None) -> str:
    generator = RemoteGenerator(url, "tiny", "sk-very-secret", ca_file=ca_file)
    try:
        return "".join(piece.text for piece in await collect(generator.stream(ASK)))
    finally:
        await generator.aclose()


async def why_refused(engine: FakeEngine, url: str, ca_file: Path | None) -> str:
    with pytest.raises(GeneratorUnavailable) as caught:
        await ask(url, ca_file)
    assert engine.bodies == []  # neither the question nor the key has left
    return str(caught.value)


async def test_an_engine_behind_a_named_ca_answers(ours: trustme.CA, tmp_path: Path) -> None:
    with fake_engine(ANSWER, tls=speaking(ours.issue_cert("127.0.0.1"))) as engine:
        assert engine.url.startswith("https://")
        assert await ask(engine.url, file_of(ours, tmp_path)) == "On Monday."
        assert len(engine.bodies) == 1


async def test_one_of_several_cas_in_a_file_will_do(
    ours: trustme.CA, another: trustme.CA, tmp_path: Path
) -> None:
    path = file_of(another, tmp_path)
    ours.cert_pem.write_to_path(path, append=True)
    below = ours.create_child_ca().issue_cert("127.0.0.1")  # comes with its chain
    with fake_engine(ANSWER, tls=speaking(below)) as engine:
        assert await ask(engine.url, path) == "On Monday."


async def test_another_cas_certificate_is_refused(
    ours: trustme.CA, another: trustme.CA, tmp_path: Path
) -> None:
    with fake_engine(ANSWER, tls=speaking(another.issue_cert("127.0.0.1"))) as engine:
        for ca_file in (file_of(ours, tmp_path), None):
            told = await why_refused(engine, engine.url, ca_file)
            assert engine.url in told
            assert "is not one that is trusted here (" in told
            assert "give that CA's certificate as the CA file" in told


async def test_a_certificate_for_another_name_is_refused(ours: trustme.CA, tmp_path: Path) -> None:
    ca_file = file_of(ours, tmp_path)
    for named, host in (("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")):
        with fake_engine(ANSWER, tls=speaking(ours.issue_cert(named))) as engine:
            url = engine.url.replace("127.0.0.1", host)
            told = await why_refused(engine, url, ca_file)
            assert told.startswith(f"the certificate of {url}/chat/completions is for another name")


async def test_a_certificate_that_has_expired_is_refused(ours: trustme.CA, tmp_path: Path) -> None:
    old = ours.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(1))
    with fake_engine(ANSWER, tls=speaking(old)) as engine:
        told = await why_refused(engine, engine.url, file_of(ours, tmp_path))
        assert "(certificate has expired)" in told


async def test_a_named_ca_is_trusted_instead_of_the_systems(
    ours: trustme.CA, another: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's are stood in for by SSL_CERT_FILE, which OpenSSL reads."""
    systems = tmp_path / "systems.pem"
    another.cert_pem.write_to_path(systems)
    monkeypatch.setenv("SSL_CERT_FILE", str(systems))
    with fake_engine(ANSWER, tls=speaking(another.issue_cert("127.0.0.1"))) as engine:
        told = await why_refused(engine, engine.url, file_of(ours, tmp_path))
        assert "is not one that is trusted here" in told


def nothing(ca: trustme.CA) -> bytes:
    return b""


def a_key(ca: trustme.CA) -> bytes:
    return ca.private_key_pem.bytes()


def der(ca: trustme.CA) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())


def half(ca: trustme.CA) -> bytes:
    return ca.cert_pem.bytes() + ca.cert_pem.bytes()[:200]


def prose(ca: trustme.CA) -> bytes:
    return "Überweisung".encode("latin-1")


@pytest.mark.parametrize("content", [nothing, a_key, der, half, prose])
def test_a_ca_file_that_holds_none_is_refused_with_a_remedy(
    content: Callable[[trustme.CA], bytes], ours: trustme.CA, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content(ours))
    with pytest.raises(ValueError, match="empty, damaged or not PEM; it is a PEM file") as caught:
        RemoteGenerator("https://host/v1", "tiny", ca_file=path)
    assert str(path) in str(caught.value)


def test_a_list_of_revocations_is_no_ca(ours: trustme.CA, tmp_path: Path) -> None:
    """It is PEM, and OpenSSL loads it; nothing would be trusted then."""
    ca = x509.load_pem_x509_certificate(ours.cert_pem.bytes())
    key = serialization.load_pem_private_key(ours.private_key_pem.bytes(), None)
    listed = x509.CertificateRevocationListBuilder(
        ca.subject, LONG_AGO, LONG_AGO + timedelta(1)
    ).sign(key, hashes.SHA256())  # type: ignore[arg-type]
    path = tmp_path / "ca.pem"
    path.write_bytes(listed.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(ValueError, match="holds no certificate; it is a PEM file"):
        RemoteGenerator("https://host/v1", "tiny", ca_file=path)


def test_a_ca_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"there is no CA file {tmp_path}/ca.pem"):
        RemoteGenerator("https://host/v1", "tiny", ca_file=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be read .*give a file"):
        RemoteGenerator("https://host/v1", "tiny", ca_file=tmp_path)


def test_a_ca_file_for_an_engine_without_tls_is_refused(ours: trustme.CA, tmp_path: Path) -> None:
    """Whoever names one takes it for granted that nothing is read on the way."""
    with pytest.raises(ValueError, match="begins with https://"):
        RemoteGenerator("http://host/v1", "tiny", ca_file=file_of(ours, tmp_path))
