"""Constructor arguments: given, inferred, or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from usermodels import Load, failure

from vaelint.core.inputs import InputSet
from vaelint.core.result import Request
from vaelint.pipeline.check import check_target
from vaelint.source.target import parse_init

MLP = """
    import torch
    from torch import nn

    class VAE(nn.Module):
        def __init__(self, {signature}):
            super().__init__()
            {body}
"""


def init_of(load: Load, signature: str, inputs: list[str], body: str = "pass", given: tuple[str, ...] = ()) -> dict[str, object]:
    loaded = load(model=MLP.format(signature=signature, body=body.replace("\n", "\n" + " " * 12)))
    return loaded.resolve_init(InputSet.from_texts(inputs), parse_init(given))


@pytest.mark.parametrize(
    ("signature", "inputs", "expected"),
    [
        ("input_dim", ["32x784"], {"input_dim": 784}),
        ("x_dim, h_dim, z_dim", ["32x784"], {"x_dim": 784, "h_dim": 128, "z_dim": 20}),
        ("in_channels, latent_dim", ["8x3x64x64"], {"in_channels": 3, "latent_dim": 20}),
        ("img_size, nc=3", ["8x3x64x64"], {"img_size": 64}),
        ("image_size: tuple[int, int]", ["8x3x32x64"], {"image_size": (32, 64)}),
        ("input_shape", ["8x3x32x64"], {"input_shape": (3, 32, 64)}),
        ("seq_len, latent_size", ["8x20x3"], {"seq_len": 20, "latent_size": 20}),
        ("vocab_size, embed_dim", ["16x20:int64[0,1000)"], {"vocab_size": 1000, "embed_dim": 128}),
        ("input_dim, num_classes", ["x=8x784", "y=8:int64[0,10)"], {"input_dim": 784, "num_classes": 10}),
        ("input_dim, cond_dim", ["x=8x784", "y=8x12"], {"input_dim": 784, "cond_dim": 12}),
        ("batch_size, device", ["8x784"], {"batch_size": 8, "device": "cpu"}),
        ("hidden_dims: list[int]", ["8x784"], {"hidden_dims": [128, 64]}),
        ("input_dim, *args, **kwargs", ["8x784"], {"input_dim": 784}),
    ],
)
def test_arguments_are_inferred(load: Load, signature: str, inputs: list[str], expected: dict[str, object]) -> None:
    assert init_of(load, signature, inputs) == expected


@pytest.mark.parametrize(
    ("layer", "inputs", "expected"),
    [
        ("nn.Linear(input_dim, 4)", ["8x1x28x28"], 784),
        ("nn.Conv2d(input_dim, 4, 3)", ["8x3x28x28"], 3),
        ("nn.LSTM(input_dim, 4)", ["8x20x5"], 5),
        ("nn.Linear(input_dim, 4)", ["8x784"], 784),
    ],
)
def test_layers_tell_what_a_size_means(load: Load, layer: str, inputs: list[str], expected: int) -> None:
    assert init_of(load, "input_dim", inputs, f"self.layer = {layer}") == {"input_dim": expected}


def test_use_is_followed_into_other_classes(load: Load) -> None:
    text = """
        from torch import nn
        class Encoder(nn.Module):
            def __init__(self, hidden, width):
                super().__init__()
                self.net = nn.Sequential(nn.Flatten(), nn.Linear(width, hidden))
        class VAE(nn.Module):
            def __init__(self, input_size):
                super().__init__()
                self.encoder = Encoder(8, width=input_size)
    """
    assert load(model=text).resolve_init(InputSet.from_texts(["8x1x28x28"]), {}) == {"input_size": 784}


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("input_dim", ["8x3x28x28"]),  # nothing says whether pixels or channels
        ("img_size", ["8x3x28x32"]),
        ("encoder: nn.Module, latent_dim", ["8x784"]),
        ("config", ["8x784"]),
        ("vocab_size", ["8x20"]),
        ("kernel", ["8x784"]),
    ],
)
def test_doubt_is_an_error_that_shows_the_signature(load: Load, signature: str, inputs: list[str]) -> None:
    error = failure(lambda: init_of(load, signature, inputs))
    name = signature.partition(",")[0].partition(":")[0]
    assert (
        error.code == "VAE002"
        and error.help == ('add --init "encoder=Encoder(...)"' if name == "encoder" else f"add --init {name}=...")
        and "signature: VAE(" in error.notes[0]
    )
    assert error.span is not None and error.span.line == 5


def test_what_was_chosen_is_said(load: Load) -> None:
    loaded = load(model=MLP.format(signature="input_dim, latent_dim", body="pass"))
    loaded.resolve_init(InputSet.from_texts(["8x784"]), {})
    assert loaded.notes == [
        "input_dim=784 was not given: the last size of 8x784",
        "latent_dim=20 was not given: the latent size is not given",
    ]
    assert loaded.made_up == {"latent_dim": 20}


def test_configuration_objects(load: Load) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from torch import nn
        @dataclass
        class Sizes:
            width: int = 5
        class VAE(nn.Module):
            def __init__(self, sizes: Sizes):
                super().__init__()
                self.width = sizes.width
        class Plain(nn.Module):
            def __init__(self, args):
                super().__init__()
                self.width = args.width
        class ByKey(nn.Module):
            def __init__(self, args):
                super().__init__()
                self.width = args["width"]
    """
    inputs = InputSet.from_texts(["8x4"])
    for name, given, width in (
        ("VAE", {}, 5),
        ("VAE", {"sizes": {"width": 6}}, 6),
        ("Plain", {"args": {"width": 7}}, 7),
        ("ByKey", {"args": {"width": 8}}, 8),
    ):
        loaded = load(f"model.py:{name}", model=text)
        model: Any = loaded.build(loaded.resolve_init(inputs, given))
        assert model.width == width


