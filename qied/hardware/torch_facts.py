"""Facts of the installed torch, without importing it here: its files are read, and a child process imports it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qied.hardware.cache import FactCache, Key
from qied.hardware.children import NoAnswer, ask_child
from qied.hardware.snapshot import Problem, Torch

CHILD = "qied.engine.selftest"


class Imported(BaseModel):
    """What only an imported torch can tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch_list: tuple[str, ...]
    cudnn: str | None


@dataclass(frozen=True)
class TorchAnswer:
    """The installed torch, None where there is none; a problem where it is there and does not work."""

    torch: Torch | None = None
    problems: tuple[Problem, ...] = ()


def read_torch(
    cache: FactCache, environ: Mapping[str, str], *, package: Path | None, with_card: bool, limit_s: float = 60.0
) -> TorchAnswer:
    """Facts of the torch in the folder ``package``.

    Kernels and cuDNN matter ``with_card`` and a build for CUDA: then a child process imports torch, unless cached.
    """
    if package is None:
        return TorchAnswer()
    file = package / "version.py"
    try:
        facts = parse_version(file.read_text(encoding="utf-8"))
        stat = file.stat()
    except (OSError, ValueError) as error:
        return TorchAnswer(problems=(_broken(f"torch in {package} is damaged: {error}"),))
    if not with_card or facts.cuda is None:
        return TorchAnswer(facts)
    key: Key = {"torch": facts.version, "file": str(file), "modified_ns": stat.st_mtime_ns, "bytes": stat.st_size}
    imported = cache.load(key, Imported)
    if imported is None:
        try:
            imported = Imported.model_validate_json(ask_child(CHILD, "facts", environ=environ, limit_s=limit_s))
        except NoAnswer as error:
            return TorchAnswer(facts, (_broken(f"torch {facts.version} cannot be imported: {error}"),))
        except ValidationError:
            return TorchAnswer(facts, (_broken(f"torch {facts.version} was imported but gave no facts."),))
        cache.store(key, imported)
    return TorchAnswer(facts.model_copy(update={"arch_list": imported.arch_list, "cudnn": imported.cudnn}))


def find_torch() -> Path | None:
    """The folder of the installed torch, which is not imported."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def parse_version(text: str) -> Torch:
    """Version and CUDA from the text of torch/version.py; raises ValueError where it is not such a file."""
    values: dict[str, object] = {}
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"it is not Python: {error.msg}") from None
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                values[target.id] = value.value
    version, cuda = values.get("__version__"), values.get("cuda")
    if not isinstance(version, str):
        raise ValueError("it names no version")
    return Torch(version=version, cuda=cuda if isinstance(cuda, str) else None)


def _broken(message: str) -> Problem:
    return Problem(code="torch_broken", message=message)
