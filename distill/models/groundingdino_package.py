"""groundingdino-py 0.4.0 under transformers 5, and the port's names for its weights.

The package was written for the `BertModel` of transformers 4. It calls methods that transformers 5
no longer has, and downloads weights that its own checkpoint replaces. While a model is built,
`_own_text_encoder` puts two names of one module of it aside and gives them back. The package
computes deformable attention in plain torch; it has no extension to compile.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertModel, GroundingDinoConfig, SwinConfig

from distill.models.weights import Stored, to_transformers

UNUSED = (  # in official files: what only training uses, and buffers that are computed anew
    r"^label_enc\.|^bert\.pooler\.|^bert\.embeddings\.position_ids$|\.relative_position_index$"
)
_building = threading.Lock()


def build_package(config: GroundingDinoConfig, tokenizer: Any) -> nn.Module:
    """The package's model, its weights random, of the architecture that `config` describes.

    Raises:
        ImportError: groundingdino-py is not installed.
    """
    try:
        from groundingdino.models.GroundingDINO import groundingdino
        from groundingdino.models.GroundingDINO.backbone import backbone, swin_transformer
    except ImportError as error:
        raise ImportError(
            "an official Grounding DINO needs groundingdino-py: pip install 'distill[semantic]'; "
            "or give a model of transformers, such as IDEA-Research/grounding-dino-tiny"
        ) from error
    text: Any = config.text_config
    bert = BertModel(text)
    arguments, swin = _arguments(config), _swin_arguments(config)
    with torch.device("cpu"):  # it reads numbers out of tensors, which "meta" has none of
        trunk = swin_transformer.SwinTransformer(**swin)
    joined: Any = backbone.Joiner(trunk, backbone.build_position_encoding(arguments))
    joined.num_channels = trunk.num_features[swin["out_indices"][0] :]
    with _own_text_encoder(groundingdino, bert, tokenizer):
        model: nn.Module = groundingdino.GroundingDINO(
            joined,
            groundingdino.build_transformer(arguments),
            num_queries=config.num_queries,
            aux_loss=True,
            iter_update=True,
            query_dim=4,
            num_feature_levels=config.num_feature_levels,
            nheads=config.encoder_attention_heads,
            dec_pred_bbox_embed_share=config.decoder_bbox_embed_share,
            two_stage_type="standard",
            two_stage_bbox_embed_share=False,
            two_stage_class_embed_share=False,
            dn_number=0,
        )
    return model.eval()


def swin_t(text_config: Any) -> GroundingDinoConfig:
    """Of `groundingdino_swint_ogc.pth`."""
    return GroundingDinoConfig(text_config=text_config)


def swin_b(text_config: Any) -> GroundingDinoConfig:
    """Of `groundingdino_swinb_cogcoor.pth`."""
    trunk = SwinConfig(
        image_size=384,
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        out_indices=[2, 3, 4],  # pyright: ignore[reportCallIssue]
    )
    return GroundingDinoConfig(text_config=text_config, backbone_config=trunk)


def to_port(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """A state of the package in the port's names; what the port does not use is left out."""
    used = {name: tensor for name, tensor in state.items() if not re.search(UNUSED, name)}
    wanted = {name: Stored(tuple(value.shape), port_names(name)) for name, value in used.items()}
    return to_transformers(used, wanted, source)


def port_names(official: str) -> tuple[str, ...]:
    """The port's tensors that are the rows of an official one, in order."""
    name = official
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    parts = re.search(r"<(.+?)>", name)
    if parts is None:
        return (name,)
    return tuple(name.replace(parts[0], part) for part in parts[1].split("|"))


def _stage(match: re.Match[str]) -> str:
    return f"{_TRUNK}.hidden_states_norms.stage{int(match[1]) + 1}."


class _TextEncoder(nn.Module):
    """BERT behind the interface that the package expects; its tensors keep their names."""

    def __init__(self, bert_model: BertModel) -> None:
        super().__init__()
        self.config = bert_model.config
        self.embeddings, self.encoder = bert_model.embeddings, bert_model.encoder
        self.pooler = bert_model.pooler
        self._whole = (bert_model,)  # in a tuple: its tensors are there already

    def forward(
        self, *, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, **places: Tensor
    ) -> Any:
        """The mask says for each token which tokens it sees; heads share it."""
        return self._whole[0](
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            attention_mask=attention_mask[:, None],
            position_ids=places["position_ids"],
        )


@contextlib.contextmanager
def _own_text_encoder(module: Any, bert: BertModel, tokenizer: Any) -> Iterator[None]:
    """Let the package build its model with `bert` and `tokenizer`."""
    own = {
        "BertModelWarper": _TextEncoder,
        "get_tokenlizer": SimpleNamespace(
            get_tokenlizer=lambda _: tokenizer, get_pretrained_language_model=lambda _: bert
        ),
    }
    with _building:
        theirs = {name: getattr(module, name) for name in own}
        try:
            for name, value in own.items():
                setattr(module, name, value)
            yield
        finally:
            for name, value in theirs.items():
                setattr(module, name, value)


