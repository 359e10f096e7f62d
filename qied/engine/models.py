"""The models of one checkpoint, built from their own configurations and filled with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from qied_client.errors import ModelNotFound, ModelUnsupported, PrecisionUnavailable
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.names import is_streamed_text
from qied.checkpoints.pipeline_folder import REMEDY, pipeline_checkpoint, read_json
from qied.engine.disk.cache import NO_CACHES, DiskCaches
from qied.engine.sigmas import ScheduleConfig, schedule_config
from qied.engine.text.encoder import TextEncoder, TextPositions
from qied.engine.text.prompt import PromptTokens
from qied.engine.text.quantised import quantised_layers
from qied.engine.text.streaming import StreamedTextModel, stream_text_model
from qied.engine.transformer.second import load_second
from qied.engine.transformer.transformer import DTYPES, Transformer, load_transformer
from qied.engine.vae.single_frame import restrict_to_single_frames
from qied.engine.vae.vae import Vae
from qied.engine.weights.building import SkipRandomInit, blaming
from qied.engine.weights.sources import FileSource, TensorSource, WeightReader, check_names
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.progress import OnProgress


@dataclass(frozen=True)
class ComponentSources:
    """Everything that models are built from: configurations as the checkpoint has them, and sources of weights.

    ``tiny_autoencoder`` is the file that previews are decoded with, if any.
    """

    transformer_config: dict[str, Any]
    transformer: TensorSource
    text_config: Qwen2_5_VLConfig
    text_encoder: TensorSource
    vae_config: dict[str, Any]
    vae: TensorSource
    schedule: ScheduleConfig
    tokens: PromptTokens
    processor: Any
    tiny_autoencoder: Path | None = None


@dataclass(frozen=True)
class Models:
    """Everything that a checkpoint holds, ready to run on ``device``; nothing of it changes while edits run.

    ``streamed_text`` tells where the text encoder lies if it is not resident. ``second`` is the transformer in another
    precision, for passes that name it.
    """

    transformer: Transformer
    text_encoder: TextEncoder
    streamed_text: StreamedTextModel | None
    vae: Vae
    schedule: ScheduleConfig
    device: torch.device
    dtype: torch.dtype
    second: Transformer | None = None

    def transformer_in(self, precision: str) -> Transformer:
        """The transformer in a precision by its name; "" is the model's own."""
        if not precision or precision == self.transformer.shape.precision:
            return self.transformer
        if self.second is None or precision != self.second.shape.precision:
            raise PrecisionUnavailable(
                f"A pass is to be drawn in {precision}, and the daemon holds its model in "
                f"{self.transformer.shape.precision} alone.",
                "Send the edit again without that precision.",
                field="precision",
            )
        return self.second

    @property
    def device_bytes(self) -> int:
        """Bytes of weights that stay on the device, with the ring that the transformer's blocks pass through."""
        streamed = self.streamed_text
        text = _nbytes(self.text_encoder.model) if streamed is None else streamed.resident_bytes
        second = 0 if self.second is None else self.second.blocks.device_bytes
        return self.transformer.device_bytes + second + text + _nbytes(self.vae.model)

    @property
    def host_bytes(self) -> int:
        """Bytes in host memory besides those: streamed weights, mapped ones too, and modulation tables."""
        second = 0 if self.second is None else self.second.blocks.host_bytes
        return self.transformer.host_bytes + second + (self.streamed_text.host_bytes if self.streamed_text else 0)


def open_pipeline(folder: Path, profile: ModelProfile) -> ComponentSources:
    """Open a pipeline folder in diffusers' layout; see ``open_checkpoint``."""
    return open_checkpoint(pipeline_checkpoint(folder), profile)


def open_checkpoint(files: Checkpoint, profile: ModelProfile) -> ComponentSources:
    """Open the files of a model: configurations are read and checked, of weights only the headers.

    Raises ModelNotFound or ModelUnsupported, naming the file and what to do.
    """
    schedule = schedule_config(read_json(Path(files.scheduler_config)))
    transformer_config = _transformer_config(Path(files.transformer_config), profile)
    vae_config = read_json(Path(files.vae_config))
    text_settings = read_json(Path(files.text_encoder_config))
    tokens = _prompt_tokens(Path(files.tokenizer), profile)
    processor = _picture_processor(Path(files.processor_config)) if profile.geometry.takes_pictures else None
    transformer = FileSource("transformer", [Path(file) for file in files.transformer])
    text_encoder = FileSource("text_encoder", [Path(file) for file in files.text_encoder])
    vae = FileSource("vae", [Path(file) for file in files.vae])
    with blaming(files.text_encoder_config):
        text_config = Qwen2_5_VLConfig.from_dict(text_settings)
    tiny = Path(files.tiny_autoencoder) if files.tiny_autoencoder else None
    return ComponentSources(
        transformer_config, transformer, text_config, text_encoder, vae_config, vae, schedule, tokens, processor, tiny
    )


def build_models(
    sources: ComponentSources,
    execution: Execution,
    positions: TextPositions,
    on_progress: OnProgress,
    caches: DiskCaches = NO_CACHES,
) -> Models:
    """Load the weights of all components as ``execution`` says; ``caches`` keep what the next start need not make.

    Raises ModelUnsupported where they are not those of the model.
    """
    device = torch.device("cpu") if execution.device == "cpu" else torch.device("cuda", execution.device_index)
    dtype = DTYPES[execution.compute]
    second_bytes = 0 if execution.second is None else sources.transformer.nbytes
    total = sum(source.nbytes for source in (sources.text_encoder, sources.transformer, sources.vae)) + second_bytes
    reader = WeightReader(total, on_progress)
    text_model, streamed_text = _load_text_model(sources, execution, reader, device, dtype, caches)
    transformer = load_transformer(sources.transformer_config, sources.transformer, execution, device, reader, caches)
    second = None
    if execution.second is not None:
        second = load_second(transformer, sources.transformer, execution, device, reader)
    if caches.packed is not None:
        caches.packed.say_what_is_needed()
    vae = load_vae(sources, execution, reader, device, dtype)
    text_encoder = TextEncoder(text_model, sources.tokens, sources.processor, device, dtype, positions)
    return Models(transformer, text_encoder, streamed_text, vae, sources.schedule, device, dtype, second)


