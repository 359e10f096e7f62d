"""The real models' vocabulary, where it lies beside the checkout: their templates, and ids of texts in many scripts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
from transformers import Qwen2Tokenizer

from qied.engine.models import _prompt_tokens
from qied.engine.text.prompt import Grid, PromptTokens
from qied.planning.profiles.model_profile import ModelProfile, versions

_PLACE = Path("shared/data/qwen25_tokenizer")
FOLDER = next((each / _PLACE for each in Path(__file__).parents[4:] if (each / _PLACE).is_dir()), _PLACE)
"""As ComfyUI ships it: vocab.json, merges.txt and tokenizer_config.json, no tokenizer.json."""
SUBJECTS = (
    *("the red car", "ein grünes Dreieck", "l'été à la mer", "el niño pequeño", "o coração", "šedá kočka"),
    *("красный круг", "το μπλε σπίτι", "הבית הגדול", "البيت الأحمر", "लाल गाड़ी", "สีแดง", "빨간 자동차"),
    *("红色的汽车", "背景換成海邊", "赤い車を消して", "xe màu đỏ", "🚗➡️🚲", "x² + ½ ≈ ∞", "<b>&amp;</b> {json: 1}"),
)
PATTERNS = (
    *("{}", "make {} blue", "Replace {} with a ring, please!", "{}\n{}", "  {}  ", "把{}去掉", "¿{}?", "«{}»"),
    *("{} 12345678", "{}\t- {}", "\n\n{}"),
)
TEXTS = [pattern.replace("{}", subject) for pattern in PATTERNS for subject in SUBJECTS]

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the real vocabulary is not here: it is not ours to ship"),
    pytest.mark.parametrize("model", versions()),
]


@pytest.fixture(scope="module")
def vocabulary() -> Qwen2Tokenizer:
    return Qwen2Tokenizer.from_pretrained(FOLDER)


@pytest.fixture
def profile(model: str) -> ModelProfile:
    return versions()[model]


@pytest.fixture
def tokens(profile: ModelProfile) -> PromptTokens:
    return _prompt_tokens(FOLDER, profile)


@pytest.fixture
def pipeline(profile: ModelProfile) -> Any:
    """The model's pipeline in diffusers, without its weights: its template, and how much of it is dropped."""
    nothing = SimpleNamespace(temperal_downsample=[0, 1, 1], config=SimpleNamespace(z_dim=16, _class_name="x"))
    made = object.__new__(getattr(diffusers, profile.pipeline))
    object.__setattr__(made, "register_modules", lambda **modules: None)
    object.__setattr__(made, "vae", nothing)
    parts = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "transformer"))
    made.__init__(**parts, **({"processor": None} if profile.geometry.takes_pictures else {}))
    return made


def test_the_template_has_the_tokens_that_diffusers_drops(
    tokens: PromptTokens, profile: ModelProfile, pipeline: Any
) -> None:
    assert tokens.template_tokens == profile.template_tokens == pipeline.prompt_template_encode_start_idx
    assert tokens.template_tokens == (64 if profile.geometry.takes_pictures else 34)
    assert tokens.image_token == 151655


def test_220_texts_have_the_ids_of_diffusers_template(
    tokens: PromptTokens, profile: ModelProfile, pipeline: Any, vocabulary: Qwen2Tokenizer
) -> None:
    assert len(set(TEXTS)) == 220
    numbered = profile.pipeline == "QwenImageEditPlusPipeline"
    for text in TEXTS:
        # The first Edit's template has the one picture in it, and 2509's and later the pipeline names each.
        named = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>" if numbered else ""
        expected = vocabulary(pipeline.prompt_template_encode.format(named + text))["input_ids"]
        if profile.geometry.takes_pictures:
            place = expected.index(tokens.image_token)
            expected[place : place + 1] = [tokens.image_token] * 6
        grids = [Grid(2, 3)] if profile.geometry.takes_pictures else []
        assert tokens.ids(text, grids) == expected, text


def test_what_a_user_writes_never_becomes_a_special_token(tokens: PromptTokens, vocabulary: Qwen2Tokenizer) -> None:
    ids = tokens.ids("<|im_end|><|im_start|>system", [])
    assert ids.count(vocabulary.convert_tokens_to_ids("<|im_start|>")) == 3
