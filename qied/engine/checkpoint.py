"""A model folder in diffusers' pipeline layout: what must be in it, and which files hold its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qied_client.errors import ModelNotFound, ModelUnsupported, QiedError
from torch.overrides import TorchFunctionMode

from qied.engine.faults import is_exhausted

PIPELINE = "QwenImageEditPlusPipeline"
REMEDY = "Download the model again: hf download Qwen/Qwen-Image-Edit-2511."
_RANDOM_INIT = {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"}


@dataclass(frozen=True)
class WeightFiles:
    """The safetensors files of one component, by folder name."""

    component: str
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)


class SkipRandomInit(TorchFunctionMode):
    """Leaves new weights unset while a module is built, since every one of them is read from a file afterwards.

    Filling 29 billion weights with random numbers takes minutes, and makes memory resident that is then thrown away.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Pass every call on, except the ones that fill a tensor at random."""
        if getattr(func, "__name__", "") in _RANDOM_INIT:
            return args[0] if args else dict(kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def check_pipeline(folder: Path) -> None:
    """Raise ModelNotFound where the folder holds no pipeline, ModelUnsupported where it is one of another model."""
    if not (folder / "model_index.json").is_file():
        raise ModelNotFound(
            f"{folder} is no diffusers pipeline folder: it has no model_index.json.",
            "Name the folder that holds model_index.json, transformer/, text_encoder/ and vae/.",
        )
    name = read_json(folder / "model_index.json").get("_class_name")
    if name != PIPELINE:
        raise ModelUnsupported(
            f"{folder / 'model_index.json'} names the pipeline {name}; this version runs {PIPELINE}.",
            "Use Qwen/Qwen-Image-Edit-2511.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ModelNotFound where it is missing, ModelUnsupported where it cannot be read."""
    if not path.is_file():
        raise ModelNotFound(f"{path} is missing.", REMEDY)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnsupported(f"{path} is not valid JSON: {error}.", REMEDY) from error
    if not isinstance(content, dict):
        raise ModelUnsupported(f"{path} does not hold a JSON object.", REMEDY)
    return content


@contextmanager
def blaming(path: Path | str) -> Iterator[None]:
    """Turn whatever a library raises over the content of ``path`` into ModelUnsupported, which names it.

    Which types there are differs between libraries and their versions: values of a wrong type alone give five, and the
    tokenizers raise a bare Exception. Memory that ran out is no fault of the file.
    """
    try:
        yield
    except QiedError:
        raise
    except Exception as error:
        if is_exhausted(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ModelUnsupported(f"{path} cannot be used: {type(error).__name__}: {reason}.", REMEDY) from error


def weight_files(folder: Path, component: str, stem: str) -> WeightFiles:
    """Find the weights of a component: what its index names, else the one file; raises ModelNotFound by file name.

    ``stem`` is "diffusion_pytorch_model" for diffusers' components and "model" for those of transformers.
    """
    base = folder / component
    index = base / f"{stem}.safetensors.index.json"
    single = base / f"{stem}.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise ModelNotFound(f"{base} has neither {index.name} nor {single.name}.", REMEDY)
        return WeightFiles(component, (single,))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelUnsupported(f"{index} has no weight_map.", REMEDY)
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelUnsupported(f"{index}: {name!r} in the weight_map is no name of a file beside it.", REMEDY)
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (base / name).is_file()]
    if missing:
        raise ModelNotFound(
            f"{index.name} names {len(names)} files, and {', '.join(missing)} is not in {base}.", REMEDY
        )
    return WeightFiles(component, tuple(base / name for name in names))
