"""Every style of names in LoRA files leads to the same modules."""

from __future__ import annotations

import pytest

from qied.loras.contents import Key, parse_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("transformer_blocks.0.attn.to_q.lora_A.weight", Key(0, "attn.to_q", "down")),
        ("transformer.transformer_blocks.59.attn.to_out.0.lora_B.weight", Key(59, "attn.to_out.0", "up")),
        ("diffusion_model.transformer_blocks.1.img_mlp.net.0.proj.lora_A.weight", Key(1, "img_mlp.net.0.proj", "down")),
        ("base_model.model.transformer_blocks.2.txt_mlp.net.2.lora_B.default.weight", Key(2, "txt_mlp.net.2", "up")),
        ("base_model.model.transformer.transformer_blocks.2.img_mod.1.lora_A.weight", Key(2, "img_mod.1", "down")),
        ("transformer_blocks.3.attn.add_k_proj.lora_down.weight", Key(3, "attn.add_k_proj", "down")),
        ("diffusion_model.transformer_blocks.3.attn.to_add_out.lora_up.weight", Key(3, "attn.to_add_out", "up")),
        ("transformer_blocks.3.attn.to_add_out.alpha", Key(3, "attn.to_add_out", "alpha")),
        ("lora_unet_transformer_blocks_12_attn_to_out_0.lora_down.weight", Key(12, "attn.to_out.0", "down")),
        ("lora_unet_transformer_blocks_7_txt_mlp_net_0_proj.lora_up.weight", Key(7, "txt_mlp.net.0.proj", "up")),
        ("lora_unet_transformer_blocks_7_txt_mod_1.alpha", Key(7, "txt_mod.1", "alpha")),
    ],
)
def test_a_name_tells_block_module_and_part(name, key):
    assert parse_key(name) == key


@pytest.mark.parametrize(
    "name",
    [
        "img_in.lora_A.weight",
        "transformer_blocks.0.attn.norm_q.lora_A.weight",
        "transformer_blocks.0.attn.to_q.weight",
        "transformer_blocks.0.attn.to_q.lora_A.bias",
        "transformer_blocks.0.attn.to_q.lora_magnitude_vector",
        "transformer_blocks.0.attn.to_q.lokr_w1",
        "transformer_blocks.x.attn.to_q.lora_A.weight",
        "transformer_blocks.٣.attn.to_q.lora_A.weight",
        "double_blocks.0.img_attn.qkv.lora_A.weight",
        "lora_unet_single_blocks_0_linear1.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "text_encoder.transformer_blocks.0.attn.to_q.lora_A.weight",
    ],
)
def test_what_is_no_part_of_a_lora_that_runs_here_is_not_guessed(name):
    assert parse_key(name) is None
