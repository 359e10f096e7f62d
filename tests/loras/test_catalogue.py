"""LoRAs are found by name in their folders, and nowhere else."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from qied.loras.catalogue import LoraFile, find_loras
from qied.planning.profiles.model_profile import shipped_profiles

BUILTIN = shipped_profiles()["builtin"].architecture


@pytest.fixture
def folder(tmp_path, write_lora) -> Path:
    folder = tmp_path / "loras"
    for name in ("style", "sub/other", "My Style (v2)", "Lightning-4steps"):
        write_lora(folder / f"{name}.safetensors", blocks=(0,), modules=("attn.to_q",))
    return folder


def test_names_are_paths_below_the_folder_without_the_ending(folder):
    (folder / "notes.txt").write_text("no LoRA")
    found = find_loras([folder], BUILTIN)
    assert set(found.files) == {"style", "sub/other", "My Style (v2)", "Lightning-4steps"}
    assert found.files["style"].path == str(folder / "style.safetensors")
    assert found.facts["style"].parameters == 4 * 512
    assert found.facts["style"].steps is None and found.facts["Lightning-4steps"].steps == 4


def test_a_broken_file_keeps_its_name_with_the_problem(folder):
    (folder / "broken.safetensors").write_bytes(b"nothing")
    found = find_loras([folder], BUILTIN)
    assert "broken" not in found.files
    assert "broken.safetensors" in (found.facts["broken"].problem or "") and found.facts["broken"].remedy
    assert str(folder) not in (found.facts["broken"].problem or ""), "users are not told where the folder lies"


def test_of_two_with_one_name_the_first_folder_counts(folder, tmp_path, write_lora):
    write_lora(tmp_path / "more" / "style.safetensors", blocks=(0, 1), modules=("attn.to_q",))
    for order, blocks in (([folder, tmp_path / "more"], 1), ([tmp_path / "more", folder], 2)):
        assert find_loras(order, BUILTIN).facts["style"].parameters == blocks * 4 * 512


def test_links_count_only_within_their_folder(folder, tmp_path, write_lora):
    write_lora(tmp_path / "outside.safetensors", blocks=(0,), modules=("attn.to_q",))
    write_lora(tmp_path / "far" / "away.safetensors", blocks=(0,), modules=("attn.to_q",))
    (folder / "escape.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "up.safetensors").symlink_to("../outside.safetensors")
    (folder / "gone.safetensors").symlink_to(folder / "nothing.safetensors")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "far").symlink_to(tmp_path / "far")
    (folder / "alias.safetensors").symlink_to(folder / "style.safetensors")
    found = find_loras([folder], BUILTIN)
    assert set(found.files) == {"style", "alias", "sub/other", "My Style (v2)", "Lightning-4steps"}
    assert not found.left_out
    for name in ("escape", "up", "gone", "loop"):
        assert f"{name}.safetensors cannot be used: it is a link that points out" in (found.facts[name].problem or "")
        assert "model.loras" in found.facts[name].remedy


def test_a_link_works_once_the_folder_that_it_leads_to_is_named_in_whatever_order(folder, tmp_path, write_lora):
    write_lora(tmp_path / "disk2" / "ink.safetensors", blocks=(0,), modules=("attn.to_q",))
    write_lora(tmp_path / "disk2" / "deep" / "gold.safetensors", blocks=(0,), modules=("attn.to_q",))
    (folder / "ink.safetensors").symlink_to(tmp_path / "disk2" / "ink.safetensors")
    (folder / "sub" / "linked").symlink_to(tmp_path / "disk2" / "deep")
    alone = find_loras([folder], BUILTIN)
    for name in ("ink", "sub/linked"):
        assert name not in alone.files and "to model.loras" in alone.facts[name].remedy
        assert str(tmp_path) not in f"{alone.facts[name].problem}{alone.facts[name].remedy}"
    for folders in ([folder, tmp_path / "disk2"], [tmp_path / "disk2", folder]):
        found = find_loras(folders, BUILTIN)
        assert {"ink", "sub/linked/gold", "deep/gold", "sub/other"} <= set(found.files)
        assert not any(facts.problem for facts in found.facts.values())


def test_a_link_that_is_refused_leaves_its_name_to_a_file(folder, tmp_path, write_lora):
    (folder / "ink.safetensors").symlink_to(tmp_path / "elsewhere" / "ink.safetensors")
    write_lora(tmp_path / "disk2" / "ink.safetensors", blocks=(0,), modules=("attn.to_q",))
    write_lora(tmp_path / "disk3" / "ink.safetensors", blocks=(0, 1), modules=("attn.to_q",))
    found = find_loras([folder, tmp_path / "disk2", tmp_path / "disk3"], BUILTIN)
    assert found.files["ink"].path == str(tmp_path / "disk2" / "ink.safetensors")


def test_links_in_a_circle_end_and_take_no_name_from_the_files_themselves(folder):
    (folder / "a").symlink_to(folder)
    (folder / "sub" / "back").symlink_to(folder / "a" / "sub")
    assert {"style", "sub/other", "a/style", "a/sub/other", "sub/back/other"} <= set(
        find_loras([folder], BUILTIN).files
    )


def test_endings_of_names_may_be_written_otherwise(folder):
    (folder / "style.safetensors").rename(folder / "style.SafeTensors")
    (folder / "sub" / "other.safetensors").rename(folder / "sub" / "other.sft")
    assert {"style", "sub/other"} <= set(find_loras([folder], BUILTIN).files)


def test_a_folder_that_is_itself_a_link_is_looked_into(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert "style" in find_loras([tmp_path / "link"], BUILTIN).files


def test_a_snapshot_of_the_hugging_face_cache_has_its_files_among_the_blobs_of_its_repository(tmp_path, write_lora):
    repository = tmp_path / "models--owner--style"
    for path in ("models--owner--style/blobs/a1", "models--other--style/blobs/b2", "models--owner--style/notes/c3"):
        write_lora(tmp_path / path, blocks=(0,), modules=("attn.to_q",))
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name, target in {"style": "blobs/a1", "other": "../models--other--style/blobs/b2", "far": "notes/c3"}.items():
        (snapshot / f"{name}.safetensors").symlink_to(f"../../{target}")
    found = find_loras([snapshot], BUILTIN)
    assert set(found.files) == {"style"}
    assert found.files["style"].real_path == repository / "blobs" / "a1"
    assert {name for name, facts in found.facts.items() if facts.problem} == {"other", "far"}


def test_pefts_configuration_lies_beside_the_link_into_the_cache(tmp_path, write_lora):
    repository = tmp_path / "models--owner--style"
    write_lora(repository / "blobs" / "a1", style="peft-model", blocks=(0,), modules=("attn.to_q",))
    (repository / "blobs" / "b2").write_text('{"lora_alpha": 8}')
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "adapter_model.safetensors").symlink_to("../../blobs/a1")
    assert "adapter_config.json" in (find_loras([snapshot], BUILTIN).facts["adapter_model"].problem or "")
    (snapshot / "adapter_config.json").symlink_to("../../blobs/b2")
    found = find_loras([snapshot], BUILTIN).files["adapter_model"]
    assert found.unchanged and found.neighbours == snapshot


def test_names_that_nobody_can_send_are_left_out(folder, write_lora):
    for name in (".hidden", "line\nbreak", "n" * 130):
        write_lora(folder / f"{name}.safetensors", blocks=(0,), modules=("attn.to_q",))
    found = find_loras([folder], BUILTIN)
    assert len(found.left_out) == 3 and len(found.files) == 4


def test_folders_that_are_not_there_are_empty(tmp_path):
    assert find_loras([tmp_path / "none"], BUILTIN).facts == {}


def test_a_file_is_known_again_until_it_changes(folder):
    file = LoraFile.at(folder / "style.safetensors")
    assert LoraFile(**asdict(file)) == file and file.unchanged
    os.utime(file.path, ns=(1, 1))
    assert not file.unchanged
    Path(file.path).unlink()
    assert not file.unchanged
