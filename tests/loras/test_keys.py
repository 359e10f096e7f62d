"""Every style of names in LoRA files leads to the same modules."""

from __future__ import annotations

import pytest

from qied.loras.keys import Key, foreign_method, is_change, is_of_norm, is_of_text_encoder, parse_key


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
        ("transformer_blocks_7_txt_mod_1.alpha", Key(7, "txt_mod.1", "alpha")),
        ("lycoris_transformer_blocks_7_attn_to_k.lokr_w2_b", Key(7, "attn.to_k", "lokr_w2_b")),
        ("diffusion_model.transformer_blocks.7.attn.to_k.lokr_w1", Key(7, "attn.to_k", "lokr_w1")),
        ("transformer_blocks.7.attn.to_k.hada_w1_a", Key(7, "attn.to_k", "hada_w1_a")),
        ("transformer_blocks.7.attn.to_k.diff", Key(7, "attn.to_k", "difference")),
        ("transformer_blocks.7.attn.to_k.diff_b", Key(7, "attn.to_k", "bias")),
        ("transformer.transformer_blocks.7.attn.to_k.lora.up.weight", Key(7, "attn.to_k", "up")),
        ("transformer_blocks.7.attn.to_k.lora_A.default_0.default.weight", Key(7, "attn.to_k", "down")),
        ("img_in.lora_A.weight", Key(None, "img_in", "down")),
        ("lora_unet_norm_out_linear.lora_up.weight", Key(None, "norm_out.linear", "up")),
    ],
)
def test_a_name_tells_block_module_and_part(name, key):
    assert parse_key(name) == key


@pytest.mark.parametrize(
    "name",
    [
        "my.own.img_in.lora_A.weight",
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
        "transformer_blocks.0.attn.norm_q.lora_A.weight",
        "transformer_blocks.0.attn.to_q.weight",
        "transformer_blocks.0.attn.to_q.lora_A.bias",
        "transformer_blocks.0.attn.to_q.lora_magnitude_vector",
        "transformer_blocks.0.attn.to_q.lokr_t2",
        "transformer_blocks.0.attn.to_q.lora_mid.weight",
        "t" * 600 + "transformer_blocks.0.attn.to_q.lora_A.weight",
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


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("transformer_blocks.0.attn.to_q.lora_magnitude_vector", "DoRA"),
        ("transformer_blocks.0.attn.to_q.lora_magnitude_vector.default.weight", "DoRA"),
        ("lora_unet_transformer_blocks_0_attn_to_q.dora_scale", "DoRA"),
        ("diffusion_model.transformer_blocks.0.attn.to_q.magnitude", "DoRA"),
        ("lycoris_transformer_blocks_0_attn_to_q.oft_blocks", "OFT"),
        ("lycoris_transformer_blocks_0_attn_to_q.lokr_t2", "Tucker decomposition"),
        ("transformer_blocks.0.attn.to_q.lora_A.weight", None),
    ],
)
def test_ways_to_train_that_are_not_run_have_their_names(name, method):
    assert foreign_method(name) == method
    assert is_change(name)


@pytest.mark.parametrize(
    "name",
    [
        "lora_te1_model_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
        "text_encoder.model.language_model.layers.3.mlp.up_proj.lora_A.weight",
        "bundle_emb.<my style>.qwen2_5_vl",
        "text_encoders.qwen25_7b.transformer.model.layers.0.self_attn.k_proj.lokr_w1",
        "base_model.model.visual.blocks.0.attn.qkv.lora_B.weight",
    ],
)
def test_what_changes_the_text_encoder_is_told_apart(name):
    assert is_of_text_encoder(name) and parse_key(name) is None


def test_differences_of_norms_are_told_apart():
    assert is_of_norm("diffusion_model.transformer_blocks.0.attn.norm_added_k.diff")
    assert is_of_norm("txt_norm.diff")
    assert not is_of_norm("transformer_blocks.0.attn.to_q.diff")
    assert not is_of_norm("transformer_blocks.0.attn.norm_q.lora_A.weight")
