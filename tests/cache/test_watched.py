"""Whatever way code looks at the world: once that has changed, the kept result is not used; what cannot be watched is not kept."""

from __future__ import annotations

import os
import shutil
import site
from collections.abc import Callable
from pathlib import Path

import pytest
from keeping import LONG_AGO, Run

from vaelint.cache import toolchain

Change = Callable[[Path, pytest.MonkeyPatch], object]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder that code looks at, and one of modules on its path."""
    box = tmp_path / "box"
    (box / "sub").mkdir(parents=True)
    (box / "a.txt").write_text("1")
    (box / "sub" / "b.txt").write_text("2")
    (tmp_path / "lib" / "pack").mkdir(parents=True)
    (tmp_path / "lib" / "pack" / "__init__.py").write_text("")
    (tmp_path / "lib" / "plain.py").write_text("x = 1")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.py").write_text("x = 1")
    (box / "link").symlink_to(tmp_path / "one")
    return box


def write(name: str, text: str = "other") -> Change:
    def go(box: Path, patch: pytest.MonkeyPatch) -> None:
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        (box / name).write_text(text)

    return go


def setenv(name: str) -> Change:
    return lambda box, patch: patch.setenv(name, "3")


def repoint(box: Path, patch: pytest.MonkeyPatch) -> None:
    (box / "link").unlink()
    (box / "link").symlink_to(box.parent / "two")


def remove(name: str) -> Change:
    return lambda box, patch: (box / name).unlink()


def to_folder(box: Path, patch: pytest.MonkeyPatch) -> None:
    (box / "sub" / "b.txt").unlink()
    (box / "sub" / "b.txt").mkdir()


WAYS: dict[str, tuple[str, Change]] = {
    "os.path.exists": ("os.path.exists(f'{box}/new')", write("new")),
    "os.path.lexists": ("os.path.lexists(f'{box}/new')", write("new")),
    "os.path.isfile": ("os.path.isfile(f'{box}/new')", write("new")),
    "os.path.isdir": ("os.path.isdir(f'{box}/new')", write("new/file")),
    "os.path.islink": ("os.path.islink(f'{box}/link')", remove("link")),
    "os.path.getsize": ("os.path.getsize(f'{box}/a.txt')", write("a.txt")),
    "os.path.getmtime": ("os.path.getmtime(f'{box}/a.txt')", lambda box, patch: os.utime(box / "a.txt", LONG_AGO)),
    "os.path.realpath": ("os.path.realpath(f'{box}/link/v.py')", repoint),
    "Path.exists": ("pathlib.Path(box, 'new').exists()", write("new")),
    "Path.is_file": ("pathlib.Path(box, 'new').is_file()", write("new")),
    "Path.resolve": ("pathlib.Path(box, 'link').resolve()", repoint),
    "Path.stat": ("pathlib.Path(box, 'a.txt').stat().st_size", write("a.txt")),
    "Path.glob": ("sorted(pathlib.Path(box).glob('*.txt'))", write("new.txt")),
    "Path.rglob": ("sorted(pathlib.Path(box).rglob('*.txt'))", write("sub/new.txt")),
    "Path.iterdir": ("sorted(pathlib.Path(box).iterdir())", write("new.txt")),
    "os.stat": ("os.stat(f'{box}/a.txt').st_mode", lambda box, patch: (box / "a.txt").chmod(0o600)),
    "os.stat of what is not there": ("try: os.stat(f'{box}/new')\nexcept OSError: pass", write("new")),
    "os.stat from a folder": ("os.stat('a.txt', dir_fd=os.open(box, os.O_RDONLY)).st_size", write("a.txt")),
    "os.lstat": ("os.lstat(f'{box}/link').st_mtime", repoint),
    "os.fstat": ("os.fstat(os.open(f'{box}/a.txt', os.O_RDONLY)).st_mode", lambda box, patch: (box / "a.txt").chmod(0o600)),
    "os.access": ("os.access(f'{box}/new', os.R_OK)", write("new")),
    "os.readlink": ("os.readlink(f'{box}/link')", repoint),
    "a function that was taken from posix": ("from posix import stat\nstat(f'{box}/a.txt').st_size", write("a.txt")),
    "glob without magic": ("glob.glob(f'{box}/new')", write("new")),
    "glob with magic": ("glob.glob(f'{box}/*.txt')", write("new.txt")),
    "os.walk": ("[n for _, _, n in os.walk(box)]", write("sub/new")),
    "os.listdir, hidden names": ("os.listdir(box)", write(".new")),
    "os.listdir of a descriptor": ("os.listdir(os.open(box, os.O_RDONLY))", write("new")),
    "os.scandir, kinds": ("[e.is_dir() for e in os.scandir(f'{box}/sub')]", to_folder),
    "os.scandir, sizes": ("[e.stat().st_size for e in os.scandir(f'{box}/sub')]", write("sub/b.txt")),
    "open from a folder": ("os.read(os.open('a.txt', os.O_RDONLY, dir_fd=os.open(box, os.O_RDONLY)), 9)", write("a.txt")),
    "open with an opener": (
        "fd = os.open(box, os.O_RDONLY)\nopen('a.txt', opener=lambda p, f: os.open(p, f, dir_fd=fd)).read()",
        write("a.txt"),
    ),
    "open through a link": ("open(f'{box}/link/v.py').read()", repoint),
    "import of an optional package": ("try: import optional_package_x\nexcept ImportError: pass", write("../lib/optional_package_x.py")),
    "import as a package": ("try: import optional_package_x\nexcept ImportError: pass", write("../lib/optional_package_x/__init__.py")),
    "find_spec": ("importlib.util.find_spec('optional_package_x')", write("../lib/optional_package_x.py")),
    "PathFinder": ("importlib.machinery.PathFinder.find_spec('nothing_x', [str(box)])", write("nothing_x.py")),
    "a path entry that is not there": (
        "sys.path.append(f'{box}/no')\ntry: import nothing_x\nexcept ImportError: pass",
        write("no/nothing_x.py"),
    ),
    "a submodule that is not there": ("try: import pack.part\nexcept ImportError: pass", write("../lib/pack/part.py")),
    "an extension module beside": ("import plain", write("../lib/plain.abi3.so")),
    "a package beside a module": ("import plain", write("../lib/plain/__init__.py")),
    "a module of a folder behind a link": ("sys.path.append(f'{box}/link')\nimport v\npathlib.Path(v.__file__).resolve()", repoint),
    "PYTHONWARNINGS": ("pass", lambda box, patch: patch.setenv("PYTHONWARNINGS", "error")),
    "PYTHONDEVMODE": ("pass", setenv("PYTHONDEVMODE")),
    "the locale": ("pass", lambda box, patch: patch.setenv("LC_ALL", "de_DE.UTF-8")),
    "the language": ("pass", lambda box, patch: patch.setenv("LANG", "de_DE.UTF-8")),
    "threads": ("pass", setenv("OMP_NUM_THREADS")),
    "threads of MKL": ("pass", setenv("MKL_NUM_THREADS")),
    "os.environb": ("os.environb.get(b'MODEL_SIZE')", setenv("MODEL_SIZE")),
    "os.getenvb": ("os.getenvb(b'MODEL_SIZE')", setenv("MODEL_SIZE")),
    "the number of variables": ("len(os.environ)", setenv("MODEL_SIZE")),
    "posix.environ": ("import posix\nposix.environ.get(b'MODEL_SIZE')", setenv("MODEL_SIZE")),
    "/proc/self/environ": ("open('/proc/self/environ', 'rb').read()", setenv("MODEL_SIZE")),
}  # fmt: skip
LINUX = {
    "/proc/self/environ",
    "os.stat from a folder",
    "open from a folder",
    "open with an opener",
    "os.listdir of a descriptor",
    "os.fstat",
}
HEAD = "import glob, importlib.machinery, importlib.util, os, pathlib\nbox = sys.path[0] + '/box'\nsys.path.append(sys.path[0] + '/lib')\n"


@pytest.mark.parametrize("way", WAYS)
def test_a_change_of_what_was_seen_is_noticed(run: Run, box: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way in LINUX and not Path("/proc/self/fd").exists():
        pytest.skip("descriptors have no names here")
    code, change = WAYS[way]
    assert run(HEAD + code).result.status == "clean"
    assert run().kept
    (box / "unseen").mkdir() if "listdir" not in way and "walk" not in way and "iter" not in way and "glob" not in way else None
    change(box, monkeypatch)
    assert not run().kept


UNWATCHED = {
    "a fork": "if not (pid := os.fork()):\n    open(f'{box}/a.txt').read()\n    os.kill(os.getpid(), 9)\nos.waitpid(pid, 0)",
    "a pool of processes": "import multiprocessing as m\nwith m.get_context('fork').Pool(1) as p: p.map(os.path.getsize, [f'{box}/a.txt'])",
    "a program of multiprocessing": "import multiprocessing.util as u\nos.waitpid(u.spawnv_passfds(b'/bin/true', [b'true'], []), 0)",
    "native code": "import ctypes\nctypes.CDLL(None).getpid()",
    "what the system says": "open('/proc/meminfo').read()",
    "how full a disk is": "import shutil\nshutil.disk_usage(box)",
    "when a file was read": "os.path.getatime(f'{box}/a.txt')",
    "what it removes": "os.remove(f'{box}/a.txt')",
    "what it makes": "os.makedirs(f'{box}/out', exist_ok=True)",
    "what it counts": "open(f'{box}/count', 'a+').write('1')",
    "what it replaces": "open(f'{box}/a.txt').read()\nopen(f'{box}/n', 'w').write('3')\nos.replace(f'{box}/n', f'{box}/a.txt')",
}


@pytest.mark.parametrize("way", UNWATCHED)
def test_what_cannot_be_watched_or_does_not_stay_is_not_kept(run: Run, box: Path, way: str) -> None:
    checked = run(HEAD + UNWATCHED[way])
    assert checked.result.status == "clean", checked.output
    assert not run().kept


def test_temporary_files_of_its_own_do_not_keep_a_result_from_being_kept(run: Run, box: Path) -> None:
    run(
        HEAD + "import tempfile\nwith tempfile.TemporaryDirectory() as d:\n    open(d + '/x', 'w').write('1')\n    open(d + '/x').read()\n"
        "    os.listdir(d), os.path.exists(d + '/y'), os.stat(d + '/x')\nwith tempfile.NamedTemporaryFile() as f: os.path.getsize(f.name)"
    )
    assert run().kept


def test_a_log_that_it_writes_is_not_what_it_reads(run: Run, box: Path) -> None:
    run(HEAD + "import logging\nlogging.basicConfig(filename=f'{box}/train.log')\nlogging.warning('x')")
    run()
    assert run().kept


def test_entries_of_a_folder_are_those_of_python(run: Run, box: Path) -> None:
    checked = run(
        HEAD + "with os.scandir(box) as found: (e,) = [e for e in found if e.name == 'a.txt']\n"
        "print(isinstance(e, os.DirEntry), os.fspath(e) == e.path, e.is_file(), e.stat().st_size, open(e).read(), e.inode() > 0)\n"
        "import shutil\nprint(shutil.rmtree.avoids_symlink_attacks, os.stat in os.supports_dir_fd)"
    )
    assert checked.output == "True True True 1 1 True\nTrue True\n"


def test_what_is_installed_is_part_of_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(place)])
    seen = [toolchain.toolchain()]
    steps: list[Callable[[], object]] = [
        lambda: (place / "tool-1.0.dist-info").mkdir(),
        lambda: shutil.move(place / "tool-1.0.dist-info", place / "tool-1.1.dist-info"),
        lambda: (place / "__editable__.tool.pth").write_text("/one"),
        lambda: (place / "__editable__.tool.pth").write_text("/two"),
        lambda: (place / "__editable___tool_finder.py").write_text("MAPPING = {}"),
        lambda: (place / "sitecustomize.py").write_text(""),
        lambda: monkeypatch.setenv("PYTHONUTF8", "1"),
        lambda: monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1"),
    ]
    for step in steps:
        step()
        seen.append(toolchain.toolchain())
    assert len(set(seen)) == len(seen)
    (place / "tool").mkdir()
    assert toolchain.toolchain() == seen[-1], "modules that nobody has imported are no part of it"
