"""Names of pictures: where ComfyUI's folders would have them, and that none leads anywhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from qied_client.web.comfyui.errors import ComfyError

FOLDERS: Final = ("input", "temp", "output")
_NAME_CHARS: Final = 200
_ANNOTATED: Final = re.compile(r"^(?P<name>.*?)(?: \[(?P<folder>input|temp|output)\])?$", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNFIT: Final = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_DATE: Final = re.compile(r"%[A-Za-z0-9_.:-]*%")


@dataclass(frozen=True)
class PictureName:
    """A picture in one of the three ``FOLDERS``, within ``subfolder`` (with slashes between its parts, or empty)."""

    folder: str
    subfolder: str
    filename: str

    @property
    def facts(self) -> dict[str, str]:
        """It as ComfyUI's answers have it."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.folder}

    @property
    def in_graphs(self) -> str:
        """It as a LoadImage node has it."""
        return "/".join(filter(None, [self.subfolder, self.filename]))


def picture_name(folder: str, subfolder: str, filename: str) -> PictureName:
    """A checked name; raises ComfyError for one that leads out of its folder, or that no file can have."""
    if folder not in FOLDERS:
        raise ComfyError("invalid_name", f"There is no folder {folder[:40]!r}.", "Folders are input, temp and output.")
    parts = [part for part in subfolder.replace("\\", "/").split("/") if part not in ("", ".")]
    whole = "/".join([*parts, filename])
    leads_out = ".." in parts or subfolder.startswith(("/", "\\")) or "/" in filename or "\\" in filename
    if leads_out or filename in ("", ".", "..") or _CONTROL.search(whole) or len(whole) > _NAME_CHARS:
        raise ComfyError(
            "invalid_name",
            f"{whole[:80]!r} is not the name of a picture here.",
            f"Send a file name of at most {_NAME_CHARS} characters, and a subfolder without '..'.",
        )
    return PictureName(folder, "/".join(parts), filename)


def annotated(text: str, folder: str = "input") -> PictureName:
    """The picture that a LoadImage node names: ``cat.png``, ``sub/cat.png`` or ``out.png [output]``."""
    found = _ANNOTATED.match(text)
    assert found is not None, "it fits every text"
    subfolder, _, filename = found["name"].replace("\\", "/").rpartition("/")
    if found["name"].startswith(("/", "\\")):
        subfolder = f"/{subfolder}"
    return picture_name(found["folder"] or folder, subfolder, filename)


def saved_as(prefix: str, folder: str) -> tuple[str, str]:
    """Subfolder and beginning of the file names of what a node saves with a ``filename_prefix``."""
    plain = _UNFIT.sub("", _DATE.sub("", prefix)).strip()
    parts = [part for part in plain.split("/") if part.strip(". ")]
    subfolder, name = "/".join(parts[:-1]), parts[-1] if parts else ""
    usual = "ComfyUI_temp" if folder == "temp" else "ComfyUI"
    return subfolder[: _NAME_CHARS // 2], name[: _NAME_CHARS // 4] or usual
