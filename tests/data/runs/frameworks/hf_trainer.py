"""A VAE in the Hugging Face Trainer."""

import torch
from torch.utils.data import Dataset
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.utils import ModelOutput
from dataclasses import dataclass


class VAEConfig(PretrainedConfig):
    model_type = "tinyvae"

    def __init__(self, bits=64, latent=8, beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self.bits, self.latent, self.beta = bits, latent, beta


@dataclass
class VAEOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class VAEModel(PreTrainedModel):
    config_class = VAEConfig

    def __init__(self, config):
        super().__init__(config)
        self.enc = nn.Sequential(nn.Linear(config.bits, 32), nn.ReLU())
        self.mu, self.logvar = nn.Linear(32, config.latent), nn.Linear(32, config.latent)
        self.dec = nn.Sequential(nn.Linear(config.latent, 32), nn.ReLU(), nn.Linear(32, config.bits))
        self.post_init()

    def forward(self, pixels, labels=None):
        h = self.enc(pixels)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        logits = self.dec(z)
        recon = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / pixels.size(0)
        kl = -0.5 * torch.mean(torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1))
        return VAEOutput(loss=recon + self.config.beta * kl, logits=logits)


class Pixels(Dataset):
    def __len__(self):
        return 203

    def __getitem__(self, index):
        return {"pixels": torch.rand(64)}


def main():
    data = Pixels()
    args = TrainingArguments(
        "out", per_device_train_batch_size=16, num_train_epochs=2, report_to="none", max_grad_norm=1.0, logging_steps=5
    )
    trainer = Trainer(VAEModel(VAEConfig()), args, train_dataset=data)
    trainer.train()
    trainer.save_model("out/final")


if __name__ == "__main__":
    main()
