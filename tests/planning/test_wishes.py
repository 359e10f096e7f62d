"""What configuration and command line ask of planning, and where it came from."""

from pathlib import Path

import pytest
from qied_client.errors import ConfigError

from qied.config import load_config
from qied.planning.wishes import Wishes, wishes_of

EXAMPLE = Path(__file__).parent.parent.parent / "qied.toml"


def test_a_configuration_of_defaults_wishes_nothing():
    found = wishes_of(load_config(None, {}, {}))
    assert found == Wishes()
    assert found.origin("budget_bytes", "computed") == "computed"


def test_a_file_that_spells_out_the_defaults_wishes_nothing_but_the_caches():
    assert set(wishes_of(load_config(EXAMPLE, {}, {})).origins) == {"cache_bytes"}


def test_every_wish_tells_where_it_was_set(tmp_path):
    file = tmp_path / "qied.toml"
    file.write_text("[worker]\nbudget_bytes = 8000000000\nmax_active = 3\n")
    environ = {"QIED_LIMITS_TARGET_PIXELS": "300000", "QIED_LIMITS_REFERENCE_PIXELS": "200000"}
    environ |= {"QIED_WORKER_FP8_ATTENTION": "on", "QIED_MODEL_TEXT_ENCODER_PRECISION": "stored"}
    environ |= {"QIED_MODEL_SECOND_PRECISION": "bf16"}
    found = wishes_of(load_config(file, environ, {"model.precision": "bf16", "model.device": "cuda"}))
    assert (found.budget_bytes, found.max_active) == (8_000_000_000, 3)
    assert (found.target_pixels, found.reference_pixels) == (300_000, 200_000)
    assert (found.precision, found.device) == ("bf16", "cuda")
    assert (found.fp8_attention, found.text_encoder_precision) == ("on", "stored")
    assert found.second_precision == "bf16"
    assert found.origins == {
        "budget_bytes": "file (worker.budget_bytes)",
        "max_active": "file (worker.max_active)",
        "target_pixels": "environment (limits.target_pixels)",
        "reference_pixels": "environment (limits.reference_pixels)",
        "precision": "command line (model.precision)",
        "fp8_attention": "environment (worker.fp8_attention)",
        "text_encoder_precision": "environment (model.text_encoder_precision)",
        "second_precision": "environment (model.second_precision)",
        "device": "command line (model.device)",
    }


@pytest.mark.parametrize("gpus", ["all,0", "0;1", "-1", "first", "", "GPU-", "GPU-1 2", "0,,1"])
def test_cards_are_all_or_indices_or_uuids(gpus):
    with pytest.raises(ConfigError, match=r"model\.gpus: .* does not name cards; use all") as caught:
        load_config(None, {}, {"model.gpus": gpus})
    assert "pattern" not in caught.value.message


def test_blanks_between_cards_do_not_count():
    assert load_config(None, {"QIED_MODEL_GPUS": " 0, GPU-8f1c , MIG-5b3d"}, {}).config.model.gpus == (
        "0,GPU-8f1c,MIG-5b3d"
    )
    assert load_config(None, {"QIED_MODEL_GPUS": " all "}, {}).config.model.gpus == "all"
