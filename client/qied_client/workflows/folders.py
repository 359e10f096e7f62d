"""Pictures of a workflow found in folders: that of its file, ComfyUI's own, and those that the user names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from qied_client.errors import InvalidRequest
from qied_client.picture_file.neighbours import files_with_hashes

COMFYUI: Final = "COMFYUI_PATH"
"""The environment variable that names ComfyUI's folder."""
_NAMED: Final = re.compile(r"\s*\[(input|output|temp)\]$")
_HASH: Final = re.compile(r"([0-9a-f]{12,64})\.png")
"""What stands for a picture of which only the hash is known; see ``picture_file.dialects``."""
_LEVELS: Final = 4
"""ComfyUI keeps workflows in ``user/default/workflows`` below its folder."""


class PictureFolders:
    """Finds pictures by the names that nodes have. ``folders`` are looked through in their order.

    ``comfyui`` is ComfyUI's own folder, whose ``input``, ``output`` and ``temp`` are looked through as the names say.
    """

    def __init__(self, folders: Sequence[Path], comfyui: Path | None = None) -> None:
        self._folders = tuple(folders)
        self._comfyui = comfyui

    @classmethod
    def around(cls, workflow: Path, named: Sequence[Path], environ: Mapping[str, str]) -> PictureFolders:
        """The folders that are named, else that of a workflow's file; and ComfyUI's, if one is known or around it."""
        own = environ.get(COMFYUI)
        comfyui = Path(own).expanduser() if own else _comfyui_around(workflow)
        return cls(named or [workflow.parent], comfyui)

    def __call__(self, name: str) -> Path:
        """The file of a picture; raises InvalidRequest where no folder has it, or the name leads out of them."""
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
            for folder in folders:
                for path in files_with_hashes(folder, (begins[1],)).values():
                    return path
        looked = ", ".join(map(str, folders)) or "no folder"
        raise InvalidRequest(
            f"{plain} is not in {looked}.",
            "Name the folder that has it with --inputs, or the picture with --set NODE.image=FILE.",
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
