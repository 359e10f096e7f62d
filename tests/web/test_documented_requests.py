"""Every curl command of docs/web.md, run by the real curl against a real gateway."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/web.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
CURLS = [line for line in COMMANDS if "curl " in line]


def test_the_page_has_commands_for_curl_and_no_others_are_hidden():
    assert len(CURLS) >= 5
    assert PAGE.count("curl -") == len(CURLS)


@pytest.mark.parametrize("command", CURLS, ids=lambda command: command.removeprefix("curl ")[:60])
def test_a_command_of_the_page_does_what_it_says(command, gateway, token, make_picture, tmp_path):
    (tmp_path / "photo.png").write_bytes(make_picture(128, 96, (200, 30, 40)))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "URL": gateway.url, "TOKEN": token}
    strict = command.replace("curl ", "curl --fail-with-body --max-time 60 ", 1)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", strict],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "/v1/images/generations" in command:
        # This gateway's model edits; tests/web/test_generations.py has one that makes pictures from text.
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (22, "model_not_supported")
        return
    assert done.returncode == 0, (done.stdout, done.stderr)
    if "stream=true" in command:
        events = [json.loads(line.removeprefix("data: ")) for line in done.stdout.splitlines() if line[:5] == "data:"]
        *early, last = [event["type"] for event in events]
        # Previews replace each other where the machine is busy, so that "up to" is what the page promises;
        # tests/web/test_streaming.py has an edit that is slow enough for all of them.
        assert last == "image_edit.completed" and early in (["image_edit.partial_image"] * n for n in (1, 2))
        return
    answer = json.loads(done.stdout)
    count = int((re.search(r"-F n=(\d+)", command) or [0, 1])[1])
    assert len(answer["data"]) == count
    assert command.count("/v1/models") or all(each["b64_json"] for each in answer["data"])
