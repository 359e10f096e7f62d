"""Names of results: fields, variations, formats, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from qied_client.batch.edits import edits_of
from qied_client.batch.names import Names
from qied_client.batch.rows import Row
from qied_client.errors import InvalidRequest

ROW = Row(("in/cat.jpg",), "night", 7)


@pytest.mark.parametrize(
    ("pattern", "count", "name"),
    [
        ("out/{stem}.png", 1, "out/cat.png"),
        ("out/{name}-{index}-{seed}.webp", 1, "out/cat-0007-5.webp"),
        ("{name}/{stem}.jpg", 1, "cat/cat.jpg"),
        ("out/{stem}.png", 3, "out/cat-2.png"),
        ("out/{stem}_{n}.png", 3, "out/cat_2.png"),
        ("out/{stem}_{seed}.png", 3, "out/cat_5.png"),
        ("out/", 1, "out/cat.png"),
    ],
)
def test_fields_stand_for_the_row_and_its_variation(pattern: str, count: int, name: str) -> None:
    assert Names([pattern], count=count).paths(ROW, 2, 5) == (Path(name),)


@pytest.mark.parametrize(
    ("patterns", "quality", "says"),
    [
        (["out/{stm}.png"], None, "A name cannot have {stm}. Did you mean {stem}?"),
        (["out/{stem}.gif"], None, "results are PNG, WebP or JPEG."),
        (["out"], None, "For a new folder write out/"),
        ([], None, "No name for the results is given."),
        (["out/{stem}.png"], 80, "a PNG has none."),
        (["out/{stem}.jpg"], 0, "must be 1 to 100, not 0."),
    ],
)
def test_what_names_no_result_is_refused(patterns: list[str], quality: int | None, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Names(patterns, quality=quality)
    assert says in f"{refused.value.message} {refused.value.remedy}"


def test_one_format_is_made_by_the_daemon_and_of_several_the_one_that_loses_nothing() -> None:
    assert Names(["{stem}.webp"]).asks() == {"output_format": "webp", "output_quality": 100}
    assert Names(["{stem}.jpg"], quality=80).asks() == {"output_format": "jpeg", "output_quality": 80}
    several = Names(["{stem}.jpg", "{stem}.webp", "{stem}.png"], quality=80)
    assert several.asks() == {"output_format": "png"}
    assert [several.quality_of(Path(name)) for name in ("a.jpg", "a.webp", "a.png")] == [80, 80, None]


def test_the_state_lies_in_the_folder_that_all_results_share() -> None:
    assert Names(["out/{name}/{stem}.png"]).folder == Path("out")
    assert Names(["{stem}.png"]).folder == Path()


def test_seeds_follow_each_other_or_come_from_the_batch_and_the_row() -> None:
    given = [edit.seed for edit in edits_of([Row(("a",), "x", 1, options={"seed": 7})], None, count=3, batch="b")]
    assert given == [7, 8, 9]
    rows = [Row((name,), "x", number) for number, name in enumerate("ab", 1)]
    seeds = [edit.seed for edit in edits_of(rows, None, count=2, batch="b")]
    assert len({*seeds}) == 4
    assert seeds == [edit.seed for edit in edits_of(rows, Names(["{stem}.png"]), count=2, batch="b")]
    assert seeds != [edit.seed for edit in edits_of(rows, None, count=2, batch="other")]


def test_a_masks_name_may_have_the_rows_fields() -> None:
    (edit,) = edits_of([Row(("in/cat.jpg",), "x", 1, options={"mask": "m/{stem}.png"})], None, count=1, batch="")
    assert edit.row.mask == "m/cat.png"
    with pytest.raises(InvalidRequest, match="seed"):
        list(edits_of([Row(("a",), "x", 1, options={"mask": "m/{seed}.png"})], None, count=1, batch=""))
