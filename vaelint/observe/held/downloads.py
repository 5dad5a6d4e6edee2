"""Trained weights that a script downloads: not fetched, so that the network keeps those it was made with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.utils.model_zoo

from vaelint.observe.held.notes import HeldBack


class NoWeights(dict[str, Any]):
    """What is handed out in the place of a download; loading it changes nothing."""


@contextlib.contextmanager
def downloads_held_back(held: HeldBack) -> Iterator[None]:
    """Within the block `load_state_dict_from_url` reads what was downloaded before, and downloads nothing."""
    load: Any = torch.hub.load_state_dict_from_url
    fill: Any = torch.nn.Module.load_state_dict

    def loaded(url: str, model_dir: str | None = None, *args: Any, file_name: str | None = None, **kwargs: Any) -> Any:
        folder = Path(model_dir or Path(torch.hub.get_dir()) / "checkpoints")
        name = file_name or Path(urlparse(url).path).name
        if (folder / name).exists():
            return load(url, model_dir, *args, file_name=file_name, **kwargs)
        held.note(f"download {name}: the network keeps random weights")
        return NoWeights()

    def filled(self: torch.nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        return fill(self, self.state_dict() if isinstance(state_dict, NoWeights) else state_dict, *args, **kwargs)

    places: list[tuple[Any, str, Any]] = [
        (torch.hub, "load_state_dict_from_url", loaded),
        (torch.utils.model_zoo, "load_url", loaded),
        (torch.nn.Module, "load_state_dict", filled),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, new in places:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield
