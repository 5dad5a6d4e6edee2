import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
import lightning as L


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.mu, self.logvar = nn.Linear(32, latent), nn.Linear(32, latent)
        self.dec = nn.Sequential(nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, 64))

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.dec(z), mu, logvar


class LitVAE(L.LightningModule):
    def __init__(self, latent=8, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.vae = VAE(latent)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        logits, mu, logvar = self.vae(x)
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        loss = recon + kl
        self.log("train/recon", recon, prog_bar=True)
        self.log("train/kl", kl)
        return loss

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        logits, mu, logvar = self.vae(x)
        self.log("val/recon", F.binary_cross_entropy_with_logits(logits, x))

    def configure_optimizers(self):
        opt = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return {"optimizer": opt, "lr_scheduler": torch.optim.lr_scheduler.StepLR(opt, 10)}


def main():
    data = TensorDataset(torch.rand(203, 64), torch.zeros(203))
    trainer = L.Trainer(max_epochs=3)
    trainer.fit(LitVAE(), DataLoader(data, batch_size=32, shuffle=True, num_workers=2), DataLoader(data, batch_size=32))


if __name__ == "__main__":
    main()
