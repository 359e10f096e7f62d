"""Draws what commands print in a terminal as docs/pictures/terminal-*.svg; ``--check`` only compares the words.

``plan`` and ``doctor`` are run as they are, on recorded machines; ``batch``, ``ps`` and ``run`` show examples.
"""

from __future__ import annotations

import html
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qied_client.batch.checking import Checked, Kind
from qied_client.batch.edits import edits_of
from qied_client.batch.names import Names
from qied_client.batch.rows import Row
from qied_client.cli.batch.plan_view import show_plan
from qied_client.cli.status import show_status
from qied_client.cli.workflows.explaining import show_examined
from qied_client.protocol import messages as m
from qied_client.workflows import Served, examine, read_workflow
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
MACHINES = ROOT / "tests" / "planning" / "golden" / "snapshots"
COLUMNS = 80
COMMANDS = {
    "plan": ("plan", "rtx-4070-ti-12gb.json", ("--width", "1024", "--height", "1024", "--cfg")),
    "doctor": ("doctor", "rtx-4090-driver-470.json", ()),
}
"""Pictures of commands: the command, the recorded machine, and further arguments."""
THEME = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255),
     (86, 212, 221), (240, 246, 252)],
)  # fmt: skip
ROWS = (
    ("garden", "put the chairs on the lawn"),
    ("harbour", "make it a morning in fog"),
    ("kitchen", "replace the sign by 'Open'"),
)
EXAMPLE_WORKFLOW = {
    str(number): {"class_type": kind, "inputs": inputs}
    for number, (kind, inputs) in enumerate(
        (
            ("UNETLoader", {"unet_name": "qwen_image_edit_2511_bf16.safetensors", "weight_dtype": "default"}),
            ("CLIPLoader", {"clip_name": "qwen_2.5_vl_7b_fp8_scaled.safetensors", "type": "qwen_image"}),
            ("VAELoader", {"vae_name": "qwen_image_vae.safetensors"}),
            ("LoraLoaderModelOnly", {"model": ["1", 0], "lora_name": "Lightning-4steps.safetensors"}),
            ("ModelSamplingAuraFlow", {"model": ["4", 0], "shift": 3.1}),
            ("LoadImage", {"image": "poster.png"}),
            ("FluxKontextImageScale", {"image": ["6", 0]}),
            (
                "TextEncodeQwenImageEditPlus",
                {"clip": ["2", 0], "vae": ["3", 0], "image1": ["7", 0], "prompt": "make it night"},
            ),
            ("ConditioningZeroOut", {"conditioning": ["8", 0]}),
            ("VAEEncode", {"pixels": ["7", 0], "vae": ["3", 0]}),
            (
                "KSampler",
                {
                    **{"model": ["5", 0], "positive": ["8", 0], "negative": ["9", 0], "latent_image": ["10", 0]},
                    **{"seed": 7, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "sgm_uniform"},
                },
            ),
            ("VAEDecode", {"samples": ["11", 0], "vae": ["3", 0]}),
            ("SaveImage", {"images": ["12", 0], "filename_prefix": "poster"}),
        ),
        1,
    )
}
_GIB = 1024**3
REPORT = m.StatusReport(
    re=1,
    model="Qwen-Image-Edit-2511",
    precision="fp8",
    uptime_ms=7_800_000,
    clients=3,
    waiting=1,
    running=2,
    stored=14,
    blob_bytes=83 * 1024**2,
    blob_limit=20 * _GIB,
    draining=False,
    workers=(
        m.WorkerRow(
            worker="gpu-0",
            state="ready",
            device="NVIDIA GeForce RTX 4090",
            budget=22 * _GIB,
            weights=15 * _GIB,
            sessions=_GIB,
            arena=2 * _GIB,
            free=4 * _GIB,
            restarts=0,
        ),
    ),
    jobs=(
        m.JobRow("anna", "job-7f3a", "running", 12, 40, 1024, 1024, None, None),
        m.JobRow("ben", None, "running", 31, 40, 1344, 768, None, None),
        m.JobRow("anna", "job-c19e", "waiting", 0, 40, 1024, 1024, 1, 14_000),
    ),
    sessions=(m.SessionRow("anna", "session-52d0", 4, 6_000),),
)