def test_unknown_arguments_are_refused(load: Load) -> None:
    error = failure(lambda: init_of(load, "latent_dim=3", ["8x4"], given=("latnt_dim=4",)))
    assert error.code == "VAE002" and error.help == "did you mean latent_dim?"


def test_a_constructor_that_raises(load: Load) -> None:
    loaded = load(model=MLP.format(signature="n", body="self.fc = nn.Linear(n, 'four')"))
    error = failure(lambda: loaded.build({"n": 4}))
    assert error.code == "VAE002" and error.span is not None and error.span.line == 8 and "VAE(n=4) raises TypeError" in error.message
    assert isinstance(error.__cause__, TypeError)


def test_arguments_that_are_none_are_named_where_the_constructor_meets_none(load: Load) -> None:
    loaded = load(model=MLP.format(signature="width=None, depth=None, n=4", body="self.fc = nn.Linear(width, 3 * (depth or 1))"))
    error = failure(lambda: loaded.build({"depth": 2}))
    assert error.help.endswith("--init width=...") and error.notes == ("nothing says what width is: None by default",)


def test_what_is_built_must_be_a_module(load: Load) -> None:
    made = failure(lambda: load("model.py:make", model="def make(): return 4").build({}))
    assert "makes an object of type int, not an nn.Module" in made.message


def test_arguments_and_defaults_survive_a_constructor_that_changes_them(load: Load) -> None:
    loaded = load(
        model=MLP.format(signature="sizes, more=[1, 2]", body="sizes.reverse(); more.append(3); self.seen = (list(sizes), list(more))")
    )
    init = {"sizes": [4, 5]}
    first: Any = loaded.build(init)
    second: Any = loaded.build(init)
    assert first.seen == second.seen == ([5, 4], [1, 2, 3]) and init == {"sizes": [4, 5]}


def test_parts_of_the_model_as_arguments(load: Load) -> None:
    text = """
        from torch import nn
        class Encoder(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.fc = nn.Linear(n, 2)
        class VAE(nn.Module):
            def __init__(self, encoder, act):
                super().__init__()
                self.encoder, self.act = encoder, act
    """
    loaded = load(model=text)
    init = loaded.resolve_init(InputSet.from_texts(["8x4"]), parse_init(["encoder=Encoder(4)", "act=nn.ReLU()"]))
    first: Any = loaded.build(init)
    second: Any = loaded.build(init)
    assert first.encoder.fc.in_features == 4 and first.encoder is not second.encoder
    error = failure(lambda: loaded.build(parse_init(["encoder=Decoder(4)", "act=nn.ReLU()"])))
    assert error.code == "VAE002" and "NameError: name 'Decoder' is not defined" in error.message


GUESSED = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden
        self.mu, self.logvar, self.out = nn.Linear(hidden, 3), nn.Linear(hidden, 3), nn.Linear(3, hidden)
    def forward(self, x):
        h = {body}
        mu, logvar = self.mu(h), self.logvar(h)
        return self.out(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar
"""


def test_what_fails_whatever_our_value_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(GUESSED.format(body="x[:, :5] @ torch.eye(7)"))
    result = check_target(Request("model.py:VAE", ("16x800",), device="none"), lambda message: None)
    assert (result.status, [f.code for f in result.findings]) == ("findings", ["VAE101"])


def test_what_a_value_of_ours_breaks_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(GUESSED.format(body="x.view(-1, self.hidden)"))
    result = check_target(Request("model.py:VAE", ("16x800",), device="none"), lambda message: None)
    (finding,) = [f for f in result.findings if f.severity.value != "info"]
    assert (result.status, finding.code) == ("failed", "VAE002")
    assert "fails with the arguments vaelint guessed (" in finding.message and "--init hidden=..." in finding.help
