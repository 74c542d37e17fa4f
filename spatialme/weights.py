"""One table of all network weights: where they come from, under which licence, and where they lie on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spatialme.disk import BLOCK_BYTES, appearing, sha256, write_text
from spatialme.errors import OptionError, WeightsError

Licence = Literal["any", "commercial"]
Progress = Callable[[int, "int | None"], None]  # bytes so far, bytes in all if known

PACKAGED = Path(__file__).parent / "assets"
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class WeightsEntry:
    """One file of weights."""

    name: str
    file_name: str
    url: str | None  # None: the file comes with the package
    sha256: str | None  # whole, or its first eight digits where no more is published; None = unverified
    hash_source: str  # who published or computed it
    megabytes: float
    licence: str
    commercial: bool  # may be used commercially
    preprocessing: str
    source: str  # the project it comes from

    @property
    def unverified(self) -> bool:
        """No hash is known from elsewhere: the first download is believed, and recorded."""
        return self.sha256 is None


def _depth_anything(
    size: str, letter: str, sha256: str, megabytes: float, licence: str, record: str | None = None
) -> WeightsEntry:
    repository = f"huggingface.co/depth-anything/Depth-Anything-V2-{size}"
    record = record or repository
    file_name = f"depth_anything_v2_vit{letter}.pth"
    return WeightsEntry(
        name=f"depth-anything-v2-{size.lower()}",
        file_name=file_name,
        url=f"https://{repository}/resolve/main/{file_name}",
        sha256=sha256,
        hash_source=f"Git LFS record on {record}",
        megabytes=megabytes,
        licence=licence,
        commercial=licence == "Apache-2.0",
        preprocessing="RGB, short side 518, sides multiples of 14, ImageNet mean and deviation",
        source=repository,
    )


def _propainter(
    name: str, file_name: str, sha256: str | None, hash_source: str, megabytes: float, licence: str, preprocessing: str
) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        file_name=file_name,
        url=f"https://github.com/sczhou/ProPainter/releases/download/v0.1.0/{file_name}",
        sha256=sha256,
        hash_source=hash_source,
        megabytes=megabytes,
        licence=licence,
        commercial=licence.startswith("BSD"),
        preprocessing=preprocessing,
        source="github.com/sczhou/ProPainter v0.1.0",
    )


def _torchvision(name: str, file_name: str, megabytes: float, licence: str, preprocessing: str) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        file_name=file_name,
        url=f"https://download.pytorch.org/models/{file_name}",
        sha256=Path(file_name).stem.rpartition("-")[2],  # torchvision writes the first eight digits into the name
        hash_source="the file's name, by torchvision",
        megabytes=megabytes,
        licence=licence,
        commercial=True,
        preprocessing=preprocessing,
        source="torchvision",
    )


_NON_COMMERCIAL = "NTU S-Lab 1.0 (non-commercial)"
_FRAMES = "RGB in [-1, 1]"
_ENTRIES = (
    WeightsEntry(
        name="tiny",
        file_name="depth_tiny.safetensors",
        url=None,
        sha256="fb480a82854c0724ac9a8c48dafcd6396dd2752be5706e9a452d0be3fcd0312f",
        hash_source="computed from the file",
        megabytes=4.1,
        licence="trained partly on non-commercial material (KITTI, CC BY-NC-SA 3.0)",
        commercial=False,
        preprocessing="RGB, short side 224, sides multiples of 32, ImageNet mean and deviation",
        source="this project",
    ),
    WeightsEntry(
        name="tiny-clean",
        file_name="depth_tiny_clean.safetensors",
        url=None,
        sha256="b4f124c73b2c28b936fc419a2cb2b50869cb6938b64e6738a8f2f32143d16ba0",
        hash_source="computed from the file",
        megabytes=4.1,
        licence="Apache-2.0; trained only on what allows commercial use",
        commercial=True,
        preprocessing="RGB, short side 224, sides multiples of 32, ImageNet mean and deviation",
        source="this project",
    ),
    WeightsEntry(
        name="refiner-small",
        file_name="refiner_small.safetensors",
        url=None,
        sha256="ae6f3d53702b9d833dbe0fc9013a7f37af408df57715844f415f4cbdf157bfb0",
        hash_source="computed from the file",
        megabytes=0.2,
        licence="Apache-2.0; trained on material free for commercial use only",
        commercial=True,
        preprocessing="three branch views and the hole mask, RGB in [0, 1]",
        source="this project",
    ),
    _depth_anything(
        "Small", "s", "715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378", 99.2, "Apache-2.0"
    ),
    _depth_anything(
        "Base", "b", "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328", 390.0, "CC-BY-NC-4.0"
    ),
    _depth_anything(
        "Large",
        "l",
        "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        1341.4,
        "CC-BY-NC-4.0",
        record="huggingface.co/scenario-labs/depth, a copy",
    ),
    _propainter(
        "propainter",
        "ProPainter.pth",
        None,
        "none published",
        157.8,
        _NON_COMMERCIAL,
        _FRAMES,
    ),
    _propainter(
        "propainter-flow-completion",
        "recurrent_flow_completion.pth",
        None,
        "none published",
        20.3,
        _NON_COMMERCIAL,
        "optical flow in pixels",
    ),
    _propainter(
        "raft-things",
        "raft-things.pth",
        "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
        "computed from the copy in PyPI's markdiffusion 1.0.2",
        21.1,
        "BSD-3-Clause (princeton-vl/RAFT)",
        _FRAMES,
    ),
    _torchvision(
        "raft-large",
        "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        21.1,
        "BSD-3-Clause (torchvision); trained on Chairs, Things, Sintel, KITTI, HD1K",
        _FRAMES,
    ),
    _torchvision(
        "raft-large-c-t",
        "raft_large_C_T_V1-22a6c225.pth",
        21.1,
        "BSD-3-Clause (torchvision); trained on Chairs and Things",
        _FRAMES,
    ),
    _torchvision(
        "vgg16",
        "vgg16-397923af.pth",
        553.4,
        "BSD-3-Clause (torchvision); trained on ImageNet",
        "RGB, ImageNet mean and deviation",
    ),
    _torchvision(
        "vgg19",
        "vgg19-dcbb9e9d.pth",
        574.7,
        "BSD-3-Clause (torchvision); trained on ImageNet",
        "RGB, ImageNet mean and deviation",
    ),
)
WEIGHTS: dict[str, WeightsEntry] = {entry.name: entry for entry in _ENTRIES}
COMPANIONS = {"propainter": ("propainter-flow-completion",)}  # fetched along


@dataclass(frozen=True)
class WeightsStatus:
    """An entry and its place on this machine, for `spatialme weights list`."""

    entry: WeightsEntry
    path: Path | None

    def lines(self) -> list[str]:
        """What the command line prints."""
        entry = self.entry
        use = "any use" if entry.commercial else "non-commercial only"
        hashed = "unverified" if entry.unverified else f"sha256 {str(entry.sha256)[:8]}"
        place = str(self.path) if self.path else f"not here: spatialme weights fetch {entry.name}"
        return [f"{entry.name:28}{entry.megabytes:8.1f} MB  {use:20}  {entry.licence}; {hashed}", f"    {place}"]


def list_weights() -> list[WeightsStatus]:
    """List all weights that spatialme knows, with licence, size and place."""
    return [WeightsStatus(entry, find(name)) for name, entry in WEIGHTS.items()]


def cache_dir() -> Path:
    """The folder for downloads: $SPATIALME_WEIGHTS, else the platform's cache folder."""
    chosen = os.environ.get("SPATIALME_WEIGHTS")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("spatialme") / "weights"


