"""A shop's night with the built-in model: pictures with masks in four steps, upscaled, killed three times at random."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from qied_client.picture_metadata import read_metadata
from safetensors.torch import save_file

from qied.builtin.scene import read_scene
from qied.planning.edits.upscaling import UpscalerFacts
from qied.upscalers.contents import expected_shapes

PICTURES = 30
KILLS = 3
SCALE = 4
OPTIONS = ("--lora", "builtin-lightning-4steps", "--steps", "4", "--width", "128", "--height", "128", "--upscale", "4x")
REPEATS = UpscalerFacts("compact", SCALE, 8, 0, 2, 1, 0)
"""A network whose weights are all 0 repeats each pixel, so that a result still shows where it was edited."""


@pytest.fixture
def shop(tmp_path):
    """Pictures that differ, and masks over their middle."""
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    with Image.open(read_scene().path) as scene:
        for number in range(PICTURES):
            scene.convert("RGB").rotate(3 * number).resize((128, 128)).save(tmp_path / f"in/p{number:02}.png")
    (tmp_path / "upscalers").mkdir()
    nothing = {name: torch.zeros(shape) for name, shape in expected_shapes(REPEATS).items()}
    save_file(nothing, tmp_path / "upscalers" / "repeats.safetensors")
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((32, 32, 96, 96), fill=255)
    for number in range(PICTURES):
        mask.save(tmp_path / f"masks/p{number:02}.png")
    return tmp_path


class Night:
    """The command, as often as it takes."""

    def __init__(self, daemon, shop):
        self._daemon, self._shop = daemon, shop
        self.process = None

    def start(self):
        program = "from qied_client.cli.main import main; main()"
        command = [sys.executable, "-c", program, "batch", "in", "make the red heart blue", "--key", self._daemon.key]
        names = ("-o", "out/{stem}.png", "-o", "out/{stem}.webp", "--mask", "masks/{stem}.png")
        self.process = subprocess.Popen([*map(str, command), *names, *OPTIONS], cwd=self._shop, stderr=subprocess.PIPE)

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.start()

    def end(self):
        said = self.process.communicate(timeout=400)[1].decode()
        assert self.process.returncode == 0, said
        return said


def resident_mb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.timeout(900)
def test_sixty_right_files_each_once_whatever_is_killed_and_the_worker_does_not_grow(start_daemon, shop):
    seed = SystemRandom().randrange(1000)
    chance = Random(seed)
    daemon = start_daemon(engine="qied.engine.serving:load", QIED_MODEL_UPSCALERS=str(shop / "upscalers"))
    night = Night(daemon, shop)
    night.start()
    for victim in chance.sample(["client", "daemon", "client", "daemon"], KILLS):
        for _ in range(chance.randint(1, 4)):
            daemon.wait_for("finished")
        if victim == "client":
            night.kill()
        else:
            daemon.kill()
            daemon.start()
    sizes = []
    for _ in range(8):
        daemon.wait_for("finished")
        sizes.append(resident_mb(daemon.worker_pid))
    night.end()
    sizes.append(resident_mb(daemon.worker_pid))
    assert max(sizes[4:]) <= 1.05 * max(sizes[:4]), f"seed {seed}: {sizes}"
    files = sorted(path.name for path in (shop / "out").iterdir() if path.suffix in (".png", ".webp"))
    assert len(files) == 2 * PICTURES, f"seed {seed}"
    report = json.loads((shop / "out/report.json").read_text())
    seeds = {row["name"]: row["seed"] for row in report["edits"]}
    for number in range(PICTURES):
        stem = f"p{number:02}"
        made = [Image.open(shop / f"out/{stem}{suffix}").convert("RGB") for suffix in (".png", ".webp")]
        assert np.array_equal(*map(np.asarray, made)), f"seed {seed}: {stem}"
        assert made[0].size == (128 * SCALE, 128 * SCALE), f"seed {seed}: {stem}"
        with Image.open(shop / f"in/{stem}.png") as before:
            same = (np.asarray(before.convert("RGB")) == np.asarray(made[0])[::SCALE, ::SCALE]).all(axis=2)
        assert same[:16].all() and not same[48:80, 48:80].all(), f"{stem}: edited within its mask, and only there"
        facts = read_metadata(shop / f"out/{stem}.png")
        assert (facts.seed, facts.steps, facts.upscale, facts.upscale_by) == (seeds[stem], 4, "repeats", SCALE)
    with daemon.client(patience=60.0) as client:
        states = Counter(job.state for job in client.jobs(limit=None))
    assert states == {"succeeded": PICTURES}, f"seed {seed}"
