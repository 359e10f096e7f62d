"""LoRAs through the whole daemon: by name from configured folders, beside edits without any."""

from __future__ import annotations

import pytest
from qied_client.errors import InvalidRequest, ModelUnsupported, UnknownLora
from qied_client.picture_metadata import read_metadata

from qied.resources import builtin_model_folder

PICTURE = builtin_model_folder().parent / "demo.png"
SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def lora_daemon(tmp_path_factory, daemon_process, write_lora):
    folder = tmp_path_factory.mktemp("loras")
    write_lora(folder / "styles" / "bold (v2).safetensors", style="kohya", alpha=4.0, seed=1)
    write_lora(folder / "calm-Lightning-4steps.safetensors", style="lightning", seed=2, modules=("attn.to_v",))
    write_lora(folder / "nan.safetensors", change=lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    (folder / "broken.safetensors").write_bytes(b"not a LoRA at all")
    home = tmp_path_factory.mktemp("daemon") / "home"
    daemon = daemon_process(home, engine="qied.engine.serving:load", QIED_MODEL_LORAS=str(folder))
    yield daemon.start()
    daemon.stop()


def test_sessions_with_different_loras_and_none_share_the_worker(lora_daemon):
    with lora_daemon.client(patience=60.0) as client:
        choices = [[], ["styles/bold (v2)"], [("styles/bold (v2)", 0.5)], [("styles/bold (v2)", 0.0)]]
        jobs = [client.submit(PICTURE, "go", loras=loras, **SMALL) for loras in choices]
        plain, bold, half, nothing = (job.result().bytes for job in jobs)
        again = client.edit(PICTURE, "go", loras=["styles/bold (v2)"], **SMALL).bytes
    assert len({plain, bold, half}) == 3
    assert nothing == plain and again == bold


def test_a_broken_file_fails_its_own_job_and_disturbs_nobody(lora_daemon):
    with lora_daemon.client(patience=60.0) as client:
        before = client.edit(PICTURE, "go", **SMALL).bytes
        neighbour = client.submit(PICTURE, "go", **SMALL)
        bad = client.submit(PICTURE, "go", loras=["nan"], **SMALL)
        with pytest.raises(ModelUnsupported, match=r"nan\.safetensors cannot be used: .*lora_A\.weight holds values"):
            bad.result()
        assert neighbour.result().bytes == before
        with pytest.raises(ModelUnsupported, match=r"broken\.safetensors cannot be used: it is text, not weights"):
            client.submit(PICTURE, "go", loras=["broken"], **SMALL)
        with pytest.raises(UnknownLora, match="'bold'") as caught:
            client.submit(PICTURE, "go", loras=["bold"], **SMALL)
        assert "styles/bold (v2)" in caught.value.remedy and "broken" not in caught.value.remedy
        with pytest.raises(InvalidRequest, match="named twice"):
            client.submit(PICTURE, "go", loras=["nan", ("nan", 0.5)], **SMALL)
        assert client.edit(PICTURE, "go", **SMALL).bytes == before
    assert lora_daemon.runs and not any(line.get("event") == "worker ended" for line in lora_daemon.log)


def test_a_lightning_lora_brings_its_schedule_and_a_warning_where_the_steps_do_not_suit(lora_daemon):
    name = "calm-Lightning-4steps"
    with lora_daemon.client(patience=60.0) as client:
        result = client.submit(PICTURE, "go", job_id="lightning", loras=[name], **SMALL).result()
        fitting = client.submit(PICTURE, "go", job_id="fitting", loras=[name], **{**SMALL, "steps": 4}).result()
    warned = [
        line
        for line in lora_daemon.log
        if line.get("event") == "an edit's settings are probably not what the user intended"
    ]
    assert [(line["job"], line["why"]) for line in warned] == [
        ("lightning", f"{name} was made for 4 steps, but this edit has 2. Use 4 steps.")
    ]
    metadata = read_metadata(result.bytes)
    assert metadata is not None and metadata.warnings == (warned[0]["why"],)
    assert result.bytes != fitting.bytes
