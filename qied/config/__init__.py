"""Configuration: qied.toml, the environment and the command line, with the source of every value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from qied_client.errors import ConfigError
from qied_client.net.address import read_address
from qied_client.protocol import limits

from qied.config.output import OutputConfig
from qied.config.rewriter import RewriterConfig
from qied.config.section import Section
from qied.environment import nearest, settings_in, variable_of
from qied.sizes import read_size

GIB = 1024**3
MIB = 1024**2


SMALLEST_CAP = 65_536
"""Pixels below which a cap leaves nothing worth editing: 256 x 256."""


def _no_cap_or_a_useful_one(pixels: int) -> int:
    if 0 < pixels < SMALLEST_CAP:
        raise ValueError(f"{pixels} is too small; use 0, or at least {SMALLEST_CAP}")
    return pixels


Cap = Annotated[int, AfterValidator(_no_cap_or_a_useful_one)]


def _folders(value: object) -> object:
    """A text is what the environment holds: folders with the system's separator of paths between them."""
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


Folders = Annotated[tuple[str, ...], BeforeValidator(_folders)]


def _names(value: object) -> object:
    """A text is what the environment holds: names with commas between them."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _bytes(value: object) -> object:
    return read_size(value) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_bytes)]
"""Bytes, as a number or as a text with a unit such as 8GB (10^9) or 8GiB (2^30)."""


def _address(text: str) -> str:
    read_address(text, listening=True)
    return text


def _cards(text: str) -> str:
    """The entries of ``model.gpus``, without blanks."""
    entries = [entry.strip() for entry in text.split(",")]
    for entry in entries:
        if not _CARD.fullmatch(entry) and entries != ["all"]:
            raise ValueError(
                f"{text!r} does not name cards; use all, or indices or UUIDs as nvidia-smi -L shows them: "
                "0,2 or GPU-8f1c9a2e or MIG-5b3d7c10"
            )
    return ",".join(entries)


def _function(text: str) -> str:
    if not _FUNCTION.fullmatch(text):
        raise ValueError(f"{text!r} does not name a function; write it as module:function, such as {_ENGINE}")
    return text


_CARD = re.compile(r"[0-9]{1,4}|(GPU|MIG)-[0-9A-Za-z/-]+", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_FUNCTION = re.compile(r"[\w.]+:\w+")
_ENGINE = "qied.engine.serving:load"


def _metrics_address(text: str) -> str:
    """HOST:PORT, a port of this machine alone, or nothing."""
    address = f"127.0.0.1:{text}" if _PORT.fullmatch(text) else text
    if not _is_host_and_port(address):
        raise ValueError(f"{text!r} is not HOST:PORT; write it like 127.0.0.1:9464, or 0.0.0.0:9464 for other machines")
    return address


def _is_host_and_port(text: str) -> bool:
    """Whether this is HOST:PORT, with * for any free port, or nothing."""
    host, colon, port = text.rpartition(":")
    return not text or bool(colon and host and (port == "*" or (_PORT.fullmatch(port) and int(port) < 65536)))


class DaemonConfig(Section):
    """How the daemon is reached and how it logs and stops."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "tcp://127.0.0.1:7447", description="address to listen on; port * picks a free one"
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: text in a terminal, else JSON lines")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics: Annotated[str, AfterValidator(_metrics_address)] = Field(
        "", description="HOST:PORT of figures for Prometheus, such as 127.0.0.1:9464; empty: none"
    )
    stop_grace_s: int = Field(30, ge=0, le=3600, description="seconds that running jobs have to finish at a stop")


class ModelConfig(Section):
    """Which model is served and how."""

    path: str = Field(
        "", description="diffusers folder, transformer file, ComfyUI's folder, or builtin; empty: search this machine"
    )
    version: Literal["", "2511", "2509", "edit", "firered-1.0", "firered-1.1", "qwen-image", "2512"] = Field(
        "", description="which model it is, for files that do not state it"
    )
    text_encoder: str = Field("", description="file or folder of another text encoder; empty: the model's own")
    vae: str = Field("", description="file or folder of another VAE; empty: the model's own")
    tiny_autoencoder: str = Field(
        "auto", description="file of a tiny autoencoder for previews; auto: one that is found; off: none"
    )
    tokenizer: str = Field("", description="folder of the vocabulary; empty: the model's own, or where one is found")
    profile: str = Field("", description="model profile; empty: the one that fits the model")
    loras: Folders = Field((), description="folders of LoRA files, in addition to the model's own")
    upscalers: Folders = Field((), description="folders of upscaling models, in addition to ComfyUI's")
    device: Literal["auto", "cuda", "cpu"] = "auto"
    precision: Literal["auto", "fp8", "int8", "fp8-storage", "bf16", "fp32"] = "auto"
    text_encoder_precision: Literal["auto", "int8-storage", "fp8-storage", "stored"] = Field(
        "auto", description="how the text encoder's layers are kept where they stream from host memory"
    )
    second_precision: Literal["off", "bf16"] = Field(
        "off", description="precision that passes may name besides; its blocks stream from host memory"
    )
    gpus: Annotated[str, AfterValidator(_cards)] = Field(
        "all", description="cards that get a worker: all, or indices and UUIDs as 0,2 or GPU-8f1c9a2e"
    )


