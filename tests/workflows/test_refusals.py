"""Graphs that cannot be run here: which node it is, what is wrong with it, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from qied_client.errors import InvalidRequest
from qied_client.workflows import NodeProblem, Served, WorkflowRefused, examine, read_workflow, requests_of
from qied_client.workflows.remedies import remedy_for

from tests.workflows.canvases import BYPASSED, MUTED, Graph
from tests.workflows.official import LIGHTNING, api_edit, edit_workflow, node
from tests.workflows.test_requests import find

SERVED = Served("qwen-image-edit-2511", "Qwen-Image-Edit-2511", "fp8", ("style-one", "folder/few-4steps"), 3)


def problems(document: dict[str, Any], served: Served | None = None) -> tuple[NodeProblem, ...]:
    with pytest.raises(WorkflowRefused) as caught:
        requests_of(read_workflow(document), find, served)
    return caught.value.problems


def muted(kind: str, mode: int = MUTED) -> dict[str, Any]:
    """The official workflow with every node of a class within its subgraph muted."""
    document = edit_workflow()
    for each in document["definitions"]["subgraphs"][0]["nodes"]:
        if each["type"] == kind:
            each["mode"] = mode
    return document


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, str, str], str, str]] = {
    "ControlNet": (
        api_edit(
            n20=node("ControlNetApplyAdvanced", positive=["7", 0], negative=["8", 0], strength=1.0),
            n12={"positive": ["20", 0], "negative": ["20", 1]},
        ),
        ("20", "ControlNetApplyAdvanced", "unsupported_node"),
        "qied has nothing that does its work",
        "picture of the prompt",
    ),
    "another model's prompt": (
        api_edit(n7=node("TextEncodeQwenImage21", clip=["2", 0], prompt="x")),
        ("7", "TextEncodeQwenImage21", "unsupported_node"),
        "nothing that does its work",
        "use a workflow of 2511",
    ),
    "pictures put side by side": (
        api_edit(n5=node("ImageStitch", image1=["4", 0], direction="right")),
        ("5", "ImageStitch", "unsupported_node"),
        "nothing",
        "image1, image2 and image3",
    ),
    "a sampler": (
        api_edit(n12={"sampler_name": "dpmpp_2m"}),
        ("12", "KSampler", "invalid_input"),
        "dpmpp_2m",
        "--set 12.sampler_name=euler",
    ),
    "a schedule": (
        api_edit(n12={"scheduler": "karras"}),
        ("12", "KSampler", "invalid_input"),
        "karras",
        "--set 12.scheduler=simple",
    ),
    "guidance below 1": (api_edit(n12={"cfg": 0.5}), ("12", "KSampler", "invalid_input"), "cfg is 0.5", "Choose 1"),
    "half the steps": (
        api_edit(
            n12=node(
                "KSamplerAdvanced",
                **{"model": ["10", 0], "positive": ["7", 0], "negative": ["8", 0], "latent_image": ["6", 0]},
                **{"add_noise": "enable", "noise_seed": 9, "steps": 20, "cfg": 4.0, "sampler_name": "euler"},
                **{
                    "scheduler": "simple",
                    "start_at_step": 0,
                    "end_at_step": 10,
                    "return_with_leftover_noise": "enable",
                },
            )
        ),
        ("12", "KSamplerAdvanced", "invalid_input"),
        "stops before the last step",
        "one sampler",
    ),
    "a muted node that is needed": (
        muted("CLIPLoader"),
        ("170:151", "TextEncodeQwenImageEditPlus", "required_input_missing"),
        "node 170:162 (CLIPLoader) is muted",
        "Connect it",
    ),
    "a LoRA that the daemon does not have": (
        edit_workflow(turbo=True),
        ("170:153", "LoraLoaderModelOnly", "invalid_input"),
        "has no LoRA Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16",
        "--set 170:153.lora_name=",
    ),
    "a mask of a picture that has none": (
        api_edit(n20=node("SetLatentNoiseMask", samples=["6", 0], mask=["4", 1]), n12={"latent_image": ["20", 0]}),
        ("20", "SetLatentNoiseMask", "invalid_input"),
        "cat.png has no transparency",
        "MaskEditor",
    ),
    "an input that nothing is connected to": (
        api_edit(n12={"latent_image": None}),
        ("12", "KSampler", "required_input_missing"),
        "'latent_image' is missing",
        "Connect it",
    ),
    "links in a circle": (
        api_edit(n9={"model": ["10", 0]}),
        ("10", "CFGNorm", "invalid_input"),
        "go round in a circle",
        "Disconnect one",
    ),
    "nothing that saves": (
        api_edit(n14=None),
        ("13", "VAEDecode", "required_input_missing"),
        "saves no picture",
        "SaveImage",
    ),
    "a prompt without words": (
        api_edit(n7={"prompt": " "}),
        ("7", "TextEncodeQwenImageEditPlus", "invalid_input"),
        "prompt is empty",
        "--set 7.prompt=",
    ),
    "a text encoder of another kind": (
        api_edit(n2={"type": "flux"}),
        ("2", "CLIPLoader", "invalid_input"),
        "'flux'",
        "qwen_image",
    ),
    "a group node": (
        api_edit(n5=node("workflow/scale", image=["4", 0])),
        ("5", "workflow/scale", "unsupported_node"),
        "nothing",
        "Convert to nodes",
    ),
    "too many steps for a schedule": (
        api_edit(n12={"steps": 400}),
        ("12", "KSampler", "invalid_input"),
        "400 steps",
        "fewer",
    ),
    "an edit of another edit's result": (
        api_edit(
            n20=node("TextEncodeQwenImageEditPlus", clip=["2", 0], vae=["3", 0], image1=["13", 0], prompt="again"),
            n12={"positive": ["7", 0]},
            n21=node(
                "KSampler",
                **{"model": ["10", 0], "positive": ["20", 0], "negative": ["8", 0], "latent_image": ["6", 0]},
                **{"seed": 8, "steps": 5, "cfg": 4.0, "denoise": 1.0},
            ),
            n22=node("VAEDecode", samples=["21", 0], vae=["3", 0]),
            n14={"images": ["22", 0]},
        ),
        ("20", "TextEncodeQwenImageEditPlus", "invalid_input"),
        "must be a picture of a file, not a result",
        "Save that result",
    ),
    "a second pass with another prompt": (
        api_edit(
            n20=node(
                "KSampler",
                **{"model": ["10", 0], "positive": ["8", 0], "negative": ["8", 0], "latent_image": ["12", 0]},
                **{"seed": 8, "steps": 5, "cfg": 4.0, "denoise": 0.25},
            ),
            n13={"samples": ["20", 0]},
        ),
        ("20", "KSampler", "invalid_input"),
        "another prompt",
        "workflow of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_is_refused_by_node(name: str) -> None:
    document, expected, message, remedy = REFUSED[name]
    found = problems(document, SERVED)[0]
    assert (found.node_id, found.class_type, found.kind) == expected
    assert expected[0] in found.message or name == "nothing that saves"
    assert message in found.message
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("class_type", "remedy"),
    [
        ("TextEncodeQwenImageEditPlusAdvance_lrzjason", "Use TextEncodeQwenImageEditPlus"),
        ("ModelSamplingSD3", "ModelSamplingAuraFlow"),
        ("ClownsharKSampler_Beta", "Use KSampler"),
        ("SamplerLCM", "Use KSampler"),
        ("SAM_SmartInpainter", "LoadImageMask"),
        ("GrowMaskWithBlur", "LoadImageMask"),
        ("ImageConcanate", "image1, image2 and image3"),
        ("Canny", "save its picture"),
        ("DWPreprocessor", "save its picture"),
    ],
)
def test_the_remedy_is_about_what_the_class_does(class_type: str, remedy: str) -> None:
    assert remedy in remedy_for(class_type)


def test_all_problems_are_told_at_once_and_each_once() -> None:
    document = api_edit(
        n2={"type": "flux"}, n12={"sampler_name": "lms", "scheduler": "beta"}, n5=node("Nothing", image=["4", 0])
    )
    found = problems(document)
    assert [each.node_id for each in found] == ["2", "5", "12", "12"]
    with pytest.raises(WorkflowRefused) as caught:
        requests_of(read_workflow(document), find)
    assert caught.value.details == {"field": "workflow", "node": "2", "class_type": "CLIPLoader", "problems": 4}
    assert "And 1 more." in caught.value.message


def test_what_can_be_run_is_told_beside_what_cannot() -> None:
    document = api_edit(
        n20=node("ImageBlur", image=["13", 0]),
        n21=node("SaveImage", images=["20", 0], filename_prefix="blurred"),
        n22=node("PreviewImage", images=["20", 0]),
        n23=node("PreviewImage", images=["4", 0]),
        n24=node("PreviewImage", images=["13", 0]),
    )
    found = examine(read_workflow(document), find)
    assert [request.node_id for request in found.requests] == ["14"]
    assert [(each.node_id, each.class_type) for each in found.problems] == [("20", "ImageBlur")]
    assert [name for name, _ in found.passed_over] == ["22", "23", "24"]
    assert [each.node_id for each in requests_of(read_workflow(document), find, only=["14"])] == ["14"]


def test_a_preview_counts_where_nothing_is_saved() -> None:
    document = api_edit(n14=node("PreviewImage", images=["13", 0]))
    assert [each.class_type for each in requests_of(read_workflow(document), find)] == ["PreviewImage"]


def test_bypassing_what_passes_nothing_on_is_said() -> None:
    found = problems(muted("VAELoader", BYPASSED))
    assert found[0].kind == "required_input_missing"
    assert "node 170:146 (VAELoader) is bypassed and has no input of this type to pass on" in found[0].message


def test_a_picture_that_is_not_there_is_a_problem_of_its_node() -> None:
    def nowhere(name: str) -> bytes:
        raise InvalidRequest(f"{name} is not in here.", "Put it there.")

    with pytest.raises(WorkflowRefused) as caught:
        requests_of(read_workflow(api_edit()), nowhere)
    assert [(each.node_id, each.kind, each.remedy) for each in caught.value.problems] == [
        ("4", "picture_missing", "Put it there.")
    ]


def test_loras_go_by_their_stem_and_near_names_are_told() -> None:
    def loading(file: str) -> dict[str, Any]:
        return api_edit(
            n20=node("LoraLoaderModelOnly", model=["10", 0], lora_name=file, strength_model=1.0),
            n12={"model": ["20", 0]},
        )

    for file, name in (("Style_One.safetensors", "style-one"), ("qwen\\few-4steps.safetensors", "folder/few-4steps")):
        (request,) = requests_of(read_workflow(loading(file)), find, SERVED)
        assert request.loras == ((name, 1.0),)
    (problem,) = problems(loading("style_ones.safetensors"), SERVED)
    assert "There are: style-one." in problem.remedy
    (problem,) = problems(loading("x.safetensors"), Served("builtin", "Built-in", "fp32", (), 3))
    assert "It has none." in problem.remedy


def test_one_lora_twice_has_both_strengths() -> None:
    document = api_edit(
        n20=node("LoraLoaderModelOnly", model=["10", 0], lora_name="a.safetensors", strength_model=0.5),
        n21=node("LoraLoaderModelOnly", model=["20", 0], lora_name="a.safetensors", strength_model=0.25),
        n12={"model": ["21", 0]},
    )
    assert requests_of(read_workflow(document), find)[0].loras == (("a", 0.75),)


@pytest.mark.parametrize(
    ("file", "warned"),
    [
        ("qwen_image_edit_2511_fp8mixed.safetensors", False),
        ("Qwen-Image-Edit-2511-Q4_K_M.gguf", False),
        ("my_merge.safetensors", False),
        ("qwen_image_edit_2509_fp8_e4m3fn.safetensors", True),
        ("qwen_image_2512_bf16.safetensors", True),
    ],
)
def test_a_model_of_another_version_is_a_warning(file: str, warned: bool) -> None:
    (request,) = requests_of(read_workflow(api_edit(n1={"unet_name": file})), find, SERVED)
    assert bool(request.warnings) == warned


def test_more_pictures_than_the_model_takes_are_refused() -> None:
    served = Served("qwen-image-edit", "Qwen-Image-Edit", "fp8", ("few",), 1)
    (problem,) = problems(edit_workflow(), served)
    assert "2 pictures, and the daemon's model takes 1" in problem.message
    text = Served("qwen-image-2512", "Qwen-Image-2512", "fp8", (), 0)
    assert "from text alone" in problems(edit_workflow(), text)[0].message


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "this is not JSON"),
        ("[1]", "a list, not an object"),
        ("{}", "it has no nodes"),
        ('{"a": 1}', "not a node with a class_type"),
        ('{"nodes": [{"type": "x"}], "links": []}', "'id' is missing"),
        ('{"nodes": [{"id": 1, "type": "x", "inputs": [{"link": "y"}]}]}', "damaged"),
    ],
)
def test_what_is_no_workflow_is_said(document: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_workflow(document)


def test_a_subgraph_within_itself_is_refused() -> None:
    inner = Graph()
    inner.node(1, "loop")
    outer = Graph()
    outer.node(1, "loop")
    with pytest.raises(InvalidRequest, match="contains itself"):
        read_workflow(outer.document({"loop": inner}))


def test_links_of_a_canvas_in_a_circle_are_refused() -> None:
    g = Graph()
    for number in (1, 2):
        g.node(number, "Reroute", takes={"": "*"}, gives="*")
    g.node(3, "SaveImage", ["x"], takes={"images": "IMAGE"})
    g.link(1, 0, 2, "")
    g.link(2, 0, 1, "")
    g.link(1, 0, 3, "images")
    with pytest.raises(InvalidRequest, match="round in a circle"):
        read_workflow(g.document())


def test_a_very_long_chain_is_refused_and_not_a_crash() -> None:
    graph = api_edit()
    for number in range(100, 1100):
        graph[str(number)] = node("ModelSamplingAuraFlow", model=[str(number + 1), 0], shift=3.1)
    graph["1100"] = graph["1"]
    graph["12"]["inputs"]["model"] = ["100", 0]
    assert "one behind the other" in problems(graph)[0].message


def test_a_served_lightning_lora_is_taken_by_its_file() -> None:
    served = Served("m", "M", "fp8", (LIGHTNING.removesuffix(".safetensors"),), 3)
    (request,) = requests_of(read_workflow(edit_workflow(turbo=True)), find, served)
    assert [name for name, _ in request.loras] == list(served.loras)
