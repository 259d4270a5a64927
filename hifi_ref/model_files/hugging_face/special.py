"""What the table of families asks of a model, and what is done to the tensors of one family alone."""

from __future__ import annotations

from hifi_ref.model_files.hugging_face.model import Model
from hifi_ref.model_files.hugging_face.steps import Maker
from hifi_ref.model_files.hugging_face.tensors import Tensor, viewed


def queries(model: Model) -> int:
    return model.heads


def keys(model: Model) -> int:
    return model.key_heads


def is_classifier(model: Model, layer: int) -> bool:
    """Whether config.json names classes, other than the two that transformers makes up."""
    names = model.config.get("id2label")
    return bool(names) and not (isinstance(names, dict) and len(names) == 2 and names.get("0") == "LABEL_0")


def is_packed(model: Model) -> bool:
    """Whether the experts are MXFP4."""
    settings = model.config.get("quantization_config")
    return isinstance(settings, dict) and settings.get("quant_method") == "mxfp4"


def has_experts(model: Model, layer: int) -> bool:
    """Whether a layer of jamba has several experts."""
    period, offset = model.number("expert_layer_period"), model.find("expert_layer_offset") or 0
    return layer >= offset and (layer - offset) % period == 0


def after_the_padding(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """roberta: positions count from behind the padding token's."""
    offset = model.find("pad_token_id")
    return [tensor if offset is None else viewed(tensor, lambda x: x[1 + offset :])]


def matrices_of(rows: str, turn: bool = False) -> Maker:
    """dbrx and nomic: matrices of all experts below each other, ``rows`` in config.json of each, as one tensor."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        settings = model.config.get("ffn_config")
        n = settings.get(rows) if isinstance(settings, dict) else None
        n = n if isinstance(n, int) else model.number(rows)
        shaped = (tensor.shape[0] // n, n, tensor.shape[1])
        return [viewed(tensor, lambda x: x.reshape(shaped).swapaxes(1, 2) if turn else x.reshape(shaped))]

    return make


def one_head(tensor: Tensor, model: Model) -> int:
    """refact: the rows of its one key head."""
    return model.number("n_embd") // model.heads


def the_rest(tensor: Tensor, model: Model) -> int:
    return tensor.shape[0] - one_head(tensor, model)


def shuffled_queries(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """plamo: heads of 128 rows, five for each of eight key heads, in the other order."""
    return [viewed(tensor, lambda x: x.reshape(8, 5, 128, 5120).swapaxes(0, 1), tensor.shape)]


def shuffled_columns(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """plamo's output projection, whose columns are heads: in the order of `shuffled_queries`."""
    return [viewed(tensor, lambda x: x.reshape(5120, 8, 5, 128).swapaxes(1, 2), tensor.shape)]