class LimitsConfig(Section):
    """What one user and the whole daemon may hold at once."""

    jobs_running_per_user: int = Field(8, ge=1, le=1024)
    jobs_waiting_per_user: int = Field(100, ge=1, le=100_000)
    jobs_waiting: int = Field(1000, ge=1, le=100_000)
    sessions_per_user: int = Field(32, ge=1, le=10_000)
    uploads_per_client: int = Field(8, ge=1, le=256)
    requests_per_client: int = Field(64, ge=1, le=1024, description="unanswered requests of one connection")
    connections_per_user: int = Field(256, ge=1, le=10_000)
    requests_per_user: int = Field(512, ge=1, le=10_000, description="unanswered requests on all of its connections")
    uploads_per_user: int = Field(32, ge=1, le=1024, description="uploads in progress on all of its connections")
    downloads_per_user: int = Field(64, ge=1, le=1024, description="downloads in progress on all of its connections")
    unread_bytes_per_user: int = Field(
        64 * MIB, ge=4 * MIB, description="bytes that were sent to a user and are not known to have been read"
    )
    submits_per_minute: int = Field(1200, ge=1, le=1_000_000, description="new jobs of one user in a minute")
    jobs_kept_per_user: int = Field(2000, ge=1, le=100_000, description="finished jobs that were not released")
    turns_per_session: int = Field(1000, ge=1, le=100_000)
    picture_pixels: int = Field(limits.PIXELS, ge=1024, le=limits.PIXELS, description="pixels of an input picture")
    target_pixels: Cap = Field(0, ge=0, description="pixels of a result; 0: what the plan allows")
    reference_pixels: Cap = Field(
        0, ge=0, description="pixels of a reference as the model sees it; 0: as the plan says"
    )


class StorageConfig(Section):
    """What is kept on disk, how much and for how long."""

    blob_bytes: Bytes = Field(20 * GIB, ge=64 * MIB, description="most bytes of pictures on disk")
    free_reserve_bytes: Bytes = Field(1 * GIB, ge=0, description="bytes of the file system to leave free")
    user_share: float = Field(0.5, gt=0, le=1, description="part of blob_bytes that one user's pictures may take")
    result_share: float = Field(0.25, ge=0, le=0.9, description="part of blob_bytes that uploads leave to results")
    result_hours: float = Field(72.0, gt=0, le=24 * 365, description="hours that an unreleased result is kept")
    fetched_hours: float = Field(
        72.0, ge=0, le=24 * 365, description="hours that a result is kept once its client has it; 0: not at all"
    )
    upload_hours: float = Field(12.0, gt=0, le=24 * 365, description="hours that an unused upload is kept")
    session_hours: float = Field(168.0, gt=0, le=24 * 365, description="hours that an idle session is kept")
    packed_bytes: Bytes = Field(64 * GIB, ge=0, description="bytes of quantised models kept on disk; 0: none")
    modulation_bytes: Bytes = Field(4 * GIB, ge=0, description="bytes of modulation tables kept on disk; 0: none")


class WorkerConfig(Section):
    """What a worker process holds and when it is given up."""

    max_active: int = Field(0, ge=0, le=256, description="edits that one worker holds at once; 0: as the plan says")
    budget_bytes: Bytes = Field(0, ge=0, description="memory that a worker may use; 0: what is free, less a reserve")
    cache_bytes: Bytes = Field(256 * MIB, ge=0, description="reference latents and embeddings kept between turns")
    loras_at_once: int = Field(
        2,
        ge=1,
        le=limits.LORAS,
        description="LoRAs that device memory has room for at once, counted as the largest ones",
    )
    fp8_attention: Literal["auto", "on", "off"] = Field(
        "auto", description="FP8 attention with FP8 weights; auto: if the self-test found it correct and faster"
    )
    step_timeout_s: int = Field(
        300, ge=1, le=86_400, description="seconds without progress after which a worker is killed"
    )
    idle_unload_s: int = Field(
        0, ge=0, le=604_800, description="seconds without work after which the worker's memory is freed; 0: never"
    )
    engine: Annotated[str, AfterValidator(_function)] = Field(
        _ENGINE, description="module:function that loads the engine"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of torch; 0: its own choice")


def _web_address(text: str) -> str:
    """HOST:PORT, or nothing for no web gateway."""
    if not _is_host_and_port(text):
        raise ValueError(f"{text!r} is not HOST:PORT; write it like {WEB_ADDRESS}, or 0.0.0.0:7448")
    return text


WEB_ADDRESS = "127.0.0.1:7448"
"""Where `qied serve --web` listens if no other address is named."""
COMFYUI_ADDRESS = "127.0.0.1:8188"
"""The same of `qied serve --comfyui`: where ComfyUI listens, so that its clients look there."""


class WebConfig(Section):
    """The web gateway: the page in a browser, and OpenAI's images API."""

    listen: Annotated[str, AfterValidator(_web_address)] = Field(
        "", description=f"HOST:PORT of the web gateway, such as {WEB_ADDRESS}; empty: no web gateway"
    )
    comfyui: Annotated[str, AfterValidator(_web_address)] = Field(
        "", description=f"HOST:PORT of ComfyUI's API, such as {COMFYUI_ADDRESS}; empty: none"
    )
    host_names: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (), description="further names by which browsers reach it, such as that of a proxy"
    )
    tls_cert: str = Field("", description="PEM certificate, for HTTPS")
    tls_key: str = Field("", description="PEM private key of the certificate")


