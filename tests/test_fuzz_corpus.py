"""What fuzzing found stays found: kept inputs and attacks replayed, and the limits behind them."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from spikebottlenet.bundle import CONTEXT, MANIFEST, PRIOR, Bundle, Half, Preprocess, open_bundle
from spikebottlenet.config import Settings, read_yaml
from spikebottlenet.errors import BundleError, ConfigError, ImageError, TooLargeError
from spikebottlenet.preprocess import read_image
from tests.fuzz.attacks import attacks
from tests.fuzz.image import MAX_IMAGE_PIXELS
from tests.fuzz.limits import ALLOCATION_BYTES, LimitError, run_watched
from tests.fuzz.targets import TARGETS, corpus

ROOT = Path(__file__).parent.parent
WANTED = Preprocess(side=32, mean_colour=(129, 124, 112))


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The attacks by name."""
    found = [(name, data) for name, _, data in attacks()]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("what", [*TARGETS, "attacks"])
def test_no_kept_input_breaks_a_target_or_a_limit(what: str, made: dict[str, bytes]) -> None:
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.fuzz.replay", what],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    replayed = json.loads(done.stdout.splitlines()[-1])["inputs"]
    assert replayed == (len(corpus(what)) if what in TARGETS else len(made))
    assert replayed > 10


def test_the_watch_sees_time_memory_and_foreign_errors() -> None:
    def spin(_: bytes) -> None:
        ends = time.process_time() + 0.1
        while time.process_time() < ends:
            pass

    def touch(_: bytes) -> None:
        np.ones(ALLOCATION_BYTES // 2, np.uint8).sum()

    def reserve(_: bytes) -> None:
        np.empty(2 * ALLOCATION_BYTES, np.uint8)

    def reserve_in_secret(data: bytes) -> None:
        try:
            reserve(data)
        except MemoryError as error:
            raise ImageError("damaged") from error

    def refuse(_: bytes) -> None:
        raise ImageError("damaged")

    def stumble(_: bytes) -> None:
        raise KeyError("shape")

    with pytest.raises(LimitError, match="took"):
        run_watched(spin, b"", hang_s=0.05)
    assert run_watched(touch, b"").peak_bytes > ALLOCATION_BYTES // 4
    with pytest.raises(MemoryError):
        run_watched(reserve, b"")
    with pytest.raises(LimitError, match="allocation"):
        run_watched(reserve_in_secret, b"")
    assert run_watched(refuse, b"").cpu_s < 1
    with pytest.raises(KeyError):
        run_watched(stumble, b"")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x]\nb: *a\n", "alias"),
        ("[" * 40 + "]" * 40, "nested deeper than 32"),
        ("? " * 40, "nested deeper than 32"),
        ("[" + "a," * 10_001 + "]", "more than 10000 values"),
        ("a: " + "9" * 65, "number of 65 characters"),
        ("a: " + "1:" * 65 + "1.5", "number of 133 characters"),
        ("# " + "x" * 131_072, "131072 bytes"),
        ("a: !!int x", "not YAML that can be used"),
        ("a: 2001-99-99", "not YAML that can be used"),
        ("a: b: c", "not YAML that can be used"),
    ],
)
def test_yaml_above_a_limit_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_yaml(path)


def test_yaml_within_the_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("[" * 31 + "]" * 31)
    assert read_yaml(path) != {}
    path.write_text("a: " + "9" * 60 + "\nb: 1e3\nc: 0x1f\n" + "d: [" + "a," * 9_000 + "]")
    found = read_yaml(path)
    assert isinstance(found, dict)
    assert (found["a"], found["c"], len(found["d"])) == (int("9" * 60), 31, 9_000)
    path.write_text("")
    assert read_yaml(path) == {}


class _Toy(Settings):
    rate: float = 1.0


