"""What `explain` says of VAE0xx: findings about the check itself, which come from the engine and not from a rule. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from vaelint.finding import Severity


@dataclass(frozen=True)
class Page:
    """The text of a finding that no rule file declares."""

    code: str
    name: str
    severity: Severity
    doc: str

    @property
    def summary(self) -> str:
        """The first line of the text."""
        return self.doc.splitlines()[0]


def _page(code: str, name: str, severity: Severity, summary: str, **sections: str) -> Page:
    titles = {
        "what": "What it does",
        "why": "Why is this bad",
        "example": "Example",
        "instead": "Use instead",
        "ignore": "When to ignore",
    }
    return Page(code, name, severity, "\n\n".join([summary, *(f"## {titles[k]}\n{text}" for k, text in sections.items())]) + "\n")


NEVER = "Never: nothing was checked. The exit code is 2."

PAGES = (
    _page(
        "VAE001",
        "cannot-import",
        Severity.ERROR,
        "The module of the model cannot be imported.",
        what="Imports the file or module that the target names, in a process of its own, and reports the line that failed.",
        why="Without the module there is no model, so nothing was checked.",
        example="    vaelint check model.py:VAE      # model.py has a syntax error",
        instead='Run it where the model\'s packages are installed; keep what only a script should do under\n`if __name__ == "__main__":`.',
        ignore=NEVER,
    ),
    _page(
        "VAE002",
        "cannot-construct",
        Severity.ERROR,
        "The model cannot be constructed.",
        what="Calls the class or factory with the arguments given, and those that signature and input leave no doubt about.",
        why="A missing or wrong argument leaves no model to check.",
        example="    vaelint check model.py:VAE --input 32x784      # __init__(self, encoder, decoder)",
        instead="    vaelint check model.py:VAE --input 32x784 --init latent_dim=20\n\n"
        "or name a function that returns the finished model: `model.py:make_vae`.",
        ignore=NEVER,
    ),
    _page(
        "VAE003",
        "cannot-bind-inputs",
        Severity.ERROR,
        "The inputs do not fit the arguments of forward.",
        what="Binds each `--input` to an argument of `forward`, by name, else by position.",
        why="A model that cannot be called cannot be checked.",
        example="    vaelint check model.py:TextVAE --input 16x20      # forward(self, tokens, lengths)",
        instead="    vaelint check model.py:TextVAE --input tokens=16x20:int64[0,1000) --input lengths=16:int64[1,20]\n\n"
        "or write the call out with `--step`.",
        ignore=NEVER,
    ),
    _page(
        "VAE004",
        "no-loss-found",
        Severity.INFO,
        "No loss was found.",
        what="Looks for the loss in what forward returns, in methods of the model and in functions of its file, and binds its arguments\n"
        "by what the values are. A loss named with `--loss` that cannot be found or called is an error of the same code.",
        why="The rules about reconstruction, KL and gradients need the loss; only the model's own rules ran.",
        example="    vaelint check model.py:VAE --input 32x784      # the loss is written in train.py",
        instead='    --loss train.py:loss_fn\n    --step "recon, mu, logvar = model(x); loss = loss_fn(recon, x, mu, logvar)"',
        ignore="When only the model itself is to be checked.",
    ),
    _page(
        "VAE005",
        "not-variational",
        Severity.INFO,
        "No sampling site was found: this is no variational model.",
        what="Follows each random draw to a value that is affine in it, `z = mu + scale * eps`; there is none. Dropout does not count.",
        why="It is not bad in itself: a plain autoencoder has no sampling and no KL. The rules about them did not apply.",
        example="    z = self.encoder(x)\n    return self.decoder(z)",
        instead="    mu, logvar = self.encoder(x).chunk(2, dim=1)\n    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)",
        ignore="When the model is meant to be deterministic, or samples by a method that the output names.",
    ),
    _page(
        "VAE006",
        "analysis-incomplete",
        Severity.ERROR,
        "The analysis stopped before it was done.",
        what="Reports that the process which ran the code hung, crashed, ended itself or was killed, or that vaelint itself failed.",
        why="What was not looked at must not be called clean.",
        example="    while True: ...      # at module level",
        instead="Raise `--timeout` for a model that is only slow; use a smaller batch if memory ran out; leave the real pass out with\n"
        "`--device none`; report it if the message says that the fault is vaelint's.",
        ignore=NEVER,
    ),
    _page(
        "VAE007",
        "code-raises",
        Severity.ERROR,
        "The model's code raised an exception.",
        what="Runs the model and its loss, and reports the line of yours that raised.",
        why="The same call in training raises as well.",
        example="    raise NotImplementedError",
        instead="Mend the line, or give other inputs or arguments if these are not what the model is made for.",
        ignore=NEVER,
    ),
)