class Config(Section):
    """The whole configuration; every key has a default."""

    daemon: DaemonConfig = DaemonConfig()  # type: ignore[call-arg]
    model: ModelConfig = ModelConfig()  # type: ignore[call-arg]
    limits: LimitsConfig = LimitsConfig()  # type: ignore[call-arg]
    storage: StorageConfig = StorageConfig()  # type: ignore[call-arg]
    worker: WorkerConfig = WorkerConfig()  # type: ignore[call-arg]
    web: WebConfig = WebConfig()  # type: ignore[call-arg]
    output: OutputConfig = OutputConfig()  # type: ignore[call-arg]
    rewriter: RewriterConfig = RewriterConfig()  # type: ignore[call-arg]


Source = Literal["default", "file", "environment", "command line"]


class LoadedConfig:
    """A configuration and where each of its values came from; keys are ``section.key``."""

    def __init__(self, config: Config, sources: Mapping[str, Source]) -> None:
        self.config = config
        self.sources = sources

    def value(self, key: str) -> Any:
        """The value of ``section.key``."""
        section, name = key.split(".")
        return getattr(getattr(self.config, section), name)


def load_config(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> LoadedConfig:
    """Merge file, ``QIED_<SECTION>_<KEY>`` variables and ``overrides`` (``section.key``), the last one winning.

    Raises ConfigError that names the source, the key, the line if there is one, and the allowed values.
    """
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, Source] = dict.fromkeys(all_keys(), "default")
    text = ""
    if path is not None:
        text, table = _read_file(path)
        _check_keys(path, text, table)
        for section, keys in table.items():
            for key, value in keys.items():
                _put(values, sources, f"{section}.{key}", value, "file")
    for key, value in settings_in(environ, all_keys()).items():
        _put(values, sources, key, value, "environment")
    for key, value in overrides.items():
        if value is not None:
            _put(values, sources, key, value, "command line")
    try:
        return LoadedConfig(Config.model_validate(values), sources)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        # What is wrong with a whole section is told at the first of its keys that was set.
        at = next((name for name, source in sources.items() if name.startswith(f"{key}.") and source != "default"), key)
        where = _where(sources.get(at, "default"), at, path, text)
        own = first["type"] == "value_error"  # our own words, which name the value
        said = first["msg"].removeprefix("Value error, ") if own else f"{first['msg']}, not {first['input']!r}"
        raise ConfigError(f"{where}: {key}: {said}.", "Correct this value.") from None


def all_keys() -> list[str]:
    """Every key as ``section.key``."""
    return [f"{section}.{key}" for section, field in _sections().items() for key in field.model_fields]


def _sections() -> dict[str, type[Section]]:
    return {name: field.annotation for name, field in Config.model_fields.items()}  # type: ignore[misc]


def _put(
    values: dict[str, dict[str, Any]], sources: dict[str, Source], key: str, value: object, source: Source
) -> None:
    section, name = key.split(".")
    values.setdefault(section, {})[name] = value
    sources[key] = source


def _read_file(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomli.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", "Correct the path, or leave it out.") from error
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}.", "Correct the file.") from error


def _check_keys(path: Path, text: str, table: Mapping[str, Any]) -> None:
    for section, keys in table.items():
        if section not in _sections():
            line = _line(text, rf"^\s*\[?\s*{re.escape(section)}\b")
            raise ConfigError(
                f"{path}:{line}: {section} is not a known section; known are {', '.join(_sections())}.",
                _rename(nearest(section, _sections())),
            )
        if not isinstance(keys, dict):
            raise ConfigError(f"{path}: {section} must be a table.", f"Write [{section}] on a line of its own.")
        known = _sections()[section].model_fields
        for key in keys:
            if key not in known:
                line = _line(text, rf"^\s*{re.escape(key)}\s*=")
                raise ConfigError(
                    f"{path}:{line}: {section}.{key} is not a known key; known are {', '.join(known)}.",
                    _rename(nearest(key, known)),
                )


def _rename(near: tuple[str, ...]) -> str:
    return f"Did you mean {' or '.join(near)}? Else remove it." if near else "Remove it."


def _line(text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return text.count("\n", 0, found.start() + 1) + 1 if found else 1


def _where(source: Source, key: str, path: Path | None, text: str) -> str:
    if source == "file":
        pattern = rf"^[ \t]*{re.escape(key.rpartition('.')[2])}[ \t]*="
        return f"{path}:{_line(text, pattern)}"
    if source == "environment":
        return variable_of(key)
    return source
