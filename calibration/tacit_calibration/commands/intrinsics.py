"""`tacit calibrate intrinsics`: pictures of the board to K and D."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.config.arguments import NewFile
from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera, FisheyeCamera
from tacit.geometry.camera_info import camera_to_yaml_dict
from tacit.images import Image
from tacit.record.samples import FILE_NAME, load_samples
from tacit_calibration.board import Board
from tacit_calibration.commands.place import Flat, Where, Workplace, say, track
from tacit_calibration.detection import Detections, detect_folder, detect_images, gray_of, read_picture
from tacit_calibration.intrinsics import LensModel
from tacit_calibration.kalibr import camchain_of
from tacit_calibration.lens_choice import KALIBR_MODELS, SIMPLEST_FIRST, LensChoice, choose_lens
from tacit_calibration.lens_files import read_lens, write_camera_info, write_kalibr, write_opencv
from tacit_calibration.pictures import coverage_picture
from tacit_calibration.rig_update import record_of, with_intrinsics
from tacit_calibration.samples import picture


@dataclass(frozen=True)
class IntrinsicsArgs:
    """Fit K and D of a camera from pictures of the board."""

    camera: Annotated[str, tyro.conf.arg(help="Name of the camera, as in the rig.")] = "camera"
    images: Annotated[Path | None, tyro.conf.arg(help="Folder of pictures; the session's if left out.")] = (
        None
    )
    model: Annotated[
        LensModel | None,
        tyro.conf.arg(help="Lens model; chosen by the error on views left out if not given."),
    ] = None
    out: Annotated[NewFile | None, tyro.conf.arg(help="camera_info file; default <camera>.yaml.")] = None
    opencv_out: Annotated[NewFile | None, tyro.conf.arg(help="File for cv2.FileStorage, as well.")] = None
    kalibr_out: Annotated[
        Path | None, tyro.conf.arg(help="Camchain of Kalibr, as well: only its lens models are tried then.")
    ] = None
    camera_info: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Take the lens from this file instead of pictures: ROS camera_info or an echoed CameraInfo, "
            "OpenCV's FileStorage, a camchain of Kalibr."
        ),
    ] = None
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Calibrate, write the camera_info file, and print or write the part of the rig."""
        place = self._place()
        if self.camera_info is not None:
            return self._take(read_lens(self.camera_info), place)
        if self.images is None and place is None:
            raise CalibrationError("--images is missing: give the folder with the pictures, or --session")
        folder = self.images if place is None else place.samples(self.images, self.camera)
        assert folder is not None
        board = self.where.given_board if place is None else place.board
        detections = _detected(folder, board)
        say(f"board found in {len(detections.views)} of {detections.num_pictures} pictures")
        for name in detections.without_board:
            say(f"  turned away {name}: {detections.reasons.get(name, 'no board found')}")
        chosen = choose_lens(
            detections, lambda name: gray_of(read_picture(folder / name)), board, self._models(), say
        )
        report(chosen)
        self._write(chosen.result.camera, place)
        if place is not None:
            self._finish(place, chosen)
        return 0

    def _models(self) -> tuple[LensModel, ...]:
        if self.model is not None:
            return (self.model,)
        return SIMPLEST_FIRST if self.kalibr_out is None else KALIBR_MODELS

    def _write(self, camera: Camera, place: Workplace | None) -> None:
        """Write the lens in every form that was asked for, and say its part of the rig."""
        out = self.out or self._default_out(place)
        if self.kalibr_out is not None:
            camchain_of(camera, self.camera)  # refuses before anything is written
        write_camera_info(out, camera, self.camera)
        say(f"\nwrote {out} (ROS camera_info)")
        if self.opencv_out is not None:
            write_opencv(self.opencv_out, camera)
            say(f"wrote {self.opencv_out} (OpenCV FileStorage)")
        if self.kalibr_out is not None:
            write_kalibr(self.kalibr_out, camera, self.camera)
            say(f"wrote {self.kalibr_out} (Kalibr camchain)")
        say(f"for the rig, under cameras.{self.camera}:\n")
        say(rig_snippet(camera))
        if place is None:
            say(
                "next: this lens into a rig with `tacit calibrate intrinsics --camera-info "
                f"{out} --rig <rig> --rig-out <file>`, or straight to `tacit calibrate handeye --lens {out}`"
            )

    def _take(self, camera: Camera, place: Workplace | None) -> int:
        """Put a lens that another tool calibrated into the rig."""
        say(f"lens of {self.camera_info}; for the rig, under cameras.{self.camera}:\n")
        say(rig_snippet(camera))
        if place is not None:
            record = record_of(place.rig, f"intrinsics --camera-info {Path(str(self.camera_info)).name}")
            data = record.model_dump() | {"camera": camera_to_yaml_dict(camera, self.camera)}
            rig = with_intrinsics(place.rig, self.camera, camera, record)
            place.finish(rig, f"intrinsics-{self.camera}", data)
        return 0

    def _place(self) -> Workplace | None:
        """A lens can be calibrated without any rig."""
        where = self.where
        if where.session is None and where.rig is None and where.rig_out is None:
            return None
        if where.session is None and (where.rig is None) != (where.rig_out is None):
            raise CalibrationError("--rig and --rig-out belong together: which rig, and where to write it")
        return where.open()

    def _default_out(self, place: Workplace | None) -> Path:
        name = f"{self.camera}.yaml"
        if place is None or place.session is None:
            return Path(name)
        return place.session.folder / name

    def _finish(self, place: Workplace, chosen: LensChoice) -> None:
        result = chosen.result
        record = record_of(
            place.rig,
            "intrinsics",
            num_views=len(result.views),
            rms_px=result.rms_px,
            held_out_px=result.held_out_rms_px,
            board=place.board.name,
        )
        rig = with_intrinsics(place.rig, self.camera, result.camera, record)
        data = record.model_dump() | {
            "camera": camera_to_yaml_dict(result.camera, self.camera),
            "focal_sigma_px": [float(sigma) for sigma in result.focal_sigma_px],
            "coverage": result.coverage,
            "uncertainty_px": np.round(result.uncertainty_px, 4).tolist(),
            "views_px": result.views,
            "dropped_px": result.dropped,
            "model": chosen.model,
            "corners": chosen.corners,
            "corners_held_out_px": {name: float(way.error_px) for name, way in chosen.ways.items()},
            "models_held_out_px": {name: float(error) for name, error in chosen.model_errors.items()},
        }
        picture = coverage_picture(result, chosen.views)
        place.finish(rig, f"intrinsics-{self.camera}", data, picture)


