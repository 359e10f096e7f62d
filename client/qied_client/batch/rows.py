"""One row of a batch: pictures, a prompt, and the options that are its own."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from qied_client.batch.places import found
from qied_client.errors import InvalidRequest
from qied_client.inputs import Picture, sequence
from qied_client.options.edit_options import OPTIONS
from qied_client.options.redraws import given_redraws, redraw_list, redraw_of_text
from qied_client.system_failures import with_home

PICTURES: Final = ("picture", "picture2", "picture3", "picture4", "picture5", "picture6", "picture7", "picture8")
ALIASES: Final = {
    **dict.fromkeys(("pictures", "image", "images", "file", "input", "source"), "picture"),
    **{f"image{number}": f"picture{number}" for number in range(2, 9)},
    "mask_image": "mask",
    "negative": "negative_prompt",
    "cfg": "true_cfg_scale",
    "guidance_scale": "true_cfg_scale",
    "num_inference_steps": "steps",
    "lora": "loras",
    "title": "name",
}
"""Other names that people give to columns."""
_OF_THE_BATCH: Final = ("output_format", "output_quality", "previews")
"""Options that the names of the results decide."""
COLUMNS: Final = (*PICTURES, "prompt", "name", *(name for name in OPTIONS if name not in _OF_THE_BATCH))


@dataclass(frozen=True)
class Row:
    """One row. ``index`` counts from 1; ``where`` says where the row stands, for errors; ``name`` may be empty."""

    pictures: tuple[Picture, ...]
    prompt: str
    index: int
    where: str = ""
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The file name of the first picture without its suffix; the row's number where it has none."""
        first = self.pictures[0] if self.pictures else None
        return Path(first).stem if isinstance(first, (str, os.PathLike)) else f"{self.index:04}"

    @property
    def mask(self) -> Picture | None:
        """The mask, if there is one."""
        mask: Picture | None = self.options.get("mask")
        return mask

    @property
    def canvas(self) -> Picture | None:
        """The picture that passes are drawn on, if there is one."""
        canvas: Picture | None = self.options.get("canvas")
        return canvas

    def pass_masks(self) -> list[Picture | None]:
        """The masks of the passes in their order, without those that are the edit's; raises InvalidRequest."""
        return [each.mask for each in given_redraws(self.options.get("redraw"))]

    def others(self) -> list[tuple[str, Picture]]:
        """Every picture besides those that are edited, with its option; raises InvalidRequest."""
        given = [("mask", self.mask), ("canvas", self.canvas), *(("redraw", mask) for mask in self.pass_masks())]
        return [(option, picture) for option, picture in given if picture is not None]

    def files(self) -> tuple[Picture, ...]:
        """Every picture that is read; raises InvalidRequest for a redraw that is none."""
        return (*self.pictures, *(picture for _, picture in self.others()))

    def with_others(self, change: Callable[[Picture], Picture]) -> Row:
        """The row with each of its other pictures replaced by what ``change`` makes of it; raises InvalidRequest."""
        return replace(self, options=_changed(self.options, change))


def column_of(name: str) -> str:
    """The column that a heading or key means; raises InvalidRequest that names the nearest one."""
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    known = ALIASES.get(key, key)
    if known in COLUMNS:
        return known
    if known in _OF_THE_BATCH:
        raise InvalidRequest(
            f"there is no column {name!r} in a batch.", "The names of the results say their format.", field=name
        )
    near = difflib.get_close_matches(key, [*COLUMNS, *ALIASES], n=1, cutoff=0.6)
    remedy = f"Did you mean {ALIASES.get(near[0], near[0])!r}?" if near else f"Columns are {', '.join(_SHORT)}."
    raise InvalidRequest(f"there is no column {name!r}.", remedy, field=name)


_SHORT: Final = ("picture", "picture2", *COLUMNS[len(PICTURES) :])


def row_of(
    given: Mapping[str, Any], index: int, where: str, *, prompt: str, options: Mapping[str, Any], folder: Path | None
) -> Row:
    """The row of a manifest's line or of a program's mapping, in the names of ``COLUMNS``.

    ``prompt`` and ``options`` hold where the row has none of its own. Paths are relative to ``folder``. Raises
    InvalidRequest that names the column.
    """
    pictures: list[Picture] = []
    for column in PICTURES:
        if given.get(column) is not None:
            pictures += [_placed(picture, folder) for picture in sequence(given[column])]
    if not pictures:
        raise InvalidRequest("the picture is missing.", "Give a column 'picture' with its file.", field="picture")
    own = {name: value for name, value in given.items() if name in OPTIONS and value is not None}
    own = _changed(own, lambda picture: _placed(picture, folder))
    text = given.get("prompt") or prompt
    if not isinstance(text, str) or not text:
        raise InvalidRequest(
            "the prompt is missing.", "Give a column 'prompt', or one prompt for all rows.", field="prompt"
        )
    name = given.get("name") or ""
    if not isinstance(name, str) or set(name) & set('/\\:*?"<>|\0') or name in (".", ".."):
        raise InvalidRequest(
            f"the name {name!r} cannot be a part of a file's name.", "Use letters, digits, - and _.", field="name"
        )
    row = Row(tuple(pictures), text, index, where, name, {**options, **own})
    row.pass_masks()
    return row


def _placed(picture: Picture, folder: Path | None) -> Picture:
    if not isinstance(picture, (str, os.PathLike)):
        return picture
    path = with_home(picture)
    return str(found(path if folder is None else folder / path))


def _changed(options: Mapping[str, Any], change: Callable[[Picture], Picture]) -> dict[str, Any]:
    changed = dict(options)
    for name in ("mask", "canvas"):
        if changed.get(name) is not None:
            changed[name] = change(changed[name])
    if changed.get("redraw") is not None:
        changed["redraw"] = [_pass_changed(each, change) for each in redraw_list(changed["redraw"])]
    return changed


def _pass_changed(each: Any, change: Callable[[Picture], Picture]) -> Any:
    if isinstance(each, str):
        each = redraw_of_text(each)
    if not isinstance(each, Mapping) or each.get("mask") is None or isinstance(each["mask"], bool):
        return each
    return {**each, "mask": change(each["mask"])}


def numbered(pictures: Iterable[Path], prompt: str, options: Mapping[str, Any]) -> Iterable[Row]:
    """A row for each picture, with one prompt for all."""
    for index, picture in enumerate(pictures, 1):
        yield Row((str(picture),), prompt, index, str(picture), "", dict(options))
