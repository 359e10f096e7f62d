"""Marks that say a picture was made or changed by AI: found in any picture file, and written as an XMP packet.

Three kinds: IPTC's DigitalSourceType (https://cv.iptc.org/newscodes/digitalsourcetype/), China's AIGC label (GB 45438,
the property TC260:AIGC), and C2PA manifests, of which only the presence is read here. What an input carries goes along
as an entry of xmpMM:Ingredients.

Files come from strangers, so nothing is parsed as XML: a packet is found by its tags, as XMP's own rule for scanning
is, and each property by its name, within bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape, unescape
from typing import Final

COMPOSITE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""A picture that a model changed."""
TRAINED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""A picture that a model made from words alone."""
ENHANCED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
"""A picture that was only enhanced, such as one that was enlarged."""

_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_TC260: Final = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_NAMESPACES: Final = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "Iptc4xmpExt": _IPTC,
    "TC260": _TC260,
}
_PACKET_BYTES: Final = 256 * 1024
"""An XMP packet in one piece of a JPEG has 64 KB at most; what is longer is read up to here."""
_SEGMENT_BYTES: Final = 65_533 - len(b"http://ns.adobe.com/xap/1.0/\0")
_LABEL_CHARS: Final = 4096
_MOST_INGREDIENTS: Final = 16
_C2PA_BOX: Final = bytes.fromhex("6332706100110010800000aa00389b71")
"""The type of the box that holds C2PA manifests, in whatever kind of file."""
_SOURCE_TYPE: Final = re.compile(r"https?://cv\.iptc\.org/newscodes/digitalsourcetype/[A-Za-z]{1,64}")
_LOOKED_AT: Final = 8
"""Places of a property's name that are tried: names in other people's texts are not values."""
_VALUE: Final = re.compile(
    r"""\s{0,8}=\s{0,8}(?:"([^"<]{1,8192})"|'([^'<]{1,8192})')"""  # an attribute
    r"""|\s{1,8}rdf:resource\s{0,8}=\s{0,8}["']([^"'<]{1,512})["']"""
    r"""|(?:\s[^<>]{0,200})?>(?:<!\[CDATA\[([^\]]{1,8192})\]\]>|([^<]{1,8192}))"""  # an element
)
_PNG_LABEL: Final = re.compile(rb"(?:tEXtAIGC\0|iTXtAIGC\0\0\0[^\0]{0,64}\0[^\0]{0,64}\0)")


@dataclass(frozen=True)
class Ingredient:
    """The marks that an input carried. ``blob``: the SHA-256 (hex) of its file; empty where it is not known.

    ``source_type`` is a DigitalSourceType, ``aigc`` the JSON text of an AIGC label; either may be empty. ``c2pa``:
    whether it had a C2PA manifest.
    """

    blob: str = ""
    source_type: str = ""
    aigc: str = ""
    c2pa: bool = False


@dataclass(frozen=True)
class Marks:
    """The marks of one picture file, as ``Ingredient`` has them, and those of what went into it."""

    source_type: str = ""
    aigc: str = ""
    c2pa: bool = False
    ingredients: tuple[Ingredient, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.source_type or self.aigc or self.c2pa or self.ingredients)

    def as_ingredients(self, blob: str) -> tuple[Ingredient, ...]:
        """This file, whose SHA-256 (hex) is ``blob``, and its own ingredients, as those of a picture made from it."""
        own = Ingredient(blob, self.source_type, self.aigc, self.c2pa)
        marked = (own,) if self.source_type or self.aigc or self.c2pa else ()
        return (*marked, *self.ingredients)


def marks_of_edit(inputs: Iterable[tuple[str, Marks]], source_type: str, aigc: str = "") -> Marks:
    """The marks of a result from (SHA-256, marks) of its inputs, with its own source type and AIGC label, if any.

    Without a label of its own, the first that an input carries stays the label. Ingredients of the same marks are told
    once, so a session of many turns does not make the packet grow.
    """
    ingredients: dict[tuple[str, str, bool], Ingredient] = {}
    for blob, marks in inputs:
        for each in marks.as_ingredients(blob):
            ingredients.setdefault((each.source_type, each.aigc, each.c2pa), each)
    told = tuple(ingredients.values())[:_MOST_INGREDIENTS]
    label = aigc or next((each.aigc for each in told if each.aigc), "")
    return Marks(source_type, label, ingredients=told)


def aigc_label(producer: str, produce_id: str) -> str:
    """The label of GB 45438 for a picture that AI made: the JSON of its seven texts."""
    names = ("ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2")
    label = {"Label": "1", "ContentProducer": producer, "ProduceID": produce_id, **dict.fromkeys(names, "")}
    return json.dumps(label, ensure_ascii=False, separators=(",", ":"))


