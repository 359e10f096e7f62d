"""Builds modules for weights read from files, and reports library errors about their content as the files' errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qied_client.errors import ModelUnsupported, QiedError
from torch.overrides import TorchFunctionMode

from qied.checkpoints.pipeline_folder import REMEDY
from qied.engine.device_errors import is_exhausted

_RANDOM_INIT = {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"}


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


@contextmanager
def blaming(path: Path | str) -> Iterator[None]:
    """Turn whatever a library raises over the content of ``path`` into ModelUnsupported, which names it.

    Which types there are differs between libraries and their versions: values of a wrong type alone give five, and the
    tokenizers raise a bare Exception. Running out of memory is not a fault of the file.
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