def shown() -> Iterator[tuple[str, Text]]:
    """Names of the pictures, and what the terminal has on them: the command and its output."""
    for name, (command, machine, more) in COMMANDS.items():
        text = _prompt(" ".join(("qied", command, "--snapshot", machine, *more)))
        yield name, text.append(Text.from_ansi(_output([command, "--snapshot", str(MACHINES / machine), *more])))
    console = Console(file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="standard", highlight=False)
    show_status(console, REPORT)
    assert isinstance(console.file, io.StringIO)
    yield "batch", _batch()
    yield "ps", _prompt("qied ps").append(Text.from_ansi(console.file.getvalue()))
    yield "run", _run()


def _batch() -> Text:
    """A dry run of an example, in a terminal."""
    console = Console(file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="standard", highlight=False)
    options = {"mask": "masks/{stem}.png"}
    rows = [Row((f"in/{name}.jpg",), prompt, index, "", "", options) for index, (name, prompt) in enumerate(ROWS, 1)]
    names = Names(["out/{stem}.png", "out/{stem}.webp"])
    edits = edits_of(rows, names, count=1, batch="example")
    found = Checked(edits=30, rows=30, first=list(edits))
    quoted = m.Quoted(1, True, 1024, 1024, 4, 4, "fp8", 1, 3_200, 0, 1024, 1024)
    show_plan(console, found, names, [(Kind({}, [], None, "", 30), quoted)], ("mask", "edit", "save"))
    assert isinstance(console.file, io.StringIO)
    return _prompt("qied batch rows.csv -o 'out/{stem}.png' -o 'out/{stem}.webp' --dry-run").append(
        Text.from_ansi(console.file.getvalue())
    )


def _run() -> Text:
    """What an example of a workflow comes to, at a daemon that serves another precision than its file has."""
    console = Console(file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="standard", highlight=False)
    served = Served("qwen-image-edit-2511", "Qwen-Image-Edit-2511", "int8", ("lightning-4steps",), 3)
    show_examined(console, examine(read_workflow(EXAMPLE_WORKFLOW), served=served), as_json=False)
    assert isinstance(console.file, io.StringIO)
    return _prompt("qied run poster.json --explain").append(Text.from_ansi(console.file.getvalue()))


def _prompt(command: str) -> Text:
    return Text.assemble(("$ ", "green"), (command, "bold"), "\n")


def _output(arguments: list[str]) -> str:
    """What ``qied`` prints for a person without a configuration or models, in a terminal with colours."""
    with tempfile.TemporaryDirectory() as home:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HOME": home,
            "QIED_HOME": home,
            "TERM": "xterm",
            "FORCE_COLOR": "1",
            "COLUMNS": str(COLUMNS),
        }
        command = [sys.executable, "-m", "qied", *arguments]
        done = subprocess.run(command, cwd=home, env=environ, capture_output=True, encoding="utf-8", check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return done.stdout


def picture(text: Text) -> str:
    """A terminal with this text, as SVG that fetches no font."""
    lines = [line.rstrip() for line in text.plain.splitlines()]
    console = Console(
        file=io.StringIO(),
        width=max(len(line) for line in lines) + 1,
        record=True,
        force_terminal=True,
        highlight=False,
    )
    for line in text.split("\n"):
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    look = re.sub(r"@font-face {{.*?}}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    look = look.replace(
        "Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"
    )
    return console.export_svg(title="", theme=THEME, code_format=look)


def words(svg: str) -> str:
    """The text of a picture without blanks."""
    return re.sub(r"\s", "", html.unescape("".join(re.findall(r"<text [^>]*>(.*?)</text>", svg))))


def main() -> int:
    """Draw all pictures, or compare them; returns the exit status, 1 where a check differs."""
    status = 0
    for name, text in shown():
        path, svg = PICTURES / f"terminal-{name}.svg", picture(text)
        if "--check" not in sys.argv[1:]:
            path.write_text(svg, encoding="utf-8")
        elif words(path.read_text(encoding="utf-8")) != words(svg):
            print(f"{path.name} shows what is no longer printed.", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
