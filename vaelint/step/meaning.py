"""What the names of a loss function's parameters, and of a model's outputs, say they hold. Imports no torch."""

from __future__ import annotations

import re
from enum import Enum

_DATA = r"(?:x|imgs?|images?|data|inputs?|batch|seq|sequence|batchx|xs)"
_OF_Z = r"(?:z|q|qz|qzx|enc|encoder|posterior|post|latent)"


class Kind(Enum):
    """What is wanted or given."""

    RECON = (
        rf"{_DATA}?(?:recons?|recs?|reconstr?|reconstructions?|reconstructed|preds?|predicted|predictions?|decoded|generated|gen|outs?|outputs?"
        rf"|logits?|probs|fake)(?:{_DATA}|logits?|mean|loc|mu|probs|dist)?|{_DATA}(?:hats?|tilde|prime|bar|mu|mean|loc|r)(?:mean|loc|mu|logits?)?"
        rf"|(?:hat|mu|mean|loc){_DATA}|yhat|ypred|y|r|px|pxz|dec|decout|decoderoutput|scores?"
    )
    TARGET = (
        rf"(?:{_DATA}|y|targets?|originals?|orig|true|real|gt|groundtruth|truth|src|source|tgt|tokens|text|obs|observations?"
        rf"|signal|features|counts|labels?)(?:{_DATA}|true|origs?|originals?|targets?|real|gt|in|truth)?"
    )
    MU = rf"{_OF_Z}?(?:mus?|means?|locs?|m)(?:{_OF_Z}|vec|vector)?"
    SCALE = (
        rf"{_OF_Z}?(?:(?:log|ln)(?:var|vars|variance|variances|v|std|stds|sigma|sigmas|sigma2|sigmasq|sigmasquared"
        rf"|scale|sd|sig)|lv|lvar|stds?|sigmas?|sd|scales?|var|vars|variances?|sigma2|sigmasq|v|s)(?:{_OF_Z}|vec"
        r"|vector|sq|squared)?"
    )
    Z = r"(?:z|zs|zsamples?|latents?|latentsamples?|latentvectors?|latentcodes?|samples?|codes?|sampledz|zsampled|latentz|zk|z0)"
    POSTERIOR = (
        r"(?:q|qz|qzx|posteriors?|dist|dists|distribution|latentdist|latentdistribution|zdist|qdist|latentparams?"
        r"|params|stats|moments|zparams)"
    )
    WHOLE = r"(?:model|forward|vae|net|step)?(?:outs?|outputs?|results?|res|preds?|ret|predictions?)(?:dict|tuple|list)?"
    WEIGHT = (
        r"beta|alpha|gamma|lamb|lam|lambda(?:kl|kld|reg)?|(?:kl|kld|rec|recon|reg)?(?:weights?|coeffs?|w|factor)"
        r"|(?:kl|kld)(?:beta|lambda|scale)|mn|annealing?|anneal(?:ing)?(?:weight|factor|coef)|betakl|wkl"
    )
    COUNTER = r"(?:batch|global|current|train|n|optimizer|curr)?(?:idx|index|step|steps|epochs?|iters?|iterations?|nb|i)"
    TEMPERATURE = r"tau|temp|temperature|gumbeltau|gumbeltemp"
    BATCH_SIZE = r"batchsize|bs|nbatch|batchn"
    DEVICE = r"device"
    MODEL = r"model|vae|net|network|autoencoder|module|ae|vaemodel"
    BATCH = r"batch|data|sample|inputs?|examples?"


LITERALS = {Kind.WEIGHT: "1.0", Kind.COUNTER: "0", Kind.TEMPERATURE: "1.0"}
"""Values of vaelint's own for what only training code says."""


def kinds(name: str) -> list[Kind]:
    """Everything `name` may hold, underscores, case and a trailing number aside."""
    key = re.sub(r"(?<=[a-z])\d+$", "", name.replace("_", "").lower()) if not name.lower().endswith("sigma2") else "sigma2"
    return [kind for kind in Kind if re.fullmatch(kind.value, key)]


LOSS_NAME = re.compile(
    r"(?:^|_)(?:loss|losses|criterion|n?elbo|objective|cost|lossfn|lossfunction|vaeloss|free_energy)(?:$|_)|loss",
    re.IGNORECASE,
)
STEP_NAME = re.compile(r"_*(?:train(?:ing)?|shared|common|model|compute|forward)?_?(?:step|batch|step_loss)", re.IGNORECASE)
TOTAL_NAME = re.compile(
    r"(?:total|full|vae|final|overall|all|net|train|sum)?_*(?:loss|cost|objective)(?:_*(?:total|sum|all|value|vae))?"
    r"|n_?elbo|neg(?:ative)?_?elbo|elbo_?loss|total|loss_elbo",
    re.IGNORECASE,
)
ELBO_NAME = re.compile(r"(?:mean_?|avg_?)?(?:elbo|lower_?bound|iwae|vlb)(?:_?mean)?", re.IGNORECASE)
KL_NAME = re.compile(
    r"(?:^|_)(?:kl|kld|kls|klds|dkl|kl_?div\w*|regulari[sz]\w*|latent_loss|kl_\w+|\w+_kl|\w+_kld|kld_\w+|vq_\w*"
    r"|commit\w*)(?:$|_)|kl",
    re.IGNORECASE,
)
NOT_TRAINING = re.compile(
    r"^(?:val|valid|validation|test|eval|predict|configure|on|print|plot|save|load|set|sample|generate"
    r"|reset|update)_",
    re.IGNORECASE,
)


_BOUND = {"elbo", "iwae", "vlb", "bound"}
_TURNED = {"n", "neg", "negative", "minus", "loss", "cost", "objective"}


def is_bound_name(name: str) -> bool:
    """Whether a function of this name computes a bound that is maximised, by one of its words: `cvae_elbo_labelled`, not `neg_elbo`."""
    words = set(name.lower().split("_"))
    return ELBO_NAME.fullmatch(name) is not None or (bool(words & _BOUND) and not words & _TURNED)


def is_loss_name(name: str) -> bool:
    """Whether a function of this name computes a loss of training."""
    return bool(LOSS_NAME.search(name)) and not NOT_TRAINING.match(name)


def is_step_name(name: str) -> bool:
    """Whether a method of this name runs a training step."""
    return bool(STEP_NAME.fullmatch(name)) and not NOT_TRAINING.match(name)
