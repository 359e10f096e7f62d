"""What to do about nodes that qied does not have, by what their classes are called."""

from __future__ import annotations

import re
from typing import Final

_MAKE_PICTURE: Final = "Run it in ComfyUI, save its picture, and load that with LoadImage."
_BY_NAME: Final = (
    (r"qwenimage21", "It belongs to Qwen-Image-2.1, which qied does not serve; use a workflow of 2511."),
    (r"textencodeqwenimage", "Use TextEncodeQwenImageEditPlus, with the pictures as image1 to image3."),
    (r"^[0-9a-f]{8}-[0-9a-f]{4}-", "The file lacks the subgraph: export it in ComfyUI with Export (API)."),
    (r"^workflow[/>]", "Open the group node in ComfyUI (Convert to nodes), or export with Export (API)."),
    (
        r"controlnet|modelpatch|diffsynth|instantx",
        "qied has no ControlNets: connect the guide as a picture of the prompt.",
    ),
    (r"layered|latentcut", "qied makes no layers: say in the prompt what to keep, or cut it out with a mask."),
    (r"ultimatesd|upscalerefine|tiledupscale", "Upscale with UpscaleModelLoader and ImageUpscaleWithModel."),
    (r"inpaintcrop|inpaintstitch|crop_?and_?stitch", "Use qied's redraw, which cuts out and pastes by itself."),
    (
        r"imagestitch|imageconca|imagebatch|batchimages",
        "Connect the pictures as image1, image2 and image3 of the prompt.",
    ),
    (r"modelsampling", "Use ModelSamplingAuraFlow, which is the schedule of this model."),
    (r"image(blur|invert|sharpen|blend|colormatch)|colormatch|canny|depth|pose|preprocessor|lineart", _MAKE_PICTURE),
    (r"detailer|adetailer|segs", "Draw the region again with qied's redraw."),
    (r"latentupscale|latentcomposite|latentblend", "Save the first result, and upscale or redraw it."),
    (r"conditioning(combine|average|concat|setarea|setmask|settimestep)", "Write it as one prompt."),
    (r"camera|textgenerate|ollama|llm|florence|joycaption|caption|tagger|promptgen", "Write its text into the prompt."),
    (r"resize|scale|crop", "Use ImageScale, ImageScaleToTotalPixels or ImageCrop, or scale the picture first."),
    (r"cache|teacache|sage|torchcompile|blockswap|patchattention", "Bypass it: it only changes how fast ComfyUI is."),
    (r"sampl|guider|sigmas|scheduler", "Use KSampler with the sampler euler and the scheduler simple."),
    (r"mask|sam|rembg|birefnet|segment", "Save the mask as a picture, and load it with LoadImageMask."),
    (r"lora", "Use LoraLoaderModelOnly, one for each LoRA."),
    (r"load|loader", "Use UNETLoader, CLIPLoader and VAELoader: the daemon has its own files anyway."),
)
_OTHERWISE: Final = "Bypass it in ComfyUI (Ctrl-B) if the edit makes sense without it."
_COMPILED: Final = tuple((re.compile(pattern, re.IGNORECASE), remedy) for pattern, remedy in _BY_NAME)


def remedy_for(class_type: str) -> str:
    """What to use in place of a class that is not known here."""
    return next((remedy for pattern, remedy in _COMPILED if pattern.search(class_type)), _OTHERWISE)
