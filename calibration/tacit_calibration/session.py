"""One folder per calibration session: the board, the rig before and now, samples, results, pictures.

    session.yaml      when, from which rig, with which board
    rig_before.yaml   as it came
    rig.yaml          with every result so far
    samples/<name>/   pictures and joints, as the capture node writes them
    results/<step>-<subject>.yaml and .png

Every step reads and writes only these files, so a session can be left and taken up again, and any
step can be done anew.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from tacit.config import Config, load, load_yaml, save
from tacit.errors import CalibrationError
from tacit.images import Image, encode_png
from tacit.rig import Rig, load_rig
from tacit_calibration.board import Board
from tacit_calibration.rig_update import write_rig

FILE_NAME = "session.yaml"


class SessionFile(Config):
    """The file `session.yaml`."""

    schema_version: Literal["tacit-calibration 1"] = "tacit-calibration 1"
    created: str
    rig: str
    board: Board


@dataclasses.dataclass(frozen=True)
class Session:
    """A calibration session in a folder."""

    folder: Path
    file: SessionFile

    @classmethod
    def create(cls, folder: Path, rig: str, board: Board) -> Session:
        """Begin a session.

        Raises:
            CalibrationError: There is one already.
            RigError: No such rig.
        """
        if (folder / FILE_NAME).exists():
            raise CalibrationError(f"{folder}: is a session already; leave --rig away to go on with it")
        loaded = load_rig(rig)
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        file = SessionFile(created=now, rig=rig, board=board)
        write_rig(loaded, folder / "rig_before.yaml")
        write_rig(loaded, folder / "rig.yaml")
        save(file, folder / FILE_NAME)
        return cls(folder, file)

    @classmethod
    def open(cls, folder: Path) -> Session:
        """Return the session in `folder`.

        Raises:
            CalibrationError: There is none.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise CalibrationError(
                f"{folder}: no calibration session; begin one with "
                f"`tacit calibrate session {folder} --rig <rig>`"
            )
        return cls(folder, load(SessionFile, path))

    @property
    def board(self) -> Board:
        """The board that all samples show."""
        return self.file.board

    @property
    def rig_path(self) -> Path:
        """The rig with every result so far."""
        return self.folder / "rig.yaml"

    @property
    def rig(self) -> Rig:
        """The rig with every result so far."""
        return load_rig(self.rig_path)

    def samples(self, name: str) -> Path:
        """Return the folder of a set of samples."""
        return self.folder / "samples" / name

    def sample_counts(self) -> dict[str, int]:
        """Return {set: number of samples}."""
        files = sorted(self.folder.glob("samples/*/samples.yaml"))
        return {path.parent.name: len(load_yaml(path).get("samples", ())) for path in files}

    def write_result(self, name: str, data: Mapping[str, Any], picture: Image | None = None) -> Path:
        """Write `results/<name>.yaml`, and a picture beside it."""
        folder = self.folder / "results"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(data), sort_keys=False, width=110), encoding="utf-8")
        if picture is not None:
            path.with_suffix(".png").write_bytes(encode_png(picture).tobytes())
        return path

    def results(self) -> dict[str, dict[str, Any]]:
        """Return {name: what was written} of every result so far."""
        return {path.stem: load_yaml(path) for path in sorted(self.folder.glob("results/*.yaml"))}
