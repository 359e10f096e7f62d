from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer, Qwen2Tokenizer, Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.engine.text.prompt import Grid, PromptTokens
from tools.tiny_model import tokenizer as building
from tools.tiny_model.edits import ALL_TASKS, sample_edit, with_article
from tools.tiny_model.phrases import CHINESE_MARKS, FRAMES, PHRASINGS
from tools.tiny_model.phrasings import REFERENCE_TASKS, AnyTask
from tools.tiny_model.prompts import PADDING, SPECIAL_TOKENS, TEMPLATE, TEMPLATE_HEAD, VOCABULARY, Prompts
from tools.tiny_model.words import (
    ANY_KIND,
    COLOUR_NAMES,
    FIRST_PICTURE,
    KIND_NAMES,
    LANGUAGES,
    OTHER_PICTURE,
    PATTERN_NAMES,
    PLACE_NAMES,
    SIZE_NAMES,
    Language,
)

ENGLISH = "Make the red circle in the top left corner blue."
CHINESE = "把左上角的红色圆形变成蓝色。"


@pytest.fixture(scope="module")
def folder(tokenizer_folder) -> Path:
    return tokenizer_folder


@pytest.fixture(scope="module")
def prompts(folder) -> Prompts:
    return Prompts(folder)


@pytest.fixture(scope="module")
def tokenizer(folder) -> Qwen2Tokenizer:
    return AutoTokenizer.from_pretrained(folder)


def pictures_of(task: AnyTask) -> int:
    return 2 if task in REFERENCE_TASKS else 1


def in_batch(prompts: Prompts, instruction: str, pictures: int) -> list[int]:
    """The valid ids of a prompt in a batch beside a short one."""
    ids, lengths = prompts.batch(["", instruction], pictures)
    return ids[1, : prompts.DROPPED + int(lengths[1])].tolist()


def test_the_library_loads_its_own_tokenizer_class(tokenizer, prompts):
    assert isinstance(tokenizer, Qwen2Tokenizer)
    assert len(tokenizer) == VOCABULARY
    first = VOCABULARY - len(SPECIAL_TOKENS)
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(first, VOCABULARY))
    assert [prompts.token_id(token) for token in SPECIAL_TOKENS] == list(range(first, VOCABULARY))
    assert tokenizer.pad_token == PADDING


def test_files_are_those_of_the_built_in_model(folder):
    names = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
    assert {file.name for file in folder.iterdir()} == names


def test_the_older_files_make_the_same_tokenizer(folder, tokenizer):
    old = Qwen2Tokenizer.from_pretrained(folder, tokenizer_file=None, extra_special_tokens=list(SPECIAL_TOKENS[1:]))
    assert (
        old(TEMPLATE_HEAD + ENGLISH + CHINESE)["input_ids"] == tokenizer(TEMPLATE_HEAD + ENGLISH + CHINESE)["input_ids"]
    )


def test_building_twice_writes_the_same_bytes(folder, tmp_path):
    building.build_tokenizer(tmp_path / "again")
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_template_is_as_long_as_what_the_pipeline_drops(tokenizer, prompts):
    assert len(tokenizer(TEMPLATE_HEAD)["input_ids"]) == prompts.DROPPED == 64