def find(name: str) -> Path | None:
    """The file of these weights on this machine, None if it is not here."""
    path = _place(_entry(name))
    return path if path.is_file() else None


def allowed(name: str, licence: Licence) -> bool:
    """Whether these weights may be used under the licence that the user asked for."""
    return licence == "any" or _entry(name).commercial


def fetch(name: str, accept_licence: bool = False, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Path:
    """Download weights unless they are here, with those they cannot do without; check them; return their path.

    Args:
        name: As `spatialme weights list` shows it.
        accept_licence: You agree to a licence that forbids commercial use.
        timeout_seconds: How long to wait for a silent server.

    Raises:
        OptionError: No such weights.
        WeightsError: The licence was not agreed to, the server cannot be reached, or what came is not the file.
    """
    path = _fetch_one(_entry(name), accept_licence, timeout_seconds)
    for companion in COMPANIONS.get(name, ()):
        _fetch_one(_entry(companion), accept_licence, timeout_seconds)
    return path


def _fetch_one(entry: WeightsEntry, accept_licence: bool, timeout_seconds: float) -> Path:
    path = find(entry.name)
    if path is not None:
        return path
    if not entry.commercial and not accept_licence:
        raise WeightsError(
            f"{entry.name} is licensed for non-commercial use only ({entry.licence}); if you agree, run "
            f"`spatialme weights fetch {entry.name} --accept-licence`"
        )
    path = _place(entry)
    with _progress_bar(entry.name) as progress:
        _download(entry, path, timeout_seconds, progress)
    return path


def verify(name: str = "all") -> list[str]:
    """Check weights on this machine against their hashes; one line for each.

    Args:
        name: As `spatialme weights list` shows it, or `all` that are here.

    Raises:
        OptionError: No such weights.
        WeightsError: A file is damaged, or the one named is not here.
    """
    names = [known for known in WEIGHTS if find(known)] if name == "all" else [name]
    return [_verify_one(_entry(known)) for known in names]


def _verify_one(entry: WeightsEntry) -> str:
    path = find(entry.name)
    if path is None:
        raise WeightsError(f"{entry.name} is not here; run `spatialme weights fetch {entry.name}`")
    found, expected = sha256(path), _expected_hash(entry, path)
    if expected is None:
        return f"{entry.name}: unverified, sha256 {found}"
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} has sha256 {found[:12]}..., expected {expected[:12]}...; delete it and run "
            f"`spatialme weights fetch {entry.name}`"
        )
    return f"{entry.name}: as {'recorded at its download' if entry.unverified else 'published'}, sha256 {found}"


