"""What ``mypy --strict`` says about right and wrong calls of the client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import qied_client

HERE = Path(__file__).parent
CONFIG = """
[mypy]
strict = True
python_version = 3.11
mypy_path = {client}
"""


def test_right_calls_pass_and_each_wrong_one_is_found(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG.format(client=Path(qied_client.__file__).parents[1]))
    right, wrong = HERE / "right_calls.py", HERE / "wrong_calls.py"
    told, failures, _ = api.run(
        [f"--config-file={config}", f"--cache-dir={tmp_path}", "--no-error-summary", str(right), str(wrong)]
    )
    found = re.findall(r"(\w+)\.py:(\d+): error: ", told)
    marked = [line for line, text in enumerate(wrong.read_text().splitlines(), 1) if "# wrong: " in text]
    assert (failures, len(marked)) == ("", 30)
    # An overload may say twice what is wrong with one call.
    assert list(dict.fromkeys(found)) == [("wrong_calls", str(line)) for line in marked], told
