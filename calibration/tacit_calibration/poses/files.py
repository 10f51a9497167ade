"""Whatever holds robot poses, to a table: a file of any usual kind, or a folder with one for each picture."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tacit.config.documents import MAX_JSON_BYTES, MAX_TABLE_BYTES, read_text
from tacit.errors import CalibrationError
from tacit_calibration.poses.columns import table_of_columns
from tacit_calibration.poses.documents import rows_of, rows_of_document
from tacit_calibration.poses.lines import rows_of_text
from tacit_calibration.poses.table import EXPECTED, PoseRow, PoseTable

DOCUMENTS = (".json", ".yaml", ".yml", ".samples")
ARRAYS = (".npy", ".npz")
TEXTS = (".txt", ".csv", ".tsv", ".dat", ".mod", ".script", ".src", ".log", ".xml", ".ls", ".jbi", ".pg")


def read_poses(path: Path) -> PoseTable:
    """Read a table of robot poses, or a folder with one file for each picture.

    Raises:
        CalibrationError: Nothing there can be read as poses; the message says where and what was expected.
    """
    table = _of_folder(path) if path.is_dir() else _of_file(path)
    counts = {len(row.robot) for row in table.rows}
    if len(counts) != 1:
        listed = ", ".join(map(str, sorted(counts))) or "no"
        raise CalibrationError(f"{path}: poses of {listed} numbers; expected everywhere {EXPECTED}")
    boards = {len(row.board) for row in table.rows if row.board is not None}
    if len(boards) > 1:
        listed = ", ".join(map(str, sorted(boards)))
        raise CalibrationError(
            f"{path}: poses of the board of {listed} numbers; expected the same everywhere"
        )
    values = np.array([*table.robot.ravel(), *np.ravel(table.boards if table.boards is not None else 0.0)])
    if not np.isfinite(values).all():
        raise CalibrationError(f"{path}: a pose holds a number that is not finite")
    return table.in_order


def _of_file(path: Path) -> PoseTable:
    if path.suffix.lower() in ARRAYS:
        return PoseTable(tuple(rows_of(_array(path), str(path))))
    if path.suffix.lower() in DOCUMENTS:
        text = read_text(path, MAX_JSON_BYTES, "file of poses", CalibrationError)
        if _is_opencv(text):
            return PoseTable(tuple(rows_of(_of_opencv(text, path), str(path))))
        return PoseTable(tuple(rows_of_document(text, str(path), path.suffix.lower() == ".json")))
    text = read_text(path, MAX_TABLE_BYTES, "table of poses", CalibrationError)
    if _is_opencv(text):
        return PoseTable(tuple(rows_of(_of_opencv(text, path), str(path))))
    first = text.lstrip()[:1]
    if first == "{" and '"' in text.partition("}")[0]:
        # One JSON object in each line, or one over many lines, whatever the file is called.
        lines = [line for line in text.splitlines() if line.strip()]
        parts = lines if all(line.strip().endswith("}") for line in lines) else [text]
        return PoseTable(
            tuple(
                row for i, part in enumerate(parts) for row in rows_of_document(part, f"{path}:{i + 1}", True)
            )
        )
    return table_of_columns(text, str(path)) or PoseTable(tuple(rows_of_text(text, str(path))))


def _array(path: Path) -> Any:
    """Return what a NumPy file holds as plain lists; a file with several arrays as a mapping."""
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise CalibrationError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MB")
    try:
        with path.open("rb") as file:
            data = np.load(file, allow_pickle=False)
            if not isinstance(data, Mapping):
                return data.tolist()
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_JSON_BYTES:
                raise CalibrationError(f"{path}: unpacks to more than {MAX_JSON_BYTES >> 20} MB")
            return {key: data[key].tolist() for key in data}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as problem:
        raise CalibrationError(f"{path}: no NumPy file of numbers ({problem})") from None


def _is_opencv(text: str) -> bool:
    return text.startswith("%YAML:") or "<opencv_storage>" in text[:200]


def _of_opencv(text: str, path: Path) -> dict[str, Any]:
    """Return the matrices of an OpenCV FileStorage by name, as plain lists."""
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except cv2.error as problem:
        raise CalibrationError(f"{path}: not valid for OpenCV's FileStorage ({problem})") from None
    found = {}
    names = storage.root().keys()
    for name in names:
        node = storage.getNode(name)
        if node.isMap() and (matrix := node.mat()) is not None:
            found[name] = matrix.tolist()
    return found


def _of_folder(folder: Path) -> PoseTable:
    files = [p for p in folder.iterdir() if p.suffix.lower() in (*TEXTS, *DOCUMENTS, *ARRAYS)]
    tables = []
    for path in sorted(files, key=lambda p: ([int(d) for d in re.findall(r"\d+", p.stem)] or [0], p.name)):
        try:
            table = _of_file(path)
        except CalibrationError:
            continue  # notes and settings lie beside poses; what is left over is counted by the caller
        if len(table.rows) == 1:
            row = table.rows[0]
            tables.append((table, PoseRow(row.robot, row.picture or path.stem, row.board, row.joints)))
    if not tables:
        raise CalibrationError(f"{folder}: no file with one robot pose; expected {EXPECTED}")
    # A result or a setting may look like a pose too: the form that most files share is meant.
    forms = [(len(row.robot), row.board is not None) for _, row in tables]
    common = max(set(forms), key=forms.count)
    kept = [both for both, form in zip(tables, forms, strict=True) if form == common]
    first = kept[0][0]
    rows = tuple(row for _, row in kept)
    return PoseTable(rows, first.unit, first.angle, first.quaternion, first.turn, first.named)
