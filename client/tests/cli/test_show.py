"""``show``: how a picture was made, in 80 columns without colour, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from qied_client.cli import commands
from qied_client.cli.editing import command
from qied_client.cli.editing.places import Place
from qied_client.cli.made_again import arguments_of, placeholder, shell_line
from qied_client.cli.main import main
from qied_client.picture_metadata import PictureMetadata, read_metadata
from qied_client.transfers import hash_of
from typer.main import get_command

OLD = PictureMetadata("make it blue", None, 7, 20, 1.0, 64, 48, "builtin", "0.2.0")
MADE = PictureMetadata(
    'It\'s "blue": $HOME; 把心形变成蓝色',
    "blurred",
    7,
    4,
    2.5,
    1024,
    768,
    "Qwen-Image-Edit-2511",
    "0.3.0",
    (("styles/ink", 1.0), ("a:b", 0.30000000000000004)),
    "fp8",
    "preview",
    "lightning",
    ("a" * 64, "b" * 64, "a" * 64),
    "c" * 64,
    ("ink was made for 4 steps, but this edit has 9. Use 4 steps.",),
)


def written(path: Path, metadata: PictureMetadata) -> Path:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("qied", json.dumps(asdict(metadata)))
    Image.new("RGB", (4, 4)).save(path, "PNG", pnginfo=chunks)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    for key, value in {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)

    def start(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["qied-client", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capfd.readouterr()

    return start


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], dict[str, Any]]:
    """What ``edit`` is called with for arguments of the command line."""
    taken: list[dict[str, Any]] = []

    class FakeEdits:
        def __init__(self, client: object, place: Place, job_id: str | None, seed: int | None) -> None:
            self.asked = {"out": place.out, "job": job_id, "seed": seed}

        def run(self, pictures: Sequence[Path], prompt: str, options: dict[str, Any]) -> list[Any]:
            options = {**options, "seed": self.asked["seed"]}
            taken.append({**self.asked, "images": list(pictures), "prompt": prompt, "options": options})
            raise typer.Exit

    monkeypatch.setattr(command, "Edits", FakeEdits)
    monkeypatch.setattr(command, "Client", FakeClient)
    app = typer.Typer()
    commands.add_client_commands(app)
    line = get_command(app)

    def parse(arguments: list[str]) -> dict[str, Any]:
        taken.clear()
        line(arguments, standalone_mode=False)
        return taken[0]

    return parse


class FakeClient:
    welcome = SimpleNamespace(version=2)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_it_shows_all_that_is_known_and_the_command(run: Any, tmp_path: Path) -> None:
    written(tmp_path / "out.png", MADE)
    assert run("show", "out.png") == (
        0,
        """out.png  1024 x 768  [FP8]
prompt    It's "blue": $HOME; 把心形变成蓝色
negative  blurred
seed      7
steps     4
cfg       2.5
model     Qwen-Image-Edit-2511, qied 0.3.0
preset    preview
schedule  lightning
LoRA      styles/ink, strength 1
LoRA      a:b, strength 0.30000000000000004
source    aaaaaaaaaaaa  not found
source    bbbbbbbbbbbb  not found
mask      cccccccccccc  not found
warning   ink was made for 4 steps, but this edit has 9. Use 4 steps.

