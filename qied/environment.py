"""Settings from the environment: which ``QIED_*`` variables there are, and the error for one that is not known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from qied_client.errors import ConfigError

PREFIX = "QIED_"
OTHER_VARIABLES = {
    "QIED_HOME": "state folder of the daemon",
    "QIED_KEY": "key file of a client",
}
"""Variables that are not settings of the daemon, and their meaning."""
_OF_TESTS = "QIED_TEST_"


def variable_of(key: str) -> str:
    """The variable of the setting ``section.key``."""
    return PREFIX + key.replace(".", "_").upper()


def settings_in(environ: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Values by ``section.key``; raises ConfigError for a variable that is empty, or that is most likely misspelt.

    Other names that begin with ``QIED_`` belong to scripts of other people; see :func:`foreign_in`.
    """
    variables = {variable_of(key): key for key in keys}
    found: dict[str, str] = {}
    for name, value in sorted(environ.items()):
        if name in variables:
            if not value.strip():
                raise ConfigError(
                    f"{name} is set, but empty.", f"Give {variables[name]} a value, or unset the variable."
                )
            found[variables[name]] = value
        elif _is_unknown(name) and (near := nearest(name, [*variables, *OTHER_VARIABLES])):
            raise ConfigError(f"{name} is not a known variable.", f"Did you mean {' or '.join(near)}? Else unset it.")
        elif _is_unknown(name) and name.startswith(tuple(sections_of(variables.values()))):
            raise ConfigError(
                f"{name} is not a known variable.",
                "Unset it. A setting is QIED_<SECTION>_<KEY>; qied.toml has every section and key.",
            )
    return found


def foreign_in(environ: Mapping[str, str], keys: Iterable[str]) -> tuple[str, ...]:
    """Names that begin with ``QIED_`` and are not like any setting: they are ignored, which the log says."""
    known = {variable_of(key) for key in keys}
    return tuple(sorted(name for name in environ if _is_unknown(name) and name not in known))


def sections_of(keys: Iterable[str]) -> set[str]:
    """What variables of settings begin with."""
    return {variable_of(key.split(".")[0]) + "_" for key in keys}


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known names that ``name`` most likely means: those that it is a part of, else the one most like it."""
    names = {other.removeprefix(PREFIX): other for other in sorted(known)}
    word = name.removeprefix(PREFIX)
    part = [other for rest, other in names.items() if rest.endswith("_" + word) or rest.startswith(word + "_")]
    return tuple(part) or tuple(names[near] for near in get_close_matches(word, names, n=1, cutoff=0.65))


def _is_unknown(name: str) -> bool:
    """Whether a name is one of qied's and no other than a setting's; those of the tests are left to them."""
    return name.startswith(PREFIX) and name not in OTHER_VARIABLES and not name.startswith(_OF_TESTS)