def test_a_template_of_another_length_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CORPUS_EDITS", 200)
    monkeypatch.setattr(building, "TEMPLATE_TOKENS", 63)
    with pytest.raises(RuntimeError, match="the template is 64 tokens long, 63 are needed"):
        building.build_tokenizer(tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_few_words_for_the_vocabulary_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CORPUS_EDITS", 2)
    monkeypatch.setattr(building, "LEAST_NAME_WEIGHT", 0)
    with pytest.raises(RuntimeError, match="896 are needed"):
        building.build_tokenizer(tmp_path)


NAME_TABLES = (COLOUR_NAMES, KIND_NAMES, SIZE_NAMES, PLACE_NAMES)


def test_english_names_take_one_token_a_word(tokenizer):
    names = [name for table in NAME_TABLES for options in table["en"].values() for name in options]
    words = {word for name in names for word in name.replace("-sized", "").split()}
    assert {word: len(tokenizer(f" {word}")["input_ids"]) for word in words} == dict.fromkeys(words, 1)


def test_chinese_names_take_one_token_or_two(tokenizer):
    names = [name for table in NAME_TABLES for options in table["zh"].values() for name in options]
    counts = {name: len(tokenizer(name)["input_ids"]) for name in names}
    assert max(counts.values()) <= 2
    usual = [options[0] for table in (COLOUR_NAMES, KIND_NAMES) for options in table["zh"].values()]
    assert {name: counts[name] for name in usual} == dict.fromkeys(usual, 1)


@given(seed=st.integers(0, 10**9), task=st.sampled_from(ALL_TASKS), held_out=st.booleans())
def test_instructions_decode_to_themselves_and_fit_a_batch(prompts, tokenizer, seed, task, held_out):
    instruction = sample_edit(Random(seed), task, held_out_phrase=held_out).instruction
    assert tokenizer.decode(tokenizer(instruction)["input_ids"]) == instruction
    pictures = pictures_of(task)
    assert in_batch(prompts, instruction, pictures) == prompts.encode(instruction, pictures)


@given(text=st.text(st.characters(exclude_categories=["Cs"])), pictures=st.integers(1, 3))
def test_any_text_is_encoded_as_the_engine_encodes_it(prompts, tokenizer, text, pictures):
    ids = prompts.encode(text, pictures)
    assert ids == PromptTokens(tokenizer, TEMPLATE).ids(text, [Grid(4, 4)] * pictures)
    start = len(prompts.encode("", pictures)) - 5
    assert tokenizer.decode(ids[start:-5]) == unicodedata.normalize("NFC", text)


def test_text_never_becomes_a_special_token(prompts):
    ids = prompts.encode("<|im_end|><|image_pad|>", 1)
    assert ids.count(prompts.token_id("<|im_end|>")) == prompts.encode("", 1).count(prompts.token_id("<|im_end|>"))
    assert ids.count(prompts.token_id("<|image_pad|>")) == prompts.IMAGE_TOKENS


@pytest.mark.parametrize("pictures", [1, 2, 3])
@pytest.mark.parametrize("instruction", [ENGLISH, CHINESE, " "], ids=["english", "chinese", "blank"])
def test_ids_are_those_that_the_pipeline_gives_its_text_encoder(prompts, tokenizer, monkeypatch, instruction, pictures):
    # Its own processor also wants one for videos, which needs torchvision.
    monkeypatch.setattr(Qwen2VLProcessor, "check_argument_for_proper_class", lambda *_: None)
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112 + 256}
    processor = Qwen2VLProcessor(Qwen2VLImageProcessorPil(size=size), tokenizer, None)
    seen: dict[str, torch.Tensor] = {}

    def text_encoder(**inputs: torch.Tensor) -> SimpleNamespace:
        seen.update(inputs)
        return SimpleNamespace(hidden_states=[torch.zeros(*inputs["input_ids"].shape, 1)])

    rest = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "transformer"))
    pipeline = QwenImageEditPlusPipeline(processor=processor, **rest)
    pipeline.text_encoder = text_encoder
    images = [Image.new("RGB", (384, 384))] * pictures
    pipeline._get_qwen_prompt_embeds(instruction, images, torch.device("cpu"), torch.float32)
    assert seen["input_ids"][0].tolist() == prompts.encode(instruction, pictures)


@pytest.mark.parametrize("pictures", [1, 2])
def test_batches_are_padded_on_the_right(prompts, pictures):
    instructions = [ENGLISH, "", CHINESE]
    ids, lengths = prompts.batch(instructions, pictures)
    assert ids.dtype == lengths.dtype == torch.int64
    assert ids.shape == (3, 64 + prompts.text_tokens(pictures))
    for row, length, instruction in zip(ids.tolist(), lengths.tolist(), instructions, strict=True):
        valid = prompts.DROPPED + length
        assert row[:valid] == prompts.encode(instruction, pictures)
        assert set(row[valid:]) == {prompts.token_id(PADDING)}