def _swin_arguments(config: GroundingDinoConfig) -> dict[str, Any]:
    trunk: Any = config.backbone_config
    return {
        "embed_dim": trunk.embed_dim,
        "depths": list(trunk.depths),
        "num_heads": list(trunk.num_heads),
        "window_size": trunk.window_size,
        "out_indices": tuple(index - 1 for index in trunk.out_indices),  # 0 is the first stage
    }


def _arguments(config: GroundingDinoConfig) -> SimpleNamespace:
    """What the package's builders read; checkpointing is for training."""
    return SimpleNamespace(
        hidden_dim=config.d_model,
        position_embedding="sine",
        pe_temperatureH=config.positional_embedding_temperature,
        pe_temperatureW=config.positional_embedding_temperature,
        dropout=0.0,
        nheads=config.encoder_attention_heads,
        num_queries=config.num_queries,
        dim_feedforward=config.encoder_ffn_dim,
        enc_layers=config.encoder_layers,
        dec_layers=config.decoder_layers,
        pre_norm=False,
        query_dim=4,
        transformer_activation=config.activation_function,
        num_patterns=0,
        num_feature_levels=config.num_feature_levels,
        enc_n_points=config.encoder_n_points,
        dec_n_points=config.decoder_n_points,
        two_stage_type="standard",
        embed_init_tgt=True,
        use_text_enhancer=True,
        use_fusion_layer=True,
        use_checkpoint=False,
        use_transformer_ckpt=False,
        use_text_cross_attention=True,
        text_dropout=0.0,
        fusion_dropout=0.0,
        fusion_droppath=0.0,
    )


_TRUNK = "model.backbone.conv_encoder.model"
_RENAMED: tuple[tuple[str, Any], ...] = (
    (r"^bert\.", "model.text_backbone."),
    (r"^feat_map\.", "model.text_projection."),
    (r"^input_proj\.", "model.input_proj_vision."),
    (r"^backbone\.0\.norm(\d)\.", _stage),
    (
        r"^backbone\.0\.patch_embed\.proj\.",
        f"{_TRUNK}.swin.embeddings.patch_embeddings.projection.",
    ),
    (r"^backbone\.0\.patch_embed\.norm\.", f"{_TRUNK}.swin.embeddings.norm."),
    (r"^backbone\.0\.layers\.", f"{_TRUNK}.swin.encoder.layers."),
    (r"\.attn\.qkv\.", r".attention.<q_proj|k_proj|v_proj>."),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.o_proj."),
    (r"\.attn\.(relative_position_bias_table)", r".attention.relative_position_bias.\1"),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"^transformer\.level_embed$", "model.level_embed"),
    (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
    (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
    (r"^transformer\.enc_output", "model.enc_output"),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
    (r"^transformer\.decoder\.", "model.decoder."),
    (r"(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"(decoder\.layers\.\d+)\.ca_text\.", r"\1.encoder_attn_text."),
    (r"(decoder\.layers\.\d+)\.norm1\.", r"\1.encoder_attn_layer_norm."),
    (r"(decoder\.layers\.\d+)\.catext_norm\.", r"\1.encoder_attn_text_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm3\.", r"\1.final_layer_norm."),
    (r"^transformer\.encoder\.layers\.(\d+)\.", r"model.encoder.layers.\1.deformable_layer."),
    (r"(deformable_layer)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"(deformable_layer)\.norm2\.", r"\1.final_layer_norm."),
    (
        r"^transformer\.encoder\.text_layers\.(\d+)\.",
        r"model.encoder.layers.\1.text_enhancer_layer.",
    ),
    (r"(text_enhancer_layer)\.norm1\.", r"\1.layer_norm_before."),
    (r"(text_enhancer_layer)\.norm2\.", r"\1.layer_norm_after."),
    (r"^transformer\.encoder\.fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer."),
    (r"(fusion_layer)\.layer_norm_v\.", r"\1.layer_norm_vision."),
    (r"(fusion_layer)\.layer_norm_l\.", r"\1.layer_norm_text."),
    (r"(fusion_layer)\.gamma_v$", r"\1.vision_param"),
    (r"(fusion_layer)\.gamma_l$", r"\1.text_param"),
    (r"(fusion_layer\.attn)\.(values_|out_|)v_proj", r"\1.\2vision_proj"),
    (r"(fusion_layer\.attn)\.(values_|out_|)l_proj", r"\1.\2text_proj"),
    (r"(?<!mlp)\.linear1\.", ".fc1."),
    (r"\.linear2\.", ".fc2."),
    (r"\.in_proj_(weight|bias)$", r".<query|key|value>.\1"),
)
