"""The options of passes over regions, as they come in a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qied_client.errors import InvalidRequest
from qied_client.options.redraws import given_redraws
from qied_client.web.errors import bad_request
from qied_client.web.forms.values import flag, real


def pass_options(texts: Mapping[str, str], mask: bytes | None) -> dict[str, Any]:
    """The options of the passes after the first, of which none may name a file of this machine; raises ApiError."""
    options: dict[str, Any] = {}
    if "refine" in texts and texts["refine"].strip():
        options["refine"] = real(texts, "refine")
    if "align" in texts:
        options["align"] = flag(texts, "align")
    regions = _regions(texts.get("redraw", ""))
    if mask is not None:
        regions = [{**region, "mask": mask} for region in regions or [{}]]
    if regions:
        options["redraw"] = regions
    return options


def _regions(text: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = [part for part in text.split(";") if part.strip()]
    regions = value if isinstance(value, list) and not all(isinstance(edge, int) for edge in value) else [value]
    try:
        given = given_redraws([] if value == [] else regions)
    except InvalidRequest as error:
        raise bad_request(str(error), "redraw") from None
    if any(each.mask is not None or each.redraw.mask is not None for each in given):
        raise bad_request("redraw: a mask is a file of its own. Send it as `redraw_mask`.", "redraw")
    plain = [{name: item for name, item in vars(each.redraw).items() if name != "mask"} for each in given]
    return [{**one, **({"mask": True} if each.edits_mask else {})} for one, each in zip(plain, given, strict=True)]