def _detected(folder: Path, board: Board) -> Detections:
    """Return what is found in the pictures of a folder; of samples in those that are listed alone."""
    if not (folder / FILE_NAME).is_file():
        return detect_folder(folder, board, _tracked)
    samples = load_samples(folder).samples
    return detect_images([(sample.image, picture(folder, sample)) for sample in samples], board, _tracked)


def _tracked(pictures: list[tuple[str, Image]]) -> Iterable[tuple[str, Image]]:
    return track(pictures, "pictures")


def rig_snippet(camera: Camera) -> str:
    """Return the lines of a rig's camera entry that describe the lens."""
    rows = "\n".join(f"    - [{', '.join(f'{value:.6f}' for value in row)}]" for row in camera.K)
    D = ", ".join(f"{value:.8f}" for value in camera.D)
    model = "fisheye" if isinstance(camera, FisheyeCamera) else "pinhole"
    size = f"    width: {camera.width}\n    height: {camera.height}\n"
    return f"{size}    model: {model}\n    K:\n{rows}\n    D: [{D}]\n"


def report(chosen: LensChoice) -> None:
    """Say which lens was chosen, and how good it is."""
    result, camera = chosen.result, chosen.result.camera
    say(f"kept: {chosen.model}, corners {chosen.corners}")
    for name, error in sorted(result.dropped.items()):
        say(f"dropped {name}: {error:.2f} px, does not fit the other views")
    say(f"{len(result.views)} views used, tilt up to {result.tilt_deg:.0f} deg")
    more = " (aim at 70 % and more)" if result.coverage < 0.7 else ""
    say(f"image covered by corners: {result.coverage:.0%}{more}")
    say(f"RMS {result.rms_px:.3f} px, held out {result.held_out_rms_px:.3f} px")
    sigma, unsure = result.focal_sigma_px, result.uncertainty_px
    say(f"where it puts a ray, one sigma: {np.nanmedian(unsure):.2f} px, {np.nanmax(unsure):.2f} at worst")
    for warning in result.warnings:
        say(f"WARNING {warning}")
    say(f"fx {camera.K[0, 0]:.2f} +- {sigma[0]:.2f} px, fy {camera.K[1, 1]:.2f} +- {sigma[1]:.2f} px")
