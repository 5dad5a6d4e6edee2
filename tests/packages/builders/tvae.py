"""The networks and the loss of `ctgan.synthesizers.tvae`, put together as its `fit` does."""

import torch
from ctgan.data_transformer import SpanInfo
from ctgan.synthesizers.tvae import Decoder, Encoder, _loss_function
from torch import nn


class TVAE(nn.Module):
    """Encoder and decoder of a synthesizer, and its two losses."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(7, (16,), 5)
        self.decoder = Decoder(5, (16,), 7)
        self.output_info = [[SpanInfo(1, "tanh")], [SpanInfo(1, "tanh")], [SpanInfo(1, "tanh")], [SpanInfo(4, "softmax")]]

    def forward(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, std, logvar = self.encoder(real)
        eps = torch.randn_like(std)
        emb = eps * std + mu
        rec, sigmas = self.decoder(emb)
        return _loss_function(rec, real, sigmas, mu, logvar, self.output_info, 2)
