"""From a machine to its workers: one for each card with a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from qied_client.errors import ConfigError, PlanRefused

from qied.checkpoints.file_bytes import copied_text_weights
from qied.checkpoints.llama.vision_tower import files_of_encoder
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.config import Config
from qied.edit import EditSpec
from qied.hardware.snapshot import Problem, Snapshot, read_snapshot
from qied.link.launch import LaunchOrder
from qied.loras.catalogue import Catalogue, LoraFile
from qied.planning.edits.loras import LoraFacts
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.serving import kind_of
from qied.planning.wishes import Wishes
from qied.resources import builtin_model_folder, builtin_upscalers_folder
from qied.serving.model import ServedModel
from qied.serving.plan import Served, plan_inputs, plan_service, refitted_order
from qied.upscalers.catalogue import find_upscalers
from tests.checkpoints.files import write_text_encoder, write_transformer
from tests.checkpoints.gguf_model import write_encoder_gguf
from tests.checkpoints.sparse_files import gguf_transformer
from tools.sparse_checkpoint import sparse_gguf

GOLDEN = Path(__file__).parents[1] / "planning" / "golden" / "snapshots"
FILES = pipeline_checkpoint(builtin_model_folder())
MODELS = {
    name: ServedModel(Path("/models"), profile, name, assembled=FILES) for name, profile in shipped_profiles().items()
}
REAL = "qwen-image-edit-2511"


def recorded(name: str) -> Snapshot:
    return read_snapshot((GOLDEN / f"{name}.json").read_bytes())


def served(
    machine: Snapshot,
    *,
    model: str | ServedModel = REAL,
    gpus: str = "all",
    storage: dict[str, int] | None = None,
    **wishes: object,
) -> Served:
    config = Config.model_validate({"model": {"gpus": gpus}, "storage": storage or {}})
    return plan_service(
        machine,
        MODELS[model] if isinstance(model, str) else model,
        config,
        Wishes(**wishes),
        shipped_hardware_profiles(),  # type: ignore[arg-type]
    )


def test_every_card_gets_a_worker_that_sees_that_card_alone():
    found = served(recorded("two-rtx-3090"))
    assert len(found.orders) == len(found.serving.plans) == 2
    cards = [order.environment({"PATH": "/bin"})["CUDA_VISIBLE_DEVICES"] for order in found.orders]
    assert sorted(cards) == [gpu.uuid for gpu in recorded("two-rtx-3090").gpus]
    assert all(order.environment({"PATH": "/bin"})["PATH"] == "/bin" for order in found.orders)


def test_the_best_card_comes_first_and_each_is_planned_for_itself():
    found = served(recorded("rtx-4090-and-3060"))
    assert [plan.gpu for plan in found.serving.plans] == ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"]
    assert [order.execution.precision for order in found.orders] == ["fp8", "fp8-storage"]
    assert len({order.kind for order in found.orders}) == 2


def test_references_are_capped_alike_on_all_cards():
    machine = recorded("rtx-4090-and-3060")
    small = machine.gpus[0].model_copy(update={"memory_free_bytes": 4_640_000_000})
    alone = served(machine, gpus="1").serving.max_reference_pixels
    found = served(machine.model_copy(update={"gpus": (small, machine.gpus[1])}))
    assert {plan.max_reference_pixels for plan in found.serving.plans} == {found.serving.max_reference_pixels}
    assert found.serving.max_reference_pixels < alone
    assert {order.execution.max_reference_pixels for order in found.orders} == {found.serving.max_reference_pixels}


def test_partitions_of_one_card_are_told_apart_by_their_uuid():
    machine = recorded("h100-80gb")
    slices = tuple(
        machine.gpus[0].model_copy(
            update={"uuid": f"MIG-{number}", "memory_total_bytes": 40 << 30, "memory_free_bytes": 39 << 30}
        )
        for number in (1, 2)
    )
    found = served(machine.model_copy(update={"gpus": slices}))
    assert [order.card["CUDA_VISIBLE_DEVICES"] for order in found.orders] == ["MIG-1", "MIG-2"]


def test_workers_are_left_out_that_the_host_cannot_hold_beside_the_others():
    machine = recorded("rtx-4060-8gb")
    cards = tuple(machine.gpus[0].model_copy(update={"index": n, "uuid": f"GPU-{n}"}) for n in range(4))
    host = machine.host.model_copy(update={"memory_available_bytes": 32 << 30, "memory_total_bytes": 64 << 30})
    found = served(machine.model_copy(update={"gpus": cards, "host": host}))
    assert len(found.orders) == 2
    assert sum(plan.host_bytes for plan in found.serving.plans) <= 31 << 30
    assert {refusal.code for refusal in found.left_out} == {"host_memory_too_small"}


def test_a_card_without_a_plan_is_left_out_with_the_reason():
    machine = recorded("rtx-4090-and-3060")
    old = machine.gpus[0].model_copy(update={"compute_capability": (6, 1)})
    found = served(machine.model_copy(update={"gpus": (old, machine.gpus[1])}))
    assert len(found.orders) == 1
    assert [refusal.code for refusal in found.left_out] == ["capability_too_old"]


def test_cards_can_be_chosen_and_one_that_is_not_there_is_named():
    found = served(recorded("two-rtx-3090"), gpus="1")
    assert [order.execution.device_index for order in found.orders] == [1]
    with pytest.raises(ConfigError, match="no card 4"):
        served(recorded("two-rtx-3090"), gpus="1,4")


def test_a_refusal_is_an_error_with_the_planners_code():
    with pytest.raises(PlanRefused) as caught:
        served(recorded("gtx-1080-8gb"))
    assert caught.value.details["reason"] == "capability_too_old"
    assert caught.value.remedy


def test_without_a_card_the_small_model_gets_a_worker_on_the_cpu():
    found = served(recorded("cpu-only"), model="builtin")
    (order,) = found.orders
    assert (order.execution.device, order.card) == ("cpu", {})


def test_an_order_carries_what_its_plan_says():
    found = served(recorded("rtx-4070-ti-12gb"))
    (order,), (plan,) = found.orders, found.serving.plans
    assert order.budget_bytes == plan.budget_bytes
    assert order.kind == kind_of(plan.execution)
    assert order.max_active == plan.sessions.limit
    left = plan.budget_bytes - order.fixed_bytes
    edits = sum(part.bytes for part in plan.parts if part.name in ("arena", "sessions"))
    assert edits <= left
    assert order.fixed_bytes + edits == plan.predicted_peak_bytes
    assert order.execution == plan.execution and order.execution.sweep_bytes > 0
    assert replace(order, worker="w") == type(order).from_line(replace(order, worker="w").to_line())


def refitted(order, machine: Snapshot):
    return refitted_order(order, machine, MODELS[REAL], Wishes(), shipped_hardware_profiles())


def test_a_worker_that_starts_again_is_fitted_to_what_is_free_then():
    machine = recorded("rtx-4070-ti-12gb")
    (order,) = served(machine).orders
    assert refitted(order, machine).execution.resident_blocks >= order.execution.resident_blocks
    taken = machine.gpus[0].model_copy(update={"memory_free_bytes": 8_000_000_000})
    fewer = refitted(order, machine.model_copy(update={"gpus": (taken,)}))
    assert 0 <= fewer.execution.resident_blocks < order.execution.resident_blocks
    assert (fewer.kind, fewer.max_active) == (order.kind, order.max_active)
    assert fewer.fixed_bytes + fewer.edits_bytes <= fewer.budget_bytes < 8_000_000_000
    full = machine.gpus[0].model_copy(update={"memory_free_bytes": 2_000_000_000})
    with pytest.raises(PlanRefused, match="other programs hold") as refused:
        refitted(order, machine.model_copy(update={"gpus": (full,)}))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("cards", "problem", "said"),
    [
        (0, None, "not there any more"),
        (0, "gpu_lost", "GPU 0 is lost"),
        (0, "driver_mismatch", "driver"),
        (1, "cuda_failed", "CUDA"),
    ],
)
def test_a_worker_that_cannot_start_again_says_why_and_what_to_do(cards, problem, said):
    machine = recorded("rtx-4070-ti-12gb")
    (order,) = served(machine).orders
    problems = () if problem is None else (Problem(code=problem, message=f"{said}: it does not answer."),)
    with pytest.raises(PlanRefused, match=said) as refused:
        refitted(order, machine.model_copy(update={"gpus": machine.gpus[:cards], "problems": problems}))
    assert refused.value.remedy


def test_a_worker_on_the_cpu_starts_again_as_it_was():
    (order,) = served(recorded("cpu-only"), model="builtin").orders
    assert refitted_order(order, recorded("cpu-only"), MODELS["builtin"], Wishes(), ()) == order


def test_workers_get_the_loras_with_room_for_the_largest_ones():
    files = {name: LoraFile(f"/loras/{name}.safetensors", 1, 2) for name in ("a", "b")}
    facts = {"a": LoraFacts(400_000_000, 64), "b": LoraFacts(100_000_000, 32), "bad": LoraFacts(problem="no")}
    model = replace(MODELS[REAL], loras=Catalogue(files, facts))
    config = Config.model_validate({"worker": {"loras_at_once": 1}})
    machine = recorded("rtx-4070-ti-12gb")
    found = plan_service(machine, model, config, Wishes(), shipped_hardware_profiles())
    (order,) = found.orders
    assert (order.loras, order.lora_bytes) == (files, 800_000_000)
    assert found.serving.loras == facts and found.serving.lora_room.parameters == 400_000_000
    assert LaunchOrder.from_line(order.to_line()) == order
    (plain,) = served(machine).orders
    assert (plain.loras, plain.lora_bytes) == ({}, 0)
    (made,) = found.serving.plans
    assert order.edits_bytes == sum(part.bytes for part in made.parts if part.name in ("arena", "sessions"))
    assert order.fixed_bytes + order.edits_bytes == made.predicted_peak_bytes
    refitted = refitted_order(order, machine, model, Wishes(), shipped_hardware_profiles())
    assert refitted.lora_bytes == 800_000_000


def test_what_is_kept_for_the_next_start_has_a_folder_and_a_limit_of_its_own():
    machine = recorded("rtx-4090-24gb")
    (order,) = served(machine, storage={"packed_bytes": 7, "modulation_bytes": 8, "free_reserve_bytes": 9}).orders
    assert [Path(order.packed_folder).name, Path(order.modulation_folder).name] == ["packed", "modulation"]
    assert Path(order.packed_folder).parent == Path(order.modulation_folder).parent
    assert (order.packed_bytes, order.modulation_bytes, order.free_reserve_bytes) == (7, 8, 9)
    assert LaunchOrder.from_line(order.to_line()) == order
    (without,) = served(machine, storage={"packed_bytes": 7, "modulation_bytes": 0}).orders
    assert without.packed_folder and not without.modulation_folder


@pytest.mark.parametrize("kind", ["Q4_K", "Q8_0"])
def test_a_gguf_models_blocks_stream_as_small_as_they_are_in_its_file(tmp_path: Path, kind: str) -> None:
    path = sparse_gguf(tmp_path / "model.gguf", gguf_transformer(kind), "qwen_image")
    model = replace(MODELS[REAL], assembled=replace(FILES, transformer=(str(path),)))
    machine = recorded("rtx-3060-12gb")
    plain, order = (served(machine, model=each).orders[0] for each in (REAL, model))
    assert plain.execution.stored_block_bytes == 0
    if kind == "Q4_K":
        assert 0 < order.execution.stored_block_bytes < 130e6
    else:
        assert order.execution == plain.execution


@pytest.mark.parametrize("flavour", ["bf16", "fp16", "fp8_scaled", "fp8_plain", "int8", "nvfp4", "mxfp8"])
def test_a_text_encoder_in_8_or_4_bits_is_left_as_its_files_have_it(tmp_path: Path, flavour: str) -> None:
    write_text_encoder(tmp_path / "encoder.safetensors", flavour)
    model = replace(MODELS[REAL], assembled=replace(FILES, text_encoder=(str(tmp_path / "encoder.safetensors"),)))
    (order,) = served(recorded("rtx-3060-12gb"), model=model).orders
    kept = "int8-storage" if flavour in ("bf16", "fp16") else "stored"
    assert order.execution.text_encoder_precision == kept


@pytest.mark.parametrize("tower", ["BF16", "F32"])
@pytest.mark.parametrize("wished", ["auto", "stored"])
def test_pieces_of_a_llama_cpp_text_encoder_are_counted_as_memory_of_the_host(
    tmp_path: Path, tower: str, wished: str
) -> None:
    files = files_of_encoder(write_encoder_gguf(tmp_path, "BF16", tower=tower)[0])
    model = replace(MODELS[REAL], assembled=replace(FILES, text_encoder=tuple(map(str, files))))
    wishes = Wishes(text_encoder_precision=wished)  # type: ignore[arg-type]
    _, request = plan_inputs(recorded("rtx-3060-12gb"), model, Config(), wishes, shipped_hardware_profiles())
    stored, quantised = (copied_text_weights(files, quantised=each) for each in (False, True))
    assert request.copied_text_weights == (stored if wished == "stored" else quantised)
    assert 0 < quantised < stored


def test_without_a_place_to_keep_it_the_text_encoder_is_used_as_it_is_stored() -> None:
    machine = recorded("rtx-3060-12gb")
    (order,) = served(machine, storage={"packed_bytes": 0}).orders
    assert order.execution.text_encoder_precision == "stored"
    (usual,) = served(machine).orders
    assert usual.execution.text_encoder_precision == "int8-storage"


def test_marks_the_rewriter_and_upscalers_reach_workers_and_the_front():
    config = Config.model_validate(
        {"output": {"aigc_producer": "maker"}, "rewriter": {"command": ["better"]}, "model": {"device": "cpu"}}
    )
    model = replace(MODELS["builtin"], upscalers=find_upscalers([builtin_upscalers_folder()]))
    found = plan_service(recorded("two-rtx-3090"), model, config, Wishes(device="cpu"), shipped_hardware_profiles())
    (order,) = found.orders
    assert LaunchOrder.from_line(order.to_line()) == order
    assert order.marking.aigc_producer == "maker" and order.rewriter.command == ("better",)
    assert list(order.upscalers) == ["builtin-2x"] == list(found.serving.upscalers)
    assert found.serving.rewrites
    spec = EditSpec(("a" * 64,), "go", None, 1, 4, 1.0, 256, 256)
    plain, enlarged = (
        found.serving.footprints(each) for each in (spec, replace(spec, upscale="builtin-2x", upscale_by=2))
    )
    alone = found.serving.footprints(replace(spec, upscale="builtin-2x", upscale_by=2, only_upscales=True))
    for kind, foot in plain.items():
        assert enlarged[kind] == foot, "it fits where decoding does"
        assert alone[kind].state == 0 and 0 < alone[kind].arena < foot.arena


def test_a_second_precision_is_in_the_order_and_among_what_is_always_there():
    machine = recorded("h100-80gb")
    (order,) = served(machine, precision="fp8-storage", second_precision="bf16").orders
    (plain,) = served(machine, precision="fp8-storage").orders
    assert order.execution.second is not None and plain.execution.second is None
    assert LaunchOrder.from_line(order.to_line()) == order and order.kind != plain.kind
    assert order.fixed_bytes > plain.fixed_bytes
    refitted = refitted_order(
        order, machine, MODELS[REAL], Wishes(second_precision="bf16"), shipped_hardware_profiles()
    )
    assert refitted.execution.second == order.execution.second


def test_a_second_precision_takes_no_card_its_place():
    machine = recorded("two-rtx-3090")
    wishes = {"precision": "fp8-storage", "second_precision": "bf16"}

    def with_host(gib: int) -> Served:
        host = machine.host.model_copy(update={"memory_available_bytes": gib << 30, "memory_total_bytes": 512 << 30})
        return served(machine.model_copy(update={"host": host}), **wishes)

    roomy, short = with_host(256), with_host(50)
    assert [len(found.orders) for found in (roomy, short)] == [2, 2]
    assert [found.serving.second_precision for found in (roomy, short)] == ["bf16", None]
    warned = [each for plan in short.serving.plans for each in plan.warnings if "model.second_precision" in each]
    assert len(warned) == 2 and "have no room for it together" in warned[0]


@pytest.mark.parametrize("flavour", ["bf16", "fp8_scaled", "fp8_plain"])
def test_only_files_in_16_bits_give_a_second_precision(tmp_path: Path, flavour: str) -> None:
    write_transformer(tmp_path / "model.safetensors", flavour)
    files = replace(FILES, transformer=(str(tmp_path / "model.safetensors"),))
    model = replace(MODELS["builtin"], assembled=files)
    found = served(recorded("cpu-only"), model=model, device="cpu", precision="fp8-storage", second_precision="bf16")
    (plan,) = found.serving.plans
    assert found.serving.second_precision == ("bf16" if flavour == "bf16" else None)
    told = [warning for warning in plan.warnings if "second_precision" in warning]
    assert [warning.endswith(f"the files of the model hold {flavour}.") for warning in told] == [True] * len(told)
    assert bool(told) == (flavour != "bf16")
