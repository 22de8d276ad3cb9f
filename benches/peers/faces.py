"""The face models of the daemon's pack, run the usual Python way: OpenCV for pixels, onnxruntime for networks.

Used by `python_stack.py` and `service.py`. Pictures are BGR arrays of 8 bits as OpenCV decodes them. Crops and inputs follow `models/manifest.toml`
and `src/face/`, so that scores can be compared with the daemon's; where OpenCV has a function for it, that function is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

# Positions of the five landmarks as shares of the crop's side: the ArcFace template, and dlib's mean face in the unit box.
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) / 112
DLIB = np.array([[0.225492, 0.215990], [0.754761, 0.215990], [0.490127, 0.515625], [0.254149, 0.780233], [0.726104, 0.780233]])

DLIB_MEAN_RGB = (122.782, 117.001, 104.298)
FACERES_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)

# The daemon's sizes of detection, smallest first; the next is taken where no face is both surely one and large enough.
ESCALATING = (320, 640, 1280)
GOOD_SCORE = 0.8
GOOD_FACE_PX = 48
MIN_SCORE = 0.6
SAME_FACE_OVERLAP = 0.3


def let_spin(options: onnxruntime.SessionOptions, spins: bool) -> None:
    """Whether idle threads of a session wait for work in a loop, as by default, which takes processor time from all else, or asleep, as the daemon's do."""
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))


def dlib_template(padding: float) -> np.ndarray:
    return (padding + DLIB) / (1 + 2 * padding)


@dataclass
class Face:
    """In pixels of the picture: box as x, y, width, height; five points, image-left eye first."""

    box: np.ndarray
    points: np.ndarray
    score: float

    @property
    def centre(self) -> np.ndarray:
        return self.box[:2] + self.box[2:] / 2

    @property
    def area(self) -> float:
        return float(self.box[2] * self.box[3])


class Network:
    """One session, which any number of threads may share. `threads` 0 leaves the number to onnxruntime: all cores."""

    def __init__(self, path: Path, threads: int, spins: bool) -> None:
        options = onnxruntime.SessionOptions()
        let_spin(options, spins)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, tensor: np.ndarray, outputs: list[str] | None = None) -> list[np.ndarray]:
        return self.session.run(outputs, {self.input: tensor})


