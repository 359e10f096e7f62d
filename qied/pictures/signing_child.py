"""The process that signs one result with a C2PA manifest and ends: it reads strangers' pictures as ingredients.

What it reads and answers is in ``signing``. It asks nothing of the network, but for a time stamp where that is wanted.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from qied.pictures.signing import FRAME, Assignment, read_assignment

_EDITED: Final = "c2pa.edited"
_SETTINGS: Final = {
    # A manifest's thumbnails would be copies of the user's pictures.
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
}


def main() -> int:
    """Sign; returns the exit status, with the reason as the last line of the error output if it is not 0."""
    try:
        signed = _signed(read_assignment(sys.stdin.buffer))
    except Exception as error:  # noqa: BLE001 (the library raises what it likes; the parent tells the user)
        sys.stderr.write(f"{type(error).__name__.lstrip('_')}: {error}".replace("\n", " ")[:500] + "\n")
        return 1
    sys.stdout.buffer.write(FRAME.pack(len(signed)) + signed)
    return 0


def _signed(assignment: Assignment) -> bytes:
    import c2pa

    supported = set(c2pa.Builder.get_supported_mime_types())
    assignment = replace(assignment, ingredients=tuple(each for each in assignment.ingredients if each[0] in supported))
    order = assignment.order
    key = Path(order.key).expanduser().read_bytes()
    info = c2pa.C2paSignerInfo(
        _algorithm(key).encode(),
        Path(order.certificate).expanduser().read_bytes(),
        key,
        order.time_url.encode() or None,
    )
    target = io.BytesIO()
    with (
        c2pa.Signer.from_info(info) as signer,
        c2pa.Context.from_dict(_SETTINGS) as context,
        c2pa.Builder(json.dumps(_manifest(assignment)), context) as builder,
    ):
        for number, (media_type, data) in enumerate(assignment.ingredients):
            relationship = "parentOf" if number == 0 else "componentOf"
            facts = {"title": f"input {number + 1}", "relationship": relationship, "instance_id": f"input{number}"}
            builder.add_ingredient(json.dumps(facts), media_type, io.BytesIO(data))
        builder.sign(signer, order.media_type, io.BytesIO(assignment.picture), target)
    return target.getvalue()


def _manifest(assignment: Assignment) -> dict[str, Any]:
    order = assignment.order
    names = [f"input{number}" for number in range(len(assignment.ingredients))]
    opened = [{"action": "c2pa.opened", "parameters": {"ingredientIds": names[:1]}}] if names else []
    placed = [{"action": "c2pa.placed", "parameters": {"ingredientIds": [name]}} for name in names[1:]]
    made = {
        "action": _EDITED if names else "c2pa.created",
        "digitalSourceType": order.source_type,
        "softwareAgent": {"name": "qied", "version": order.version},
    }
    actions = [*opened, *placed, made]
    return {
        "claim_generator_info": [{"name": "qied", "version": order.version}],
        "format": order.media_type,
        "title": order.title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _algorithm(key: bytes) -> str:
    """C2PA's name of the algorithm that a private key (PEM) signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key, None)
    match private:
        case ec.EllipticCurvePrivateKey():
            return {256: "es256", 384: "es384", 521: "es512"}[private.curve.key_size]
        case rsa.RSAPrivateKey():
            return "ps256"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case _:
            raise ValueError("C2PA does not sign with a key of this type; use ECDSA, RSA or Ed25519")


if __name__ == "__main__":
    sys.exit(main())
