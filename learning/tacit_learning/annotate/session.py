"""The state behind the page: labels of all clips, pictures of the one that is looked at, transfer, saving."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.config import load_json
from tacit.errors import AnnotationError
from tacit_learning.annotate.labels import Labelling, checked
from tacit_learning.annotate.output import write_annotations, write_into_data
from tacit_learning.annotate.sources import Clip, Collection
from tacit_learning.annotate.suggest import best_to_label, embed
from tacit_learning.annotate.transfer import Known, transfer

SESSION = "session.json"
SESSION_SCHEMA = "tacit-annotate 1"
KEPT_CLIPS = 3
"""Clips whose pictures stay in memory: the one that is looked at and its neighbours."""


class Session:
    """Labels of one set; every change is on disk before it is answered.

    Args:
        collection: The clips.
        out: Folder of `session.json` and `annotations.json`.
        into_data: Saving also writes into the recordings or the LeRobot set.

    Raises:
        AnnotationError: The folder holds another session.
    """

    def __init__(self, collection: Collection, out: Path, into_data: bool = False) -> None:
        self.collection, self.out, self.into_data = collection, out, into_data
        self.clips: dict[str, Clip] = {clip.name: clip for clip in collection.clips}
        self.labels: dict[str, Labelling] = {}
        self._pictures: OrderedDict[str, list[bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._embeddings: dict[str, NDArray[np.float32]] = {}
        self._load()

    def report(self) -> list[dict[str, object]]:
        """Return what the page shows of every clip."""
        suggested = best_to_label({name: clip.num_frames for name, clip in self.clips.items()})
        return [
            {
                "name": name,
                "frames": clip.num_frames,
                "suggested": name in suggested,
                "by_hand": name in self.labels and self.labels[name].by_hand,
                "cuts": [list(cut) for cut in self.labels[name].cuts] if name in self.labels else [],
            }
            for name, clip in self.clips.items()
        ]

    def picture(self, name: str, frame: int) -> bytes:
        """Return one frame as JPEG.

        Raises:
            AnnotationError: No such clip or frame.
        """
        clip = self._clip(name)
        if not 0 <= frame < clip.num_frames:
            raise AnnotationError(f"{name}: no frame {frame}; it has {clip.num_frames}")
        with self._lock:
            if name not in self._pictures:
                self._pictures[name] = list(clip.pictures())
                while len(self._pictures) > KEPT_CLIPS:
                    self._pictures.popitem(last=False)
            self._pictures.move_to_end(name)
            return self._pictures[name][min(frame, len(self._pictures[name]) - 1)]

    def label(self, name: str, rows: object) -> str:
        """Take the cuts of one clip from the page; they count as set by hand.

        Raises:
            AnnotationError: They are no cuts of that clip.
        """
        cuts = checked(rows, self._clip(name).num_frames, name)
        if cuts:
            self.labels[name] = Labelling(tuple(cut._replace(confidence=1.0) for cut in cuts))
        else:
            self.labels.pop(name, None)
        self._keep()
        return f"{name}: {len(cuts)} cuts"

    def transfer(self) -> str:
        """Bring what was set by hand to every other clip of the same task.

        Raises:
            AnnotationError: Nothing was set by hand.
        """
        by_hand = {name: said for name, said in self.labels.items() if said.by_hand}
        if not by_hand:
            raise AnnotationError("no clip is labelled by hand yet: set the steps of one or two first")
        with self._lock:
            if not self._embeddings:
                rows = embed([clip.numbers() for clip in self.clips.values()])
                self._embeddings = dict(zip(self.clips, rows, strict=True))
        count = 0
        for name, clip in self.clips.items():
            known = [
                Known(self._embeddings[other], said)
                for other, said in by_hand.items()
                if self.clips[other].task == clip.task
            ]
            if name not in by_hand and known:
                self.labels[name] = transfer(known, self._embeddings[name], self.collection.fps)
                count += 1
        self._keep()
        return f"the steps of {len(by_hand)} clips were brought to {count}; look at the least sure first"

    def save(self) -> str:
        """Write the annotations, and the data themselves where that was asked for."""
        path = write_annotations(self.collection, self.labels, self.out)
        if not self.into_data:
            return f"{path}: {len(self.labels)} clips"
        return f"{path}; steps written into {write_into_data(self.collection, self.labels)} episodes"

    def _clip(self, name: str) -> Clip:
        if name not in self.clips:
            raise AnnotationError(f"no clip {name!r}")
        return self.clips[name]

    def _load(self) -> None:
        """Go on with an earlier session, or start with the steps that the data have."""
        path = self.out / SESSION
        if not path.is_file():
            given = {name: clip.steps() for name, clip in self.clips.items()}
            self.labels = {n: Labelling.of_segments(steps) for n, steps in given.items() if steps}
            return
        data = load_json(path, AnnotationError)
        kept = data.get("labels")
        if data.get("schema") != SESSION_SCHEMA or not isinstance(kept, dict) or set(kept) - set(self.clips):
            raise AnnotationError(f"{path}: belongs to another set of clips; choose another folder for --out")
        for name, entry in kept.items():
            cuts = checked(entry["cuts"], self.clips[name].num_frames, f"{path}: {name}")
            self.labels[name] = Labelling(cuts, bool(entry["by_hand"]))

    def _keep(self) -> None:
        """Write the session in one step, so that a kill leaves the old or the new one."""
        labels = {
            name: {"by_hand": said.by_hand, "cuts": [list(cut) for cut in said.cuts]}
            for name, said in self.labels.items()
        }
        self.out.mkdir(parents=True, exist_ok=True)
        temporary = self.out / f".{SESSION}.writing"
        temporary.write_text(json.dumps({"schema": SESSION_SCHEMA, "labels": labels}), encoding="utf-8")
        os.replace(temporary, self.out / SESSION)
