from pathlib import Path

import pytest
from qied_client.cli.editing.arguments import told_apart
from qied_client.errors import InvalidRequest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "my cat.png", "scan"):
        Path(name).touch()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        (["photo.png", "make it night"], "make it night"),
        (["photo.png", "night"], "night"),
        (["photo.png", "scan", "my cat.png", "the cat of the third into the first"], None),
        (["absent.png", "make it night"], None),
        (["absent", "make it night"], None),
        (["photo.png", "as in photo.png"], None),
        (["photo.png", "scan"], None),
        (["photo.png", "x" * 5000], None),
    ],
)
def test_pictures_come_first_and_the_prompt_last(words: list[str], prompt: str | None) -> None:
    assert told_apart(words) == ([Path(word) for word in words[:-1]], prompt or words[-1])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said", "command"),
    [
        ([], "A picture and a prompt are missing.", 'edit photo.png "make it night" -o out.png'),
        (["photo.png"], "The prompt is missing: photo.png is a picture.", 'edit photo.png "make it night" -o'),
        (
            ["photo.png", "my cat.png"],
            "The prompt is missing: my cat.png is a picture.",
            """edit photo.png 'my cat.png' "make it night" -o out.png""",
        ),
        (["make it night"], "A picture is missing: 'make it night' is taken for the prompt.", 'photo.png "make it'),
        (
            ["make it night", "photo.png"],
            "'make it night' seems to be the prompt, which comes last.",
            'edit photo.png "make it night" -o out.png',
        ),
        (
            ["photo.png", "make", "it", "night"],
            "'make', 'it' are taken for a picture: the prompt seems to have no quotes.",
            'edit photo.png "make it night" -o out.png',
        ),
        (
            ["photo.png", "scan", "more", "$light"],
            "'more' is taken for a picture: the prompt seems to have no quotes.",
            "edit photo.png scan 'more $light' -o out.png",
        ),
    ],
)
def test_a_mistake_is_told_with_the_command_that_was_meant(words: list[str], said: str, command: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        told_apart(words)
    assert refused.value.message == said
    assert command in refused.value.remedy
