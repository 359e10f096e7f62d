"""Pictures of a workflow found in folders: that of its file, ComfyUI's own, and those that the user names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from qied_client.errors import BlobError, InvalidRequest
from qied_client.inputs import Picture
from qied_client.picture_file.neighbours import files_with_hashes
from qied_client.picture_metadata import SHORT_HASH

Stored = Callable[[str], bytes]
"""Gives a picture's file by its SHA-256 (hex), or raises a BlobError."""

COMFYUI: Final = "COMFYUI_PATH"
"""The environment variable that names ComfyUI's folder."""
_NAMED: Final = re.compile(r"\s*\[(input|output|temp)\]$")
_HASH: Final = re.compile(r"([0-9a-f]{12,64})\.png")
"""What stands for a picture of which only the hash is known, or its first digits."""
_WHOLE_HASH: Final = 64
_LEVELS: Final = 4
"""ComfyUI keeps workflows in ``user/default/workflows`` below its folder."""


class PictureFolders:
    """Finds pictures by the names that nodes have. ``folders`` are looked through in their order.

    ``comfyui`` is ComfyUI's own folder, whose ``input``, ``output`` and ``temp`` are looked through as the names say.
    ``stored`` gives a picture by its hash that is in none of them, from a daemon. ``own`` are names that are not of the
    workflow but of its user, who may name any file.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        comfyui: Path | None = None,
        stored: Stored | None = None,
        own: Collection[str] = (),
    ) -> None:
        self._folders = tuple(folders)
        self._comfyui = comfyui
        self._stored = stored
        self._own = own

    @classmethod
    def around(
        cls,
        workflow: Path,
        named: Sequence[Path],
        environ: Mapping[str, str],
        stored: Stored | None = None,
        own: Collection[str] = (),
    ) -> PictureFolders:
        """The folders that are named, else that of a workflow's file; and ComfyUI's, if one is known or around it."""
        set_by = environ.get(COMFYUI)
        comfyui = Path(set_by).expanduser() if set_by else _comfyui_around(workflow)
        return cls(named or [workflow.parent], comfyui, stored, own)

    def __call__(self, name: str) -> Picture:
        """The file of a picture; raises InvalidRequest where no folder has it, or the name leads out of them."""
        if name in self._own and (path := Path(name).expanduser()).is_file():
            return path
        named = _NAMED.search(name)
        plain = _NAMED.sub("", name).replace("\\", "/")
        folders = list(self._looked_through(named[1] if named else "input"))
        for folder in folders:
            path = folder / plain
            if path.is_file():
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise InvalidRequest(
                        f"{name}: this leads out of {folder}.", "Put the picture into the folder.", field="workflow"
                    )
                return path
            if (near := folder / Path(plain).name).is_file():  # a folder of pictures without ComfyUI's subfolders
                return near
        if (begins := _HASH.fullmatch(plain)) is not None:
            return self._with_hash(begins[1], folders)
        looked = ", ".join(map(str, folders)) or "no folder"
        raise InvalidRequest(
            f"{plain} is not in {looked}.",
            "Name the folder that has it with --inputs, or the picture with --set NODE.image=FILE.",
            field="workflow",
        )

    def _with_hash(self, begins: str, folders: Sequence[Path]) -> Picture:
        for folder in folders:
            for path in files_with_hashes(folder, (begins,)).values():
                return path
        if self._stored is not None and len(begins) == _WHOLE_HASH:
            with suppress(BlobError):
                return self._stored(begins)
        raise InvalidRequest(
            f"No picture in {', '.join(map(str, folders))} has a SHA-256 that begins with {begins[:SHORT_HASH]}.",
            "Put the file that the picture was made from there, or name its folder with --inputs.",
            field="workflow",
        )

    def _looked_through(self, kind: str) -> Iterator[Path]:
        yield from self._folders
        if self._comfyui is not None:
            yield self._comfyui / kind


def _comfyui_around(workflow: Path) -> Path | None:
    """ComfyUI's folder, where the file lies below it."""
    for folder in [*workflow.resolve().parents][:_LEVELS]:
        if (folder / "input").is_dir() and ((folder / "main.py").is_file() or (folder / "models").is_dir()):
            return folder
    return None