def _transformer_config(path: Path, profile: ModelProfile) -> dict[str, Any]:
    config = read_json(path)
    if config.get("zero_cond_t", False) is not profile.zero_cond_t:
        sets = "does not set" if profile.zero_cond_t else "sets"
        raise ModelUnsupported(
            f"{path} {sets} zero_cond_t, so it is not the configuration of {profile.title}.",
            "Serve it without model.profile; with a copy of that model, restore the original config.json.",
        )
    if config.get("guidance_embeds", False):
        raise ModelUnsupported(
            f"{path} sets guidance_embeds, which {profile.title} does not use.", "Use the original files."
        )
    if config.get("use_additional_t_cond", False) or config.get("use_layer3d_rope", False):
        raise ModelUnsupported(f"{path} is that of Qwen-Image-Layered, which is not run.", "Use another model.")
    layers = config.get("num_layers")
    if layers != profile.architecture.layers:
        raise ModelUnsupported(
            f"{path} has {layers} layers, but the profile {profile.name!r} has {profile.architecture.layers}.",
            "Name the profile that belongs to these files.",
        )
    return config


def _load_text_model(
    sources: ComponentSources,
    execution: Execution,
    reader: WeightReader,
    device: torch.device,
    dtype: torch.dtype,
    caches: DiskCaches,
) -> tuple[nn.Module, StreamedTextModel | None]:
    """Load the text encoder; one that is streamed is only mapped, as it is stored or was quantised before."""
    source, start, streamed = sources.text_encoder, reader.done, execution.text_encoder == "streamed"
    with blaming("text_encoder/config.json"), SkipRandomInit():
        model: nn.Module = Qwen2_5_VLModel(sources.text_config)
    if not streamed:
        reader.fill(model, source, source.names(), device, dtype)
        reader.finish(source, start)
        return model.eval().requires_grad_(False).to(device), None
    # Not pinned: it would take 15 GB from the machine for good, where a mapped file takes what nobody else needs.
    check_names(source, model.state_dict(), source.names())
    quantised = quantised_layers(source, execution.text_encoder_precision, device, reader, caches.packed)
    mapped = reader.map(model, source, source.names(), dtype, is_streamed_text, quantised)
    reader.finish(source, start)
    model.eval().requires_grad_(False)
    watch = source.check_unchanged if isinstance(source, FileSource) else (lambda: None)
    return model, stream_text_model(model, device, dtype, mapped, watch)


def load_vae(
    sources: ComponentSources, execution: Execution, reader: WeightReader, device: torch.device, dtype: torch.dtype
) -> Vae:
    """Load the VAE; on a CPU it runs in FP32, which is both faster there and closer than BF16."""
    source, start = sources.vae, reader.done
    precision = torch.float32 if device.type == "cpu" else dtype
    with blaming("vae/config.json"), SkipRandomInit():
        model: Any = AutoencoderKLQwenImage.from_config(sources.vae_config)
        mean, deviation = (_per_channel(model.config, name) for name in ("latents_mean", "latents_std"))
    reader.fill(model, source, source.names(), device, precision)
    reader.finish(source, start)
    restrict_to_single_frames(model)
    model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
    tiles = (execution.encode_tile_px, execution.decode_tile_px)
    return Vae(model, mean.to(device), deviation.to(device), device, precision, *tiles)


def _per_channel(config: Any, name: str) -> Tensor:
    """Return the numbers FP32 [latent channels] that the VAE's configuration has under ``name``."""
    values = torch.tensor(config[name], dtype=torch.float32)
    if values.shape != (config.z_dim,) or not values.isfinite().all() or (name == "latents_std" and values.min() <= 0):
        raise ModelUnsupported(f"vae/config.json: {name} should be {config.z_dim} numbers.", REMEDY)
    return values


def _prompt_tokens(path: Path, profile: ModelProfile) -> PromptTokens:
    if not (path / "tokenizer_config.json").is_file():
        raise ModelNotFound(f"{path / 'tokenizer_config.json'} is missing.", "Download the model again.")
    with blaming(path):
        tokens = PromptTokens(Qwen2Tokenizer.from_pretrained(path), profile.template)
    if tokens.template_tokens != profile.template_tokens:
        raise ModelUnsupported(
            f"{path}: the prompt template has {tokens.template_tokens} tokens, the profile "
            f"{profile.name!r} says {profile.template_tokens}.",
            "Use the tokenizer folder that came with the model.",
        )
    return tokens


def _picture_processor(path: Path) -> Any:
    """Read the picture processor's settings; its PIL version, since the other one needs torchvision."""
    settings = read_json(path)
    known = ("min_pixels", "max_pixels", "size", "patch_size", "temporal_patch_size", "merge_size", "resample")
    colours = ("image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize")
    with blaming(path):
        return Qwen2VLImageProcessorPil(**{key: settings[key] for key in (*known, *colours) if key in settings})


def _nbytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for group in (module.parameters(), module.buffers()) for tensor in group)
