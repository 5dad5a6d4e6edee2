"""What the name of a constructor argument says it sizes. Whole families of spellings, never one model's. Imports no torch."""

from __future__ import annotations

import re
from enum import Enum

_SIZE = r"(?:dims?|dimensions?|size|sizes|features?|units|length|len|d)"
_COUNT = r"(?:n|nb|num|no|numberof|d|dim)"


class Means(Enum):
    """What an argument sizes."""

    LATENT = rf"{_COUNT}?(?:latents?|z|code|bottleneck)(?:space|variables?|vars?|code|features?|channels?)?{_SIZE}?"
    WORDS = rf"{_COUNT}?(?:vocab|vocabulary|tokens?|words?|dict|dictionary|characters?|chars){_SIZE}?"
    CLASSES = (
        rf"{_COUNT}?(?:class|classes|labels?|cond|condition|conditions|conditional|context|y|c|attr|attributes?){_SIZE}"
        rf"|{_COUNT}(?:class|classes|labels?|conds?|conditions?|attrs?|attributes)"
        r"|(?:class|label)num"
    )
    STEPS = (
        r"(?:max|maximum)?(?:seq|seqs|sequence|window|context|time|series|sentence)?(?:len|length)"
        rf"|(?:seq|sequence|window){_SIZE}"
        r"|(?:n|nb|num)?(?:time)?steps"
        r"|window"
    )
    CHANNELS = (
        r"(?:n|nb|num)?(?:in|input|inp|out|output|image|img|im|color|colour|data|x)?(?:channels?|ch|chan|nc)"
        r"|ch(?:in|out)"
        r"|c(?:in|out)"
        r"|nc"
        r"|cdim"
        r"|(?:in|out)c"
        r"|channel(?:s)?(?:in|out)"
    )
    HEIGHT = r"(?:img|image|input|im)?(?:height|h)"
    WIDTH = r"(?:img|image|input|im)?(?:width|w)"
    SIDE = (
        rf"(?:img|image|im|picture|frame|patchedimage){_SIZE}"
        r"|(?:img|image|input|im)?(?:res|resolution)"
        r"|(?:img|image|im)side"
    )
    SHAPE = r"(?:input|in|img|image|data|x|obs)shape"
    FEATURES = (
        rf"(?:input|in|inp|x|data|obs|observation)(?:feats?|vector)?{_SIZE}"
        rf"|{_COUNT}(?:inputs?|in|x|data|genes|feats?|features?|vars|variables)"
        rf"|(?:feat|feature){_SIZE}"
    )
    OUTPUTS = rf"(?:output|out)(?:feats?)?{_SIZE}|{_COUNT}(?:outputs?|out)"
    HIDDEN = (
        rf"{_COUNT}?(?:enc|dec|encoder|decoder|mlp|rnn|lstm|gru|cnn|base)?(?:hiddens?|hid)(?:layers?|units?|channels?|ch)?{_SIZE}?"
        rf"|(?:h|intermediate|embed|embedding|emb|encoder|decoder|enc|dec|base|mlp|rnn|lstm|gru|fc|cnn|model|wordembed|wordemb){_SIZE}"
        r"|(?:n|nb|num)(?:h|hid|filters?|kernels?)|(?:base|initial|first)(?:channels?|ch|filters?)"
        r"|n[gde]?f"
        r"|(?:base|hidden)width"
        r"|d(?:model|h)"
    )
    CODES = rf"{_COUNT}?(?:embeddings|embed|codes|codewords)|(?:codebook|dictionary){_SIZE}"
    LAYERS = r"(?:n|nb|num)(?:rnn|lstm|gru|hidden|encoder|decoder|enc|dec)?layers?"
    DROPOUT = r"(?:p|word|input)?(?:drop|dropout)(?:p|prob|rate|ratio)?"
    WEIGHT = r"beta|(?:kl|kld)(?:weight|w|coef|coeff|beta)|lambda(?:kl|kld)"
    BATCH = r"batch(?:size)?|bs"
    DEVICE = r"device"


def meanings(name: str) -> list[Means]:
    """Everything that `name` may mean, the most telling first. Underscores, case and numbers do not count."""
    key = re.sub(r"\d+", "", name.replace("_", "").lower()) or name
    return [means for means in Means if re.fullmatch(means.value, key)]
