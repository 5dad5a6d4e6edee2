"""torchaudio's data sets, made up where they cannot be had; torchaudio itself, as far as scripts need it, where it is not installed."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vaelint.observe.data.stand_ins import lending
from vaelint.observe.data.stood_in import instead_of, where_absent

Note = Callable[[str], None]

_SOUNDS: dict[str, tuple[int, int, int, Callable[[int], tuple[Any, ...]]]] = {
    "SPEECHCOMMANDS": (2048, 16000, 16000, lambda i: (("yes", "no", "up", "down")[i % 4], f"speaker{i % 30}", i % 3)),
    "YESNO": (60, 50800, 8000, lambda i: ([(i >> k) & 1 for k in range(8)],)),
    "LJSPEECH": (1024, 120000, 22050, lambda i: ("a text that was read", "a text that was read")),
    "LIBRISPEECH": (1024, 200000, 16000, lambda i: ("A TEXT THAT WAS READ", i % 40, i % 9, i)),
    "GTZAN": (443, 661500, 22050, lambda i: (("blues", "jazz", "rock", "pop")[i % 4],)),
}
"""Items, samples in each, samples a second, and what comes after the sound and its rate."""


class _Sounds(torch.utils.data.Dataset[Any]):
    def __init__(self, name: str) -> None:
        self._count, self._length, self._rate, self._rest = _SOUNDS[name]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        time = torch.arange(self._length) / self._rate
        return (0.5 * torch.sin(2 * torch.pi * (110 + 13 * (index % 40)) * time)[None], self._rate, *self._rest(index))


def _set(name: str, note: Note) -> Callable[..., Any]:
    def made(*_: Any, **__: Any) -> Any:
        count, length, rate, _rest = _SOUNDS[name]
        note(instead_of(name, f"{count} sounds of {length} samples, {rate} a second"))
        return _Sounds(name)

    return made


def changes(note: Note, data: str) -> dict[str, Callable[[Any], None]]:
    """What becomes of its data sets where it is installed."""

    def either(name: str, original: Any) -> Any:
        return where_absent(original, _set(name, note), data)

    def changed(module: Any) -> None:
        for name in _SOUNDS:
            setattr(module, name, either(name, getattr(module, name)))

    return {"torchaudio.datasets": changed}


# --- where it is not installed -----------------------------------------------------------------------------------------


class Spectrogram(nn.Module):
    """The squared size of a short-time Fourier transform: (..., time) -> (..., frequencies, frames)."""

    def __init__(
        self, n_fft: int = 400, win_length: int | None = None, hop_length: int | None = None, pad: int = 0, *_: Any,
        power: float | None = 2.0, **__: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_fft, self.win_length, self.power = n_fft, win_length or n_fft, power
        self.hop_length = hop_length or self.win_length // 2
        self.register_buffer("window", torch.hann_window(self.win_length))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Of sounds."""
        flat = waveform.reshape(-1, waveform.shape[-1])
        found = torch.stft(flat, self.n_fft, self.hop_length, self.win_length, self.get_buffer("window"), return_complex=True)
        found = found.reshape(*waveform.shape[:-1], *found.shape[-2:])
        return found if self.power is None else found.abs() ** self.power


class MelScale(nn.Module):
    """Frequencies gathered into bands that are evenly spaced in mel: 2595 log10(1 + f / 700)."""

    def __init__(
        self, n_mels: int = 128, sample_rate: int = 16000, f_min: float = 0.0, f_max: float | None = None, n_stft: int = 201, *_: Any,
        **__: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        top = float(f_max or sample_rate // 2)
        low, high = (2595.0 * torch.log10(1 + torch.tensor(f) / 700.0) for f in (f_min, top))
        edges = 700.0 * (10 ** (torch.linspace(float(low), float(high), n_mels + 2) / 2595.0) - 1)
        away = edges[None] - torch.linspace(0, sample_rate // 2, n_stft)[:, None]
        widths = edges.diff()
        self.register_buffer("fb", torch.minimum(-away[:, :-2] / widths[:-1], away[:, 2:] / widths[1:]).clamp(min=0))

    def forward(self, specgram: torch.Tensor) -> torch.Tensor:
        """(..., frequencies, frames) -> (..., bands, frames)."""
        return (specgram.transpose(-1, -2) @ self.get_buffer("fb")).transpose(-1, -2)


class MelSpectrogram(nn.Module):
    """Both, one after the other."""

    def __init__(
        self, sample_rate: int = 16000, n_fft: int = 400, win_length: int | None = None, hop_length: int | None = None, f_min: float = 0.0,
        f_max: float | None = None, pad: int = 0, n_mels: int = 128, *_: Any, power: float = 2.0, **__: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spectrogram = Spectrogram(n_fft, win_length, hop_length, pad, power=power)
        self.mel_scale = MelScale(n_mels, sample_rate, f_min, f_max, n_fft // 2 + 1)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Of sounds."""
        found: torch.Tensor = self.mel_scale(self.spectrogram(waveform))
        return found


class AmplitudeToDB(nn.Module):
    """Ten times the decimal logarithm of a power, twenty times that of a magnitude; of nothing below 1e-10."""

    def __init__(self, stype: str = "power", top_db: float | None = None) -> None:
        super().__init__()
        self.times, self.top_db = 10.0 if stype == "power" else 20.0, top_db

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In decibels, no more than `top_db` below the largest."""
        found = self.times * torch.log10(x.clamp(min=1e-10))
        return found if self.top_db is None else torch.maximum(found, found.amax() - self.top_db)


class Resample(nn.Module):
    """As many samples as another rate has, in between the ones that are there."""

    def __init__(self, orig_freq: int = 16000, new_freq: int = 16000, *_: Any, **__: Any) -> None:
        super().__init__()
        self.orig_freq, self.new_freq = orig_freq, new_freq

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Of sounds."""
        length = -(-waveform.shape[-1] * self.new_freq // self.orig_freq)
        flat = waveform.reshape(1, -1, waveform.shape[-1])
        return nn.functional.interpolate(flat, length, mode="linear").reshape(*waveform.shape[:-1], length)


def _resample(waveform: torch.Tensor, orig_freq: int, new_freq: int, *_: Any, **__: Any) -> torch.Tensor:
    found: torch.Tensor = Resample(orig_freq, new_freq)(waveform)
    return found


def stand_in(note: Note) -> dict[str, ModuleType]:
    """The modules of it that scripts import, by name; anything else of it is named."""
    kinds = (Spectrogram, MelScale, MelSpectrogram, AmplitudeToDB, Resample)
    transforms = lending("torchaudio.transforms", {kind.__name__: kind for kind in kinds})
    functional = lending("torchaudio.functional", {"resample": _resample})
    datasets = lending("torchaudio.datasets", {name: _set(name, note) for name in _SOUNDS})
    parts = {"datasets": datasets, "transforms": transforms, "functional": functional}
    return {m.__name__: m for m in (lending("torchaudio", {**parts, "__version__": "0.0"}), datasets, transforms, functional)}