def read_marks(data: bytes) -> Marks:
    """The marks in a picture file of any format that keeps its metadata uncompressed; empty where there are none.

    Raises nothing, whatever the bytes are.
    """
    marks = _in_packet(_packet(data))
    if not marks.aigc and (found := _PNG_LABEL.search(data)):
        marks = replace(marks, aigc=_leading_label(data[found.end() : found.end() + _LABEL_CHARS]))
    return replace(marks, c2pa=_C2PA_BOX in data)


def xmp_packet(marks: Marks) -> bytes:
    """An XMP packet (UTF-8) with these marks; empty where there are none that XMP holds.

    It fits in one segment of a JPEG: ingredients beyond that are left out, the last ones first.
    """
    while len(packet := _written(marks)) > _SEGMENT_BYTES and marks.ingredients:
        marks = replace(marks, ingredients=marks.ingredients[:-1])
    return packet


def _written(marks: Marks) -> bytes:
    if not (marks.source_type or marks.aigc or marks.ingredients):
        return b""
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMESPACES.items() if prefix != "rdf")
    ingredients = ""
    if marks.ingredients:
        items = "".join(
            f'<rdf:li rdf:parseType="Resource">{_document(each)}{_properties(each)}</rdf:li>'
            for each in marks.ingredients
        )
        ingredients = f"<xmpMM:Ingredients><rdf:Bag>{items}</rdf:Bag></xmpMM:Ingredients>"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_NAMESPACES["rdf"]}">'
        f'<rdf:Description rdf:about="" {spaces}>{_properties(marks)}{ingredients}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _document(ingredient: Ingredient) -> str:
    """What names an ingredient, and whether its file had a C2PA manifest, which XMP cannot hold itself."""
    named = f"<stRef:documentID>urn:sha256:{ingredient.blob}</stRef:documentID>" if ingredient.blob else ""
    return f"{named}<stRef:manager>C2PA</stRef:manager>" if ingredient.c2pa else named


def _properties(marks: Marks | Ingredient) -> str:
    parts = []
    if marks.source_type:
        parts.append(f"<Iptc4xmpExt:DigitalSourceType>{marks.source_type}</Iptc4xmpExt:DigitalSourceType>")
    if marks.aigc:
        parts.append(f"<TC260:AIGC>{escape(marks.aigc)}</TC260:AIGC>")
    return "".join(parts)


def _packet(data: bytes) -> str:
    start = data.find(b"<x:xmpmeta")
    if start < 0:
        start = data.find(b"<rdf:RDF")
    if start < 0:
        return ""
    piece = data[start : start + _PACKET_BYTES]
    end = max(piece.find(b"</x:xmpmeta"), piece.find(b"</rdf:RDF"))
    return piece[: end if end >= 0 else None].decode("utf-8", "replace")


def _in_packet(packet: str) -> Marks:
    before, opening, rest = packet.partition(":Ingredients>")
    inner, _, after = rest.partition(":Ingredients>")
    items = inner.split("<rdf:li")[1:] if opening else []
    ingredients = tuple(each for item in items[: 4 * _MOST_INGREDIENTS] if (each := _ingredient(item)))
    own = before + after
    return Marks(_source_type(own), _label(own), ingredients=ingredients[:_MOST_INGREDIENTS])


def _ingredient(item: str) -> Ingredient | None:
    document = re.search(r"urn:sha256:([0-9a-f]{64})", item)
    found = Ingredient(
        "" if document is None else document.group(1), _source_type(item), _label(item), "manager>C2PA<" in item
    )
    return found if found.source_type or found.aigc or found.c2pa else None


def _source_type(text: str) -> str:
    found = _SOURCE_TYPE.fullmatch(_property(text, "DigitalSourceType").strip())
    return "" if found is None else found.group()


def _label(text: str) -> str:
    return _checked_label(_property(text, "AIGC"))


def _property(text: str, name: str) -> str:
    """The value of a property, written as an attribute or an element of any prefix; empty where there is none."""
    at = 0
    for _ in range(_LOOKED_AT):
        at = text.find(f":{name}", at) + 1
        if at == 0:
            return ""
        found = _VALUE.match(text, at + len(name))
        if found is not None:
            return found.group(4) or unescape(next(filter(None, found.groups())))
    return ""


def _checked_label(text: str) -> str:
    """An AIGC label as it came, if it is one: JSON of texts, within bounds."""
    text = text.strip()
    if not 2 <= len(text) <= _LABEL_CHARS or not text.startswith("{"):
        return ""
    try:
        label = json.loads(text)
        text.encode()
    except (ValueError, RecursionError):
        return ""
    known = isinstance(label, dict) and "Label" in label
    return text if known and all(isinstance(value, str) for value in label.values()) and text.isprintable() else ""


def _leading_label(data: bytes) -> str:
    """The label at the beginning of a PNG's text, which its checksum and the next chunk follow."""
    text = data.decode("utf-8", "ignore").lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return ""
    return _checked_label(text[:end])