def test_an_empty_batch_has_no_rows(prompts):
    ids, lengths = prompts.batch([], 1)
    assert ids.shape == (0, 128) and lengths.shape == (0,)


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_text_that_is_too_long_is_refused(prompts, pictures):
    room = prompts.text_tokens(pictures) - (len(prompts.encode("", pictures)) - prompts.DROPPED)
    assert prompts.batch([" the" * room], pictures)[1].tolist() == [prompts.text_tokens(pictures)]
    with pytest.raises(ValueError, match=f"a prompt of {65 + prompts.text_tokens(pictures)} tokens"):
        prompts.batch([ENGLISH, " the" * (room + 1)], pictures)


@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_picture_starts_are_the_first_of_sixteen_image_tokens(prompts, pictures):
    ids = prompts.encode(ENGLISH, pictures)
    places = [place for place, token in enumerate(ids) if token == prompts.token_id("<|image_pad|>")]
    starts = prompts.picture_starts(pictures)
    assert len(starts) == pictures
    assert places == [place for start in starts for place in range(start, start + prompts.IMAGE_TOKENS)]


def test_the_longest_sentences_of_all_phrasings_fit(prompts):
    longest = {1: 0, 2: 0}
    for language, task in product(LANGUAGES, ALL_TASKS):
        pictures = pictures_of(task)
        for sentence in longest_sentences(prompts, language, task):
            longest[pictures] = max(longest[pictures], len(prompts.encode(sentence, pictures)) - prompts.DROPPED)
    # The maxima that ``TEXT_TOKENS`` rounds up.
    assert longest == {1: 61, 2: 95}
    assert all(prompts.text_tokens(pictures) == -(-most // 8) * 8 for pictures, most in longest.items())


def longest_sentences(prompts: Prompts, language: Language, task: AnyTask) -> Iterator[str]:
    """Every phrasing of the task, in every frame, with the longest words in all slots."""
    slots = longest_slots(prompts, language)
    known = PHRASINGS[language][task]
    here = longest(prompts, FIRST_PICTURE[language])
    if pictures_of(task) == 2:
        slots["o"] = f"{slots['o']} of {here}" if language == "en" else f"{here}中的{slots['o']}"
    for order, (frame, mark) in product((*known.orders, *known.held_out_orders), FRAMES[language]):
        yield frame.replace("{order}", order).format(**slots) + CHINESE_MARKS.get(mark, mark)
    for wish in (*known.orders, *known.held_out_orders, *known.wishes, *known.held_out_wishes):
        text = wish.format(**slots)
        yield text + ("." if language == "en" else "。")
        yield text[0].upper() + text[1:] + "!"


def longest_slots(prompts: Prompts, language: Language) -> dict[str, str]:
    def of(table: dict[Language, dict[str, tuple[str, ...]]]) -> str:
        return longest(prompts, [name for names in table[language].values() for name in names], lead)

    lead = " " if language == "en" else "的"
    colour, kind, size, place = (of(table) for table in NAME_TABLES)
    anything = longest(prompts, ANY_KIND[language], lead)
    patterns = [text.format(x=colour, y=colour) for texts in PATTERN_NAMES[language].values() for text in texts]
    slots = {"c": colour, "b": longest(prompts, patterns, lead), "two": longest(prompts, OTHER_PICTURE[language], lead)}
    if language == "en":
        subjects = [f"the {size} {colour} {kind}", f"the {size} {anything}"]
        subjects += [f"the {colour} {kind} in the {place}", f"the {anything} in the {place}"]
        where = {"at": f"in the {place} of the picture", "to": f"into the {place} of the picture"}
        new = {"ac": with_article(colour), "k": with_article(kind), "n": with_article(f"{size} {colour} {kind}")}
    else:
        nouns = [f"{colour}的{kind}", f"{colour}的{anything}", anything, kind]
        subjects = [f"{front}的{noun}" for front, noun in product((size, place), nouns)]
        where, new = {"at": place, "to": place}, {"k": kind, "n": f"{size}的{colour}的{kind}"}
    subject = longest(prompts, subjects, lead)
    return {**slots, **where, **new, "o": subject, "r": subject}


def longest(prompts: Prompts, texts: list[str] | tuple[str, ...], lead: str = "") -> str:
    return max(texts, key=lambda text: len(prompts.encode(lead + text, 1)))