def test_a_settings_error_is_short_whatever_was_found() -> None:
    many = {f"key_{'x' * 100}_{number}": "y" * 10_000 for number in range(1000)}
    with pytest.raises(ConfigError, match="and 992 more") as caught:
        _Toy.parse(many, source="here")
    assert len(str(caught.value)) < 2000
    with pytest.raises(ConfigError) as caught:
        _Toy.parse({"rate": "z" * 100_000}, source="here")
    assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match="finite"):
        _Toy.parse({"rate": float("inf")}, source="here")
    with pytest.raises(ConfigError):
        _Toy.parse({1: 2}, source="here")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "..", ".hidden", "a\n", ""])
def test_a_bundle_names_no_file_outside_its_folder(bundle: Bundle, name: str) -> None:
    plain = bundle.manifest.model_dump(mode="json")
    plain["files"][name] = "0" * 64
    with pytest.raises(ConfigError, match="files"):
        type(bundle.manifest).parse(plain, source="here")


def test_a_prior_is_what_its_shape_says_or_refused(bundle: Bundle, tmp_path: Path) -> None:
    prior = np.load(bundle.path(PRIOR))
    copy = Bundle(tmp_path, bundle.manifest)
    if CONTEXT in bundle.manifest.files:
        copy.path(CONTEXT).symlink_to(bundle.path(CONTEXT))
    np.save(copy.path(PRIOR), prior)
    assert np.array_equal(copy.codec().prior, prior)
    whole = copy.path(PRIOR).read_bytes()
    lies = [
        whole.replace(b"(2, 16, ", b"(9, 99, "),
        whole.replace(b"<u2", b"<i2"),
        whole.replace(b"'fortran_order': False", b"'fortran_order': True "),
        whole.replace(b"NUMPY\1", b"NUMPY\2"),
        whole[:-1],
        whole + b"\0",
        whole.replace(b"{", b"["),
    ]
    for lie in lies:
        assert lie != whole
        copy.path(PRIOR).write_bytes(lie)
        with pytest.raises(BundleError, match="cannot use"):
            copy.codec()


@pytest.mark.parametrize(
    ("found", "instead", "said"),
    [
        (["architecture", "width"], 10**9, "width 1000000000"),
        (["architecture", "side"], 10**9, "side 32, the network takes 1000000000"),
        (["preprocess", "side"], 10**9, "less than or equal to 4096"),
        (["preprocess", "mean_colour"], [256, 0, -1], "mean_colour"),
        (["operations", "tail_macs"], [1], "1 timesteps"),
        (["architecture", "channels"], 10**9, "bytes, wanted"),
    ],
)
def test_a_number_of_the_manifest_that_takes_memory_is_bounded(
    bundle: Bundle, tmp_path: Path, found: list[str], instead: object, said: str
) -> None:
    for name in bundle.manifest.files_of(Half.CLOUD):
        (tmp_path / name).symlink_to(bundle.path(name))
    plain = bundle.manifest.model_dump(mode="json")
    part, key = found
    plain[part][key] = instead
    (tmp_path / MANIFEST).write_text(yaml.safe_dump(plain))
    with pytest.raises(BundleError, match=said):
        open_bundle(tmp_path, Half.CLOUD).codec()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright_pixel_for_pixel(orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    noise = np.random.default_rng(0).integers(0, 256, (301, 420, 4), dtype=np.uint8)
    upright = Image.fromarray(noise)
    stored = upright if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(_read(stored, exif=exif), _read(upright))


def _read(image: Image.Image, **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return read_image(file.getvalue(), WANTED)


def test_what_costs_more_than_its_pixels_is_refused_by_name(made: dict[str, bytes]) -> None:
    said = {
        "PNG texts": "texts",
        "PNG of many b'tEXt'": "pieces",
        "JPEG of many comments": "pieces",
        "JPEG of many scans": "scans",
        "TIFF of many values of 273": "tag values",
        "icon that holds a large image": "icon holds",
        "PPM of words": "as words",
        "PPM of comments": "pieces",
        "BMP of runs": "slow to decode",
        "QOI, decoded in Python": "slow to decode",
    }
    for name, reason in said.items():
        with pytest.raises(TooLargeError, match=reason):
            read_image(made[name], WANTED, max_image_pixels=MAX_IMAGE_PIXELS)