def _entry(name: str) -> WeightsEntry:
    if name not in WEIGHTS:
        raise OptionError(f"weights {name!r} are not known; the known ones are {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _place(entry: WeightsEntry) -> Path:
    return (PACKAGED if entry.url is None else cache_dir()) / entry.file_name


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _expected_hash(entry: WeightsEntry, path: Path) -> str | None:
    """The published hash, else the one that the first download recorded, else None."""
    if entry.sha256 is not None:
        return entry.sha256
    try:
        return str(json.loads(_record_path(path).read_text())["sha256"])
    except (OSError, ValueError, KeyError):
        return None


def _download(entry: WeightsEntry, path: Path, timeout_seconds: float, progress: Progress) -> None:
    """Write the file whole and checked, or not at all; its hash goes into a small file beside it."""
    assert entry.url is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as partial:
            found = _receive(entry.url, partial, timeout_seconds, progress)
            if entry.sha256 is not None and not found.startswith(entry.sha256):
                raise WeightsError(
                    f"{entry.url} sent sha256 {found[:12]}..., expected {entry.sha256[:12]}...; nothing was kept, "
                    "try again later"
                )
            record = {"url": entry.url, "sha256": found, "bytes": partial.stat().st_size}
            write_text(_record_path(path), json.dumps(record, indent=2) + "\n")
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{entry.name} could not be downloaded ({error}); connect to the network, or put {entry.file_name} from "
            f"{entry.url} into {path.parent}"
        ) from None


def _receive(url: str, partial: Path, timeout_seconds: float, progress: Progress) -> str:
    """Download to `partial` and return the sha256 of what came."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "spatialme"})
    with urllib.request.urlopen(request, timeout=timeout_seconds) as reply, partial.open("wb") as file:
        length = reply.headers.get("Content-Length")
        total = int(length) if length else None
        received = 0
        while block := reply.read(BLOCK_BYTES):
            file.write(block)
            digest.update(block)
            received += len(block)
            progress(received, total)
    if total is not None and received != total:
        raise http.client.IncompleteRead(b"", total - received)
    return digest.hexdigest()


@contextlib.contextmanager
def _progress_bar(name: str) -> Iterator[Progress]:
    """A bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda received, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        "fetching {task.description}",
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda received, total: bar.update(task, completed=received, total=total)
