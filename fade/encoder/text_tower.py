"""The text tower: from sentences to tokens, and from tokens to embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.errors import ModelError, ParameterError
from fade.lean_import import open_clip_library
from fade.weights import digest_state

if TYPE_CHECKING:
    from torch import Tensor

TOGETHER = 16
"""Prompts that are encoded at a time."""


def tokenize(tokenizer: Any, prompts: Sequence[str], name: str) -> Tensor:
    """(len(prompts), context) tokens; tokenizers cut longer prompts, which is refused here.

    Prompts that differ only behind the cut would be one and the same to the model.

    Args:
        tokenizer: open_clip's of the model.
        prompts: sentences.
        name: of the model, for errors.

    Raises:
        ParameterError: a prompt is longer than the model reads.
    """
    tokens: Tensor = tokenizer(list(prompts))
    limit = tokens.shape[1]
    # one that fills the last place may have been cut: tokenize it again, with room
    padding = tokenizer([""])[0, -1]
    for number in (tokens[:, -1] != padding).nonzero().flatten().tolist():
        prompt = prompts[number]
        pair = tokenizer([prompt, ""], context_length=limit + 4 * len(prompt))
        length = int((pair[0] != pair[1]).nonzero().max()) + 1
        if length > limit:
            shown = prompt if len(prompt) <= 100 else f"{prompt[:60]} ... {prompt[-35:]}"
            raise ParameterError(
                f"the prompt {shown!r} has {length} tokens, {name} reads {limit} at most: "
                "shorten it where it stands (text.template, a prompt file, or the category's name)"
            )
    return tokens


def embed_tokens(
    model: Any, tokens: Tensor, device: Any, advance: Callable[[int], object] | None = None
) -> np.ndarray:
    """L2-normalised embeddings (B, dim) float32 of (B, context) tokens, B at least 1.

    In batches of one length that are always as large, the last of a length filled up: products of
    another shape add in another order, and a prompt has the same bits whatever stands beside it.

    Args:
        model: open_clip's.
        tokens: of :func:`tokenize`.
        device: the model's.
        advance: is told of each batch how many prompts it has.
    """
    import torch

    ends = tokens.argmax(dim=1)
    batches = [
        batch
        for end in ends.unique()
        for batch in (ends == end).nonzero().flatten().split(TOGETHER)
    ]
    found = []
    with torch.inference_mode():
        for batch in batches:
            full = batch[torch.arange(TOGETHER).clamp(max=len(batch) - 1)]
            encoded = encode_tokens(model, tokens[full].to(device))[: len(batch)]
            found.append(torch.nn.functional.normalize(encoded, dim=-1).cpu())
            if advance:
                advance(len(batch))
    order = torch.cat(batches).argsort()
    return torch.cat(found)[order].numpy()


def encode_tokens(model: Any, tokens: Tensor) -> Tensor:
    """Embeddings (B, dim) float32 of (B, context) tokens; padding behind the last prompt costs nothing.

    A causal tower that reads its embedding off the end token never looks at what comes after.
    Others go through open_clip as they are.

    Raises:
        ModelError: the tower has no embedding for a token.
    """
    open_clip = open_clip_library()
    import torch
    from torch import nn

    if (
        type(model) is not open_clip.CLIP
        or model.text_pool_type != "argmax"
        or model.attn_mask is None
        or bool(model.attn_mask.isfinite().triu(1).any())
    ):
        return model.encode_text(tokens).float()
    known, highest = model.token_embedding.num_embeddings, int(tokens.max())
    if highest >= known:
        raise ModelError(
            f"model.name: its text tower knows {known:,} tokens, and its tokenizer gives number "
            f"{highest:,}: correct vocab_size, or name its own tokenizer (text_cfg.hf_tokenizer_name)"
        )
    ends = tokens.argmax(dim=1)
    length = int(ends.max()) + 1
    stream = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    stream = model.transformer(stream, attn_mask=model.attn_mask[:length, :length])
    pooled = model.ln_final(stream[torch.arange(len(stream), device=ends.device), ends])
    projection = model.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def text_digest(model: Any, tokenizer: Any, state: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of a text tower: its weights, and what is computed with them.

    Args:
        model: open_clip's.
        tokenizer: of the model.
        state: all weights outside the vision tower, by name.
    """
    tower = getattr(model, "text", model)
    layers = [
        f"{name} {type(module).__name__} {module.extra_repr()} {getattr(module, 'num_heads', '')}"
        for name, module in model.named_modules()
        if name.partition(".")[0] != "visual"
    ]
    way = [
        *layers, type(tokenizer).__name__, tower.context_length,
        getattr(tower, "text_pool_type", getattr(tower, "pool_type", None)),
    ]  # fmt: skip
    text = f"{digest_state(state)}{way}"
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
