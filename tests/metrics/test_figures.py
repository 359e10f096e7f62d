"""Figures on their own: closed sets of labels, whatever is told."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from qied_client.errors import CODES
from qied_client.protocol import limits

from qied.metrics.figures import (
    CAUSES,
    MOST_PRESETS,
    NO_PRESET,
    OTHER_PRESET,
    OUTCOMES,
    PIXEL_CLASSES,
    STAGES,
    Figures,
    pixels_class,
)
from qied.metrics.standing import WORKER_STATES, CardMemory, Standing

PRESETS = ("preview", "draft")


def make(presets: tuple[str, ...] = PRESETS, profile: str = "builtin") -> Figures:
    return Figures(profile, presets, {"version": "1"})


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(figures: Figures) -> Samples:
    families = text_string_to_metric_families(figures.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def labels(found: Samples, label: str) -> set[str]:
    return {value for _, pairs in found for name, value in pairs if name == label}


def test_what_can_happen_is_there_from_the_start_at_zero() -> None:
    found = samples(make())
    for outcome in OUTCOMES:
        assert found["qied_jobs_total", (("outcome", outcome), ("profile", "builtin"))] == 0
    for cause in CAUSES:
        assert found["qied_worker_restarts_total", (("cause", cause),)] == 0
    assert found["qied_previews_total", ()] == 0


@given(
    st.lists(st.text(max_size=20) | st.sampled_from(PRESETS)),
    st.lists(st.text(max_size=20) | st.sampled_from(sorted(CODES))),
    st.dictionaries(
        st.text(max_size=20) | st.sampled_from(sorted(STAGES)),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    ),
    st.lists(st.integers(min_value=0)),
)
def test_whatever_is_told_the_labels_are_of_closed_sets(presets, codes, timings, sizes) -> None:
    figures = make()
    for preset in presets:
        figures.job_ended("succeeded", preset, 5)
    for code in codes:
        figures.refused(code)
    figures.stages_done(timings)
    for size in sizes:
        figures.stepped(size, 5, 1, preview=False)
    found = samples(figures)
    assert labels(found, "preset") <= {*PRESETS, NO_PRESET, OTHER_PRESET}
    assert labels(found, "code") <= set(CODES)
    assert labels(found, "stage") == set(STAGES.values())
    assert labels(found, "pixels_class") <= set(PIXEL_CLASSES)


def test_presets_that_are_not_the_models_are_counted_together() -> None:
    figures = make()
    for preset in ("", "gone", "draft"):
        figures.job_ended("succeeded", preset, 1500)
    found = samples(figures)
    for preset in (NO_PRESET, OTHER_PRESET, "draft"):
        assert found["qied_job_seconds_sum", (("preset", preset), ("profile", "builtin"))] == 1.5


def test_only_edits_that_succeeded_count_in_the_time_of_edits() -> None:
    figures = make()
    for outcome in OUTCOMES[1:]:
        figures.job_ended(outcome, "draft", 1500)
    figures.job_ended("succeeded", "draft", None)
    assert not [name for name, _ in samples(figures) if name.startswith("qied_job_seconds")]


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (64 * 48, "0.3mp"),
        (512 * 512, "0.3mp"),
        (1024 * 1024, "1mp"),
        (1536 * 1024, "2mp"),
        (2048 * 2048, "4mp"),
        (limits.PIXELS, "above_4mp"),
    ],
)
def test_classes_of_sizes(pixels: int, found: str) -> None:
    assert pixels_class(pixels) == found


def test_times_are_in_seconds_and_one_report_of_a_turn_counts_it() -> None:
    figures = make()
    figures.stepped(1024 * 1024, 250, 3, preview=True)
    figures.stepped(1024 * 1024, None, 0, preview=True)
    figures.job_started(2500)
    figures.stages_done({"encode_prompt_ms": 500, "denoise_ms": 1500.0, "held_ms": 9, "decode_ms": -1})
    found = samples(figures)
    one_mp = (("pixels_class", "1mp"), ("profile", "builtin"))
    assert (found["qied_step_seconds_sum", one_mp], found["qied_step_seconds_count", one_mp]) == (0.25, 1)
    assert (found["qied_packed_edits_sum", ()], found["qied_packed_edits_count", ()]) == (3, 1)
    assert found["qied_previews_total", ()] == 2
    assert found["qied_job_queue_seconds_sum", ()] == 2.5
    assert found["qied_stage_seconds_sum", (("stage", "encode_text"),)] == 0.5
    assert found["qied_stage_seconds_sum", (("stage", "denoise"),)] == 1.5
    assert found["qied_stage_seconds_count", (("stage", "decode"),)] == 0


def test_all_that_there_can_be_fits_a_message() -> None:
    presets = tuple(f"{number}" + "p" * limits.ID_CHARS for number in range(3 * MOST_PRESETS))
    figures = make(presets, "ä" * 300)
    for preset in (*presets, ""):
        figures.job_ended("succeeded", preset, 1)
    for code in CODES:
        figures.refused(code)
    for pixels in (1, 10**6, 2 * 10**6, 4 * 10**6, 10**7):
        figures.stepped(pixels, 1, 1, preview=True)
    cards = tuple(CardMemory(f"{number}-12", 10**13, 10**13, 10**13, 10**13) for number in range(64))
    figures.ask(lambda: Standing(workers=dict.fromkeys(WORKER_STATES, 1), cards=cards))
    assert len(figures.text()) <= limits.METRICS_BYTES / 2
    assert len(labels(samples(figures), "preset")) == MOST_PRESETS + 2


def test_gauges_are_asked_for_at_each_scrape_and_what_fails_there_is_raised() -> None:
    figures = make()
    moments = [Standing(queued=1, running=2, sessions=3, workers={"ready": 1}), Standing(queued=7)]
    figures.ask(lambda: moments.pop(0))
    found = samples(figures)
    assert [found[name, ()] for name in ("qied_jobs_queued", "qied_jobs_running", "qied_sessions")] == [1, 2, 3]
    assert found["qied_workers", (("state", "ready"),)] == 1 and found["qied_workers", (("state", "lost"),)] == 0
    assert samples(figures)["qied_jobs_queued", ()] == 7
    with pytest.raises(IndexError):
        figures.text()


def test_a_card_is_measured_or_not() -> None:
    figures = make()
    cards = (CardMemory("0", 100, 80, 60, 88), CardMemory("1", 100, 0, 5, 5), CardMemory("cpu", 50, 40))
    figures.ask(lambda: Standing(cards=cards))
    found = samples(figures)
    assert found["qied_vram_bytes", (("card", "0"), ("kind", "measured"))] == 60
    assert found["qied_plan_error_ratio", (("card", "0"),)] == pytest.approx(0.1)
    assert ("qied_plan_error_ratio", (("card", "1"),)) not in found
    assert ("qied_vram_bytes", (("card", "cpu"), ("kind", "measured"))) not in found
    assert found["qied_vram_bytes", (("card", "cpu"), ("kind", "planned"))] == 40


def test_daemons_in_one_process_count_apart() -> None:
    first, second = make(), make()
    first.job_ended("failed", "", None)
    failed = ("qied_jobs_total", (("outcome", "failed"), ("profile", "builtin")))
    assert (samples(first)[failed], samples(second)[failed]) == (1, 0)


def test_threads_lose_no_count() -> None:
    figures = make()

    def count() -> None:
        for _ in range(2000):
            figures.carried("to_worker", 1)
            figures.committed(0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(figures)
    assert found["qied_link_bytes_total", (("direction", "to_worker"),)] == 8000
    assert found["qied_journal_fsync_seconds_count", ()] == 8000