class FaceModels:
    """Every model that looks at faces, loaded once."""

    def __init__(self, pack: Path, threads: int, spins: bool = False) -> None:
        def load(name: str) -> Network:
            return Network(pack / f"{name}.onnx", threads, spins)

        self.yunet = load("yunet")
        self.sface = load("sface")
        self.dlib_resnet = load("dlib_resnet")
        self.landmarks = load("face_landmark")
        self.liveness_network = load("fr_liveness")
        self.dlib_age = load("dlib_age")
        self.faceres = load("faceres")

    def detect(self, image: np.ndarray, side: int) -> list[Face]:
        """One run with the longer side of the picture scaled to `side` pixels."""
        height, width = image.shape[:2]
        scale = side / max(height, width)
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = np.zeros((-(-small_height // 32) * 32, -(-small_width // 32) * 32, 3), np.uint8)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[:small_height, :small_width] = cv2.resize(image, (small_width, small_height), interpolation=interpolation)
        outputs = dict(zip(self.yunet.outputs, self.yunet.run(cv2.dnn.blobFromImage(canvas)), strict=True))
        boxes, points, scores = [], [], []
        for stride in (8, 16, 32):
            class_, object_ = (np.clip(outputs[f"{name}_{stride}"][0, :, 0], 0, 1) for name in ("cls", "obj"))
            score = np.sqrt(class_ * object_)
            (cells,) = np.nonzero(score > MIN_SCORE)
            row, column = np.divmod(cells, canvas.shape[1] // stride)
            corner = np.stack([column, row], 1)
            box = outputs[f"bbox_{stride}"][0, cells]
            size = np.exp(box[:, 2:]) * stride
            boxes.append(np.hstack([(corner + box[:, :2]) * stride - size / 2, size]))
            points.append((outputs[f"kps_{stride}"][0, cells].reshape(-1, 5, 2) + corner[:, None]) * stride)
            scores.append(score[cells])
        boxes, points, scores = np.concatenate(boxes), np.concatenate(points), np.concatenate(scores)
        if not len(scores):
            return []
        to_picture = np.array([width / small_width, height / small_height])
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), MIN_SCORE, SAME_FACE_OVERLAP)
        return [
            Face(boxes[index] * np.tile(to_picture, 2), points[index] * to_picture, float(scores[index]))
            for index in np.ravel(kept)
        ]

    def main_face(self, image: np.ndarray, sides: tuple[int, ...]) -> Face | None:
        """The largest face, looked for with each size of input in turn until there is a good one."""
        best: list[Face] = []
        long_side = max(image.shape[:2])
        for attempt, side in enumerate(sides):
            if attempt > 0 and long_side <= sides[attempt - 1]:
                break
            faces = self.detect(image, side)
            if any(face.score >= GOOD_SCORE and face.box[2] * side / long_side >= GOOD_FACE_PX for face in faces):
                best = faces
                break
            if max((face.score for face in faces), default=0) > max((face.score for face in best), default=0):
                best = faces
        return max(best, key=lambda face: face.area, default=None)

    def embed_sface(self, image: np.ndarray, face: Face, mirror: bool) -> np.ndarray:
        crop = aligned(image, face, ARCFACE, 112)
        return self._embedding(self.sface, cv2.dnn.blobFromImage(crop, swapRB=True), mirror)

    def embed_dlib(self, image: np.ndarray, face: Face, mirror: bool) -> np.ndarray:
        crop = aligned(image, face, dlib_template(0.25), 150)
        return self._embedding(self.dlib_resnet, dlib_input(crop), mirror)

    @staticmethod
    def _embedding(network: Network, tensor: np.ndarray, mirror: bool) -> np.ndarray:
        """A vector of length 1: of the crop, or the direction between it and its mirror image."""
        vectors = [unit(network.run(tensor)[0][0])]
        if mirror:
            vectors.append(unit(network.run(mirrored(tensor, axis=3))[0][0]))
        return unit(np.sum(vectors, axis=0))

    def liveness(self, image: np.ndarray, face: Face) -> float:
        """Probability that a live person is in front of the camera."""
        frame_height, frame_width = image.shape[:2]
        side = min(face.box[3] * 2.7, frame_width, frame_height)
        left, top = (
            np.clip(centre - side / 2, 0, length - side)
            for centre, length in zip(face.centre, (frame_width, frame_height), strict=True)
        )
        square = image[round(top) : round(top + side), round(left) : round(left + side)]
        interpolation = cv2.INTER_AREA if side > 128 else cv2.INTER_LINEAR
        crop = cv2.resize(square, (128, 128), interpolation=interpolation)
        logits = self.liveness_network.run(cv2.dnn.blobFromImage(crop))[0][0].astype(np.float64)
        powers = np.exp(logits - logits.max())
        return float(powers[0] / powers.sum())

    def ages(self, image: np.ndarray, face: Face, mirror: bool) -> dict[str, float]:
        """What both models say, in years."""
        return {"age_a_years": self.age_dlib(image, face, mirror), "age_b_years": self.age_faceres(image, face, mirror)}

    def age_dlib(self, image: np.ndarray, face: Face, mirror: bool) -> float:
        tensor = dlib_input(aligned(image, face, dlib_template(0.2), 64))
        inputs = [tensor, mirrored(tensor, axis=3)] if mirror else [tensor]
        return mean_age([self.dlib_age.run(one, ["probabilities"])[0] for one in inputs], first_age=0)

    def age_faceres(self, image: np.ndarray, face: Face, mirror: bool) -> float:
        crop = square(image, face.centre, face.box[2:].max() * 1.1, 0.0, 224)
        tensor = (crop.astype(np.float32) - FACERES_MEAN_BGR)[None]
        inputs = [tensor, mirrored(tensor, axis=2)] if mirror else [tensor]
        return mean_age([self.faceres.run(one, ["age_pred/Softmax"])[0] for one in inputs], first_age=1)

    def pose(self, image: np.ndarray, face: Face) -> dict[str, float]:
        """Yaw and pitch in degrees from the dense mesh, and the model's confidence that it sees a face."""
        (left_x, left_y), (right_x, right_y) = face.points[:2]
        roll = math.degrees(math.atan2(right_y - left_y, right_x - left_x))
        crop = square(image, face.centre, face.box[2:].max() * 1.5, roll, 192)
        tensor = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32)[None] / 255
        mesh, presence = self.landmarks.run(tensor, ["conv2d_21", "conv2d_31"])
        mesh = mesh.reshape(-1, 3)
        across, down = mesh[454] - mesh[234], mesh[152] - mesh[10]
        return {
            "yaw_deg": math.degrees(math.atan2(across[2], across[0])),
            "pitch_deg": -math.degrees(math.atan2(down[2], down[1])),
            "face_presence": 1 / (1 + math.exp(-float(presence.ravel()[0]))),
        }


def mean_age(distributions: list[np.ndarray], first_age: int) -> float:
    """Mean over the given distributions of the age that each expects."""
    ages = np.arange(distributions[0].size) + first_age
    return float(np.mean([(one.ravel() * ages).sum() / one.sum() for one in distributions]))


def mirrored(tensor: np.ndarray, axis: int) -> np.ndarray:
    return np.ascontiguousarray(np.flip(tensor, axis))


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def dlib_input(crop: np.ndarray) -> np.ndarray:
    return cv2.dnn.blobFromImage(crop, 1 / 256, mean=DLIB_MEAN_RGB, swapRB=True)


def aligned(image: np.ndarray, face: Face, template: np.ndarray, side: int) -> np.ndarray:
    """The face turned, scaled and shifted by the least-squares similarity that brings its landmarks to the template."""
    source, target = face.points, template * side
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    # In complex numbers the similarity is one factor.
    factor = np.sum(np.conj(a @ [1, 1j]) * (b @ [1, 1j])) / np.sum(a**2)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return warped(image, np.column_stack([linear, target_mean - linear @ source_mean]), side)


def square(image: np.ndarray, centre: np.ndarray, side_px: float, roll_deg: float, side: int) -> np.ndarray:
    """A square around `centre`, turned so that what leans by `roll_deg` stands upright."""
    to_crop = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), roll_deg, side / side_px)
    to_crop[:, 2] += side / 2 - np.asarray(centre)
    return warped(image, to_crop, side)


def warped(image: np.ndarray, to_crop: np.ndarray, side: int) -> np.ndarray:
    """An affine crop. `warpAffine` reads single pixels, so what is made smaller is cut out at about its own size and then averaged."""
    times = math.ceil(1 / math.sqrt(abs(np.linalg.det(to_crop[:, :2]))))
    if times > 1:
        to_crop = to_crop * times
        # Pixels count by their centres.
        to_crop[:, 2] += (times - 1) / 2
    cut = cv2.warpAffine(image, to_crop, (side * times, side * times), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cut if times == 1 else cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)


def decode(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("the picture cannot be decoded")
    return image
