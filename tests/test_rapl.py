"""The processor's own counters, on a made tree of powercap files."""

import threading
from pathlib import Path

import pytest

from spikebottlenet.accounting.rapl import Meter, find_domains, grown_uj, metering
from spikebottlenet.errors import ConfigError

RANGE = 262_143_328_850


def domain(root: Path, name: str, label: str, value: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{label}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{value}\n")
    return folder / "energy_uj"


def test_packages_and_their_parts_are_read_by_name(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    memory = domain(tmp_path, "intel-rapl:0:1", "dram", 5)
    (tmp_path / "intel-rapl").mkdir()  # the control type itself has no counter
    with metering(tmp_path) as meter:
        package.write_text("3500000")
        memory.write_text("250005")
        found = meter.read()
    assert found.by_domain == {"package-0": 2.5, "package-0.dram": 0.25}
    assert "package-0 2.500 J (25.000 mJ an image)" in found.sentence(100)


def test_a_counter_that_starts_again_has_gone_on(tmp_path: Path) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", RANGE - 999_999)
    meter = Meter(find_domains(tmp_path))
    counter.write_text("0")
    meter.sample()
    counter.write_text("500000")
    assert meter.read().by_domain == {"package-0": 1.5}
    assert grown_uj(RANGE, 0, RANGE) == 1


def test_a_thread_samples_while_the_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    sampled = threading.Event()
    sample = Meter.sample

    def and_tell(meter: Meter) -> None:
        sample(meter)
        if threading.current_thread() is not threading.main_thread():
            sampled.set()

    monkeypatch.setattr(Meter, "sample", and_tell)
    with metering(tmp_path, sample_s=0.001) as meter:
        counter.write_text(str(RANGE))
        sampled.clear()
        assert sampled.wait(10)
        sampled.clear()
        assert sampled.wait(10)  # one that began after the write
        counter.write_text("7")
        assert meter.read().by_domain["package-0"] == pytest.approx((RANGE + 8) / 1e6)
    assert "rapl" not in [thread.name for thread in threading.enumerate()]


def test_counters_that_may_not_be_read_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    read = Path.read_text

    def refused(path: Path, *arguments: object, **options: object) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_text", refused)  # tests may run as root, who may read all
    with pytest.raises(ConfigError, match="run as root, or let a trusted group") as caught:
        find_domains(tmp_path)
    assert str(counter) in str(caught.value)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with metering(tmp_path / "none") as meter:
        found = meter.read()
    assert found.by_domain == {}
    assert "no RAPL" in found.sentence(10)
