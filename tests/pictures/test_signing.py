"""C2PA manifests: signed by a real process with a certificate of the test's own, and read back by c2pa's reader."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image
from qied_client.errors import ConfigError
from qied_client.picture_file.marks import COMPOSITE, TRAINED, Marks, read_marks, xmp_packet

from qied.config.output import Marking
from qied.pictures.signing import NotSigned, check_signing, signed

c2pa = pytest.importorskip("c2pa")


@pytest.fixture
def marking(tmp_path: Path) -> Callable[[Any], Marking]:
    """Make files of a key and of a certificate that it signs itself."""

    def make(key: Any) -> Marking:
        name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Shop"), x509.NameAttribute(NameOID.COMMON_NAME, "shop")]
        )
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        usage = (True, False, False, False, False, False, False, False, False)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.KeyUsage(*usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        )
        certificate = built.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (tmp_path / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Marking(c2pa_certificate=str(tmp_path / "cert.pem"), c2pa_key=str(tmp_path / "key.pem"))

    return make


def picture(kind: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(target, kind)
    return target.getvalue()


def manifest(data: bytes, media_type: str) -> tuple[dict[str, Any], str]:
    """The active manifest, and whether its signature and hashes hold."""
    with c2pa.Reader(media_type, io.BytesIO(data)) as reader:
        store = json.loads(reader.json())
        return store["manifests"][store["active_manifest"]], reader.get_validation_state()


def actions(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    (assertion,) = [each for each in found["assertions"] if each["label"].startswith("c2pa.actions")]
    return [(each["action"], each.get("digitalSourceType")) for each in assertion["data"]["actions"]]


def test_a_signed_result_has_its_inputs_as_ingredients_and_their_manifests(marking: Callable[[Any], Marking]):
    ours = marking(ec.generate_private_key(ec.SECP256R1()))
    first = signed(picture("png"), "image/png", [("image/jpeg", picture("jpeg"))], ours, COMPOSITE, "one")
    assert read_marks(first).c2pa
    found, state = manifest(first, "image/png")
    assert state == "Valid"
    assert actions(found) == [("c2pa.opened", None), ("c2pa.edited", COMPOSITE)]
    assert [each["relationship"] for each in found["ingredients"]] == ["parentOf"]
    assert not any("thumbnail" in each for each in (found, *found["ingredients"])), "copies of the user's pictures"
    again = signed(
        picture("webp"),
        "image/webp",
        [("image/png", first), ("image/jpeg", picture("jpeg")), ("application/octet-stream", b"?")],
        ours,
        COMPOSITE,
        "two",
    )
    found, state = manifest(again, "image/webp")
    assert state == "Valid"
    assert [each["relationship"] for each in found["ingredients"]] == ["parentOf", "componentOf"]
    assert found["ingredients"][0]["active_manifest"], "the manifest of the input is kept"
    tampered = bytearray(again)
    tampered[-10] ^= 1
    assert manifest(bytes(tampered), "image/webp")[1] == "Invalid"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), id="RSA"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, id="Ed25519"),
    ],
)
def test_keys_of_other_types_sign_what_was_made_from_words_alone(marking: Callable[[Any], Marking], key: Any):
    marks = xmp_packet(Marks(TRAINED))
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "JPEG", xmp=marks)
    data = signed(target.getvalue(), "image/jpeg", [], marking(key()), TRAINED, "words")
    found, state = manifest(data, "image/jpeg")
    assert (state, actions(found)) == ("Valid", [("c2pa.created", TRAINED)])
    assert read_marks(data) == Marks(TRAINED, c2pa=True)


def test_a_certificate_that_is_of_no_use_is_told_before_the_first_edit(
    marking: Callable[[Any], Marking], tmp_path: Path
):
    ours = marking(ec.generate_private_key(ec.SECP384R1()))
    check_signing(ours)
    check_signing(Marking())
    marking(ec.generate_private_key(ec.SECP256R1()))  # another key than the certificate's
    (tmp_path / "other.pem").write_bytes((tmp_path / "key.pem").read_bytes())
    marking(ec.generate_private_key(ec.SECP256R1()))
    for wrong in (
        replace(ours, c2pa_key=str(tmp_path / "other.pem")),
        replace(ours, c2pa_key=str(tmp_path / "none.pem")),
        replace(ours, c2pa_key=ours.c2pa_certificate),
    ):
        with pytest.raises(
            ConfigError, match=r"output\.c2pa_certificate, output\.c2pa_key: a picture cannot be signed"
        ):
            check_signing(wrong)
    with pytest.raises(NotSigned):
        signed(b"no picture", "image/png", [], ours, COMPOSITE, "broken")
