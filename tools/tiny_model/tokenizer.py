"""Builds the tokenizer of the built-in model: Qwen2's byte-level BPE with few merges, those that the edits need."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from qied.engine.text.prompt import TEMPLATE_TAIL
from tools.tiny_model.edits import ALL_TASKS, Edit, sample_edit
from tools.tiny_model.prompts import SPECIAL_TOKENS, TEMPLATE_HEAD, TEMPLATE_TOKENS, VOCABULARY
from tools.tiny_model.words import (
    ANY_KIND,
    COLOUR_NAMES,
    FIRST_PICTURE,
    KIND_NAMES,
    OTHER_PICTURE,
    PATTERN_NAMES,
    PLACE_NAMES,
    SIZE_NAMES,
    Language,
)

MODEL_MAX_LENGTH = 131072
CORPUS_EDITS = 5_000
CORPUS_SEED = 1
# How much one token is worth: a word by its count in the corpus, by language, since most Chinese characters take two
# merges; names of colours, kinds, sizes, places and patterns so much that each is one token, rare ones two; the words
# of the template more than anything. Sentences are then 11 tokens long on average in both languages.
TEMPLATE_WEIGHT = 1000
NAME_WEIGHT = 3
LEAST_NAME_WEIGHT = 150
WORD_WEIGHTS: dict[Language, int] = {"en": 2, "zh": 1}


def build_tokenizer(folder: Path) -> None:
    """Write the tokenizer, as transformers loads it, into ``folder`` (made if need be): the same bytes every time.

    Raises RuntimeError where the template is not ``TEMPLATE_TOKENS`` long or the corpus fills no ``VOCABULARY``.
    """
    trained = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trained.pre_tokenizer = pre_tokenizers.Sequence([_splitter(), to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(_word_weights().elements(), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=MODEL_MAX_LENGTH,
    )
    _check(tokenizer)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _check(tokenizer: Qwen2Tokenizer) -> None:
    template = len(tokenizer(TEMPLATE_HEAD)["input_ids"])
    if template != TEMPLATE_TOKENS:
        raise RuntimeError(f"the template is {template} tokens long, {TEMPLATE_TOKENS} are needed: weigh it more")
    if len(tokenizer) != VOCABULARY:
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} tokens, {VOCABULARY} are needed: give it more words")


@cache
def _splitter() -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")


def _split(text: str) -> list[str]:
    """Words as Qwen2 splits text, each with the space before it; a Chinese clause is one word."""
    return [word for word, _ in _splitter().pre_tokenize_str(text)]


def _word_weights() -> Counter[str]:
    """How much a token for each word is worth."""
    weights: Counter[str] = Counter()
    for edit in _corpus():
        names = _names(edit.language)
        for word in _split(edit.instruction) if edit.language == "en" else _cut(edit.instruction):
            weights[word] += WORD_WEIGHTS[edit.language] * (NAME_WEIGHT if word.strip() in names else 1)
    for language in WORD_WEIGHTS:
        space = " " if language == "en" else ""
        weights |= Counter({space + name: LEAST_NAME_WEIGHT for name in _names(language)})
    texts = re.split(r"<\|\w+\|>", TEMPLATE_HEAD + TEMPLATE_TAIL + "Picture 1: ")
    return weights | Counter({word: TEMPLATE_WEIGHT for text in texts for word in _split(text)})


def _corpus() -> list[Edit]:
    """Edits of every task alike, in trained and in held-out phrasings."""
    rng = Random(CORPUS_SEED)
    return [
        sample_edit(rng, ALL_TASKS[number % len(ALL_TASKS)], held_out_phrase=number % 3 == 0)
        for number in range(CORPUS_EDITS)
    ]


@cache
def _names(language: Language) -> frozenset[str]:
    """Words for what is in a scene: single words in English, whole names in Chinese."""
    tables = (COLOUR_NAMES, KIND_NAMES, SIZE_NAMES, PLACE_NAMES, PATTERN_NAMES)
    names = [name for table in tables for options in table[language].values() for name in options]
    names += [*ANY_KIND[language], *OTHER_PICTURE[language], *FIRST_PICTURE[language]]
    pieces = [piece for name in names for piece in re.split(r"\{\w\}|\d", name)]
    return frozenset(word for piece in pieces for word in (piece.split() if language == "en" else [piece]) if word)


@cache
def _name_pattern() -> re.Pattern[str]:
    """Every Chinese name, the longest first."""
    names = sorted(_names("zh"), key=lambda name: (-len(name), name))
    return re.compile(f"({'|'.join(names)})")


def _cut(sentence: str) -> list[str]:
    """A Chinese sentence cut before and after every name, so that no token is learnt that spans one."""
    return [word for piece in _name_pattern().split(sentence) if piece for word in _split(piece)]