To make it again:
qied-client edit PICTURE-aaaaaaaaaaaa PICTURE-bbbbbbbbbbbb PICTURE-aaaaaaaaaaaa 'It'"'"'s "blue": \
$HOME; 把心形变成蓝色' --seed 7 --preset preview --steps 4 --cfg 2.5 --negative blurred --lora styles/ink \
--lora a:b:0.30000000000000004 --width 1024 --height 768 --precision fp8 -o out-again.png --mask MASK-cccccccccccc
PICTURE-aaaaaaaaaaaa, PICTURE-bbbbbbbbbbbb and MASK-cccccccccccc stand for the
files whose SHA-256 hashes begin so. Name them with --source, or put them next
to this picture.
""",
        "",
    )


def test_a_picture_of_version_0_2_0_is_shown_with_what_it_has(run: Any, tmp_path: Path) -> None:
    written(tmp_path / "out.png", OLD)
    status, text, _ = run("show", "out.png")
    assert status == 0 and text.startswith("out.png  64 x 48\nprompt    make it blue\n")
    assert "qied-client edit PICTURE 'make it blue' --seed 7 --steps 20 --cfg 1 --width 64" in text
    assert text.endswith("Pictures of qied 0.2.0 do not tell\ntheir sources, nor a mask.\n")
    assert "edit before.png 'make" in run("show", "out.png", "--source", "before.png")[1]


def test_sources_are_found_beside_the_picture_or_where_they_are_said_to_be(run: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    near, far = tmp_path / "a b.png", tmp_path / "elsewhere" / "mask.png"
    near.write_bytes(b"near")
    far.write_bytes(b"far")
    made = replace(MADE, sources=(hash_of(b"near"),), mask=hash_of(b"far"))
    written(tmp_path / "out.png", made)
    _, text, _ = run("show", "out.png")
    assert f"source    {hash_of(b'near')[:12]}  a b.png" in text
    assert "edit 'a b.png'" in text and f"--mask {placeholder(hash_of(b'far'), 'MASK')}" in text
    assert " stands for the file whose" in text
    _, text, _ = run("show", "out.png", "--source", "elsewhere/mask.png")
    assert "--mask elsewhere/mask.png\n" in text and " stand" not in text
    status, _, error = run("show", "out.png", "--source", "out.png")
    assert status == 2 and "--source out.png: out.png was not made from this file." in error


def test_json_has_every_field_and_the_command(run: Any, tmp_path: Path) -> None:
    written(tmp_path / "out.webp", MADE)
    document = json.loads(run("show", "out.webp", "--json")[1])
    assert document.pop("path") == "out.webp"
    arguments, command = document.pop("arguments"), document.pop("command")
    assert ["qied-client", *arguments] == shlex.split(command)
    assert arguments[arguments.index("-o") + 1] == "out-again.webp"
    assert document == json.loads(json.dumps(asdict(MADE)))


def test_a_picture_that_says_nothing_is_an_error_with_a_remedy(run: Any, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "out.png")
    status, out, error = run("show", "out.png")
    assert (status, out) == (1, "")
    assert error.startswith("error metadata_missing out.png does not say how it was made")
    assert "\n  do    Show the file that qied wrote itself.\n" in error
    (tmp_path / "text.png").write_text("no picture")
    assert run("show", "text.png")[0] == run("show", "none.png")[0] == 2


def test_without_pillow_it_says_what_to_install(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "out.png", MADE)
    monkeypatch.setitem(sys.modules, "PIL", None)
    status, _, error = run("show", "out.png")
    assert status == 2 and "needs Pillow" in error and "install 'pillow" in error


def test_what_a_stranger_wrote_cannot_steer_the_terminal(run: Any, tmp_path: Path) -> None:
    prompt = "a\x1b]0;title\x07 \\ 'b' \x9b"
    written(tmp_path / "out.png", replace(MADE, prompt=prompt, model="\x1b[31m"))
    out = run("show", "out.png")[1]
    assert "\x1b" not in out and "\x07" not in out and "\x9b" not in out
    assert "prompt    a\\x1b]0;title" in out
    printed = subprocess.run(
        ["bash", "-c", f"printf %s {shell_line([prompt])}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert printed.stdout.decode() == prompt


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    prompt=TEXT.map(lambda text: f"-{text}") | TEXT,
    negative=st.none() | st.just(" ") | TEXT,
    scale=st.floats(1, 20),
    strength=st.floats(-4, 4),
    masked=st.booleans(),
    size=st.sampled_from(["", "same", "kontext"]),
    compat=st.sampled_from(["", "comfyui", "comfyui,shift=2.5,cfg_norm=pre"]),
    mode=st.sampled_from(["", "auto", "white", "transparent", "opaque"]),
)
def test_the_command_is_read_by_the_command_line_as_the_same_edit(
    parsed: Any,
    prompt: str,
    negative: str | None,
    scale: float,
    strength: float,
    masked: bool,
    size: str,
    compat: str,
    mode: str,
) -> None:
    made = replace(
        MADE,
        prompt=prompt,
        negative_prompt=negative,
        true_cfg_scale=scale,
        loras=(("-odd", strength), ("a:b", 1.0)),
        mask="c" * 64 if masked else None,
        size=size,
        compat=compat,
        mask_mode=mode,
    )
    found = {"a" * 64: Path("-first.png")}
    asked = parsed(arguments_of(made, found, [], Path("again.webp")))
    assert asked["images"] == [Path("-first.png"), Path(placeholder("b" * 64)), Path("-first.png")]
    assert (asked["prompt"], asked["out"], asked["job"]) == (prompt, Path("again.webp"), None)
    options = asked["options"]
    loras = [lora if isinstance(lora, tuple) else (lora, 1.0) for lora in options["loras"]]
    assert loras == [("-odd", strength), ("a:b", 1.0)]
    assert options["mask"] == (Path(placeholder("c" * 64, "MASK")) if masked else None)
    assert (options["output_format"], options["on_cap"]) == ("webp", "refuse")
    for name in ("seed", "steps", "true_cfg_scale", "preset", "precision", "negative_prompt"):
        assert options[name] == getattr(made, name), name
    sides = (None, None) if size else (made.width, made.height)
    assert (options["width"], options["height"], options.get("size", "")) == (*sides, size)
    assert options.get("compat", "") == compat
    assert options.get("mask_mode", "auto") == ((mode or "auto") if masked else "auto")


def test_a_path_its_bytes_and_its_text_say_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "out.png", MADE)
    assert read_metadata(path) == read_metadata(str(path)) == read_metadata(path.read_bytes()) == MADE


def test_a_picture_that_was_only_enlarged_says_so_and_how() -> None:
    metadata = PictureMetadata("upscale", None, 0, 0, 1.0, 64, 48, "small", "0.2.0", upscale="builtin-2x", upscale_by=2)
    assert arguments_of(metadata, {}, [Path("-a.png")], Path("b.png")) == [
        *("upscale", "--upscaler", "builtin-2x", "-o", "b.png", "--", "-a.png")
    ]
    edited = replace(metadata, steps=4)
    assert arguments_of(edited, {}, [], Path("b.png"))[-10:] == [
        *("--cfg", "1", "--width", "32", "--height", "24", "--upscale", "builtin-2x", "-o", "b.png")
    ]
