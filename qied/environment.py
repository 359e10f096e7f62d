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
    """Values by ``section.key``; raises ConfigError for a variable that is empty or that no setting has.

    Names that begin with ``QIED_TEST_`` are left to the tests.
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
        elif name.startswith(PREFIX) and name not in OTHER_VARIABLES and not name.startswith(_OF_TESTS):
            raise _unknown(name, [*variables, *OTHER_VARIABLES])
    return found


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known names that ``name`` most likely means: those that it is a part of, else the one most like it."""
    names = sorted(known)
    last = "_" + name.removeprefix(PREFIX)
    part = [other for other in names if other.endswith(last) or other.startswith(name + "_")]
    return tuple(part) or tuple(get_close_matches(name, names, n=1, cutoff=0.7))


def _unknown(name: str, known: list[str]) -> ConfigError:
    near = nearest(name, known)
    remedy = (
        f"Did you mean {' or '.join(near)}? Else unset it."
        if near
        else "Unset it. A setting is QIED_<SECTION>_<KEY>; qied.toml has every section and key."
    )
    return ConfigError(f"{name} is not a known variable.", remedy)
