"""Who calls `vaelint.check` reads Python's words, and who types a command reads those of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import vaelint
from vaelint.config.python_words import as_python
from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

DATA = Path(__file__).parents[1] / "data"
MODEL = f"{DATA / 'mlp_vae.py'}:VAE"


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("add --input x=32x...; vaelint discover", 'add input="x=32x..."; vaelint discover'),
        ("declare it: --input tokens=16x20:int64[0,1000)", 'declare it: input="tokens=16x20:int64[0,1000)"'),
        ("write --input 32x784, or --input foo@32", 'write input="32x784", or input="foo@32"'),
        ("--device none checks without it", 'device="none" checks without it'),
        ("say which with --step", "say which with step="),
        ('say which: --step "loss = model(x)"', 'say which: step="loss = model(x)"'),
        ("--loss loss_fn, --loss train.py:loss_fn", 'loss=loss_fn, loss="train.py:loss_fn"'),
        ("--init latent_dim=20 helps", 'init={"latent_dim": 20} helps'),
        ("tried with --perturb only", "tried with vaelint check --perturb only"),
        ("--ignore with the rule's code", "ignore= with the rule's code"),
        (
            "vaelint check VAE --input 32x784 --loss FILE.py:FUNCTION, or --allow-no-loss, or allow-no-loss = true in its table",
            'vaelint.check(VAE, input="32x784", loss="FILE.py:FUNCTION"), or allow_no_loss=True',
        ),
        ("no option at all: mu -- logvar", "no option at all: mu -- logvar"),
    ],
)
def test_options_are_arguments(typed: str, python: str) -> None:
    assert as_python(typed) == python


def test_no_word_of_the_command_line_is_in_a_report_of_python() -> None:
    told = vaelint.check(MODEL, input="32x784")
    assert 'no real pass (device="none")' in str(told) and "(render(verbose=True): why)" in str(told)
    assert "not applicable:" in told.render(verbose=True)
    assert " --" not in told.render(verbose=True).replace("vaelint check --perturb", "")
    assert check_target(Request(MODEL, ("32x784",), device="none"), lambda message: None).confirm["reason"] == "--device none"


def test_wrong_arguments_are_named_as_python_has_them() -> None:
    with pytest.raises(vaelint.UsageError) as caught:
        vaelint.check(MODEL, input="(32, 784)")
    assert (caught.value.message, caught.value.help) == ("input='(32, 784)' is not understood", 'write input="32x784"')
    assert caught.value.__notes__ == ['help: write input="32x784"']  # what a traceback shows below the message
    with pytest.raises(vaelint.UsageError) as caught:
        vaelint.check(MODEL, input="32x784", device="gpu")
    assert caught.value.help == 'write device="cuda"'
    assert 'add input="x=32x..."' in vaelint.check(MODEL).findings[0].help


def test_code_that_raises_is_answered_with_python_s_arguments(tmp_path: Path) -> None:
    text = "from torch import nn\n\n\nclass VAE(nn.Module):\n    def forward(self, x):\n        raise ValueError('no')\n"
    (tmp_path / "raises.py").write_text(text)
    assert "(input=, init=, step=)" in vaelint.check(f"{tmp_path / 'raises.py'}:VAE", input="4x3").findings[0].help
