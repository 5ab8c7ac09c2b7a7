"""Reports: tables, frontiers and targets from points, and what they say of what is missing."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spikebottlenet.bundle import Half, default_bundle, open_bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import DataError
from spikebottlenet.lab.report.build import build
from spikebottlenet.lab.report.figures import drops
from spikebottlenet.lab.report.frontier import Mark, front
from spikebottlenet.lab.report.markdown import markdown
from spikebottlenet.lab.report.page import html_page
from spikebottlenet.lab.report.runs import read_groups, run_names
from spikebottlenet.lab.report.tables import (
    confusion_table,
    cut_table,
    integer_table,
    missing_lines,
    tail_table,
)
from spikebottlenet.lab.report.targets import Verdict, verdicts
from spikebottlenet.lab.report.write import write_report
from spikebottlenet.lab.results import EnergyEstimate, Method, add_points, read_results
from tests.made_results import NAMES, point, rivals, spikes, write_run


class Page(HTMLParser):
    """Collects what a page fetches, its identifiers and its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.open: list[str] = []
        self.heads = self.tables = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag in ("link", "script", "img", "iframe", "use", "image") or "src" in found:
            self.fetched.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.referred += found.get("aria-labelledby", "").split()
        self.tables += tag == "table"
        self.heads += tag == "th" and found.get("scope") == "col"

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def verdict(folder: Path, points: list, beginning: str) -> Verdict:
    (group,) = read_groups([write_run(folder, points)])
    return next(each for each in verdicts(group) if each.wanted.startswith(beginning))


def test_results_are_what_was_written(tmp_path: Path) -> None:
    own, others = spikes(73, 190, 60), rivals()
    run = write_run(tmp_path / "run", [own, *others])
    again = spikes(74, 180, 50)
    write_run(run, [again])  # takes the older one's place
    kept = read_results(run).points
    assert list(kept) == [again, *others]
    assert json.loads((run / "results.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no results.json in"),
        ("{", "not a results file that can be read"),
        ("[]", "found list, wanted a mapping"),
        ('{"points": []}', "version None of results, wanted 1"),
        ('{"version": 99}', "version 99 of results, wanted 1"),
        ('{"version": 1, "class_names": ["a"], "pionts": []}', "did you mean 'points'"),
        ('{"version": 1, "class_names": ["a"], "points": [{"top1": 200}]}', "less than or equal"),
        ('{"version": 1, "class_names": ["a"]}', "holds no point"),
    ],
)
def test_bad_results_are_named(text: str | None, says: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if text is not None:
        (run / "results.json").write_text(text)
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, DataError)
    assert says in str(done.exception)
    assert str(run) in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_results_of_other_classes_are_not_mixed_in(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [spikes(73, 190, 60)])
    with pytest.raises(DataError, match="4 other classes than these 2"):
        write_run(run, [spikes(73, 190, 60)], ("cat", "dog"))


def test_runs_are_told_apart_by_their_paths_ends(tmp_path: Path) -> None:
    assert run_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
    assert run_names([tmp_path / "a" / "x", tmp_path / "a" / "y"]) == ["x", "y"]
    with pytest.raises(DataError, match="given twice"):
        run_names([tmp_path, tmp_path])


def test_the_front_is_what_nothing_beats() -> None:
    marks = [Mark(5, 70), Mark(1, 60), Mark(3, 70), Mark(3, 65), Mark(9, 71), Mark(10, 70)]
    assert front(marks) == (1, 2, 4)
    assert front([]) == ()


def test_both_drops_are_told_apart(tmp_path: Path) -> None:
    (group,) = read_groups([write_run(tmp_path / "run", [spikes(73, 190, 60), *rivals()])])
    (own,) = group.of(Method.SPIKES)
    assert drops(group, own) == (pytest.approx(1.0), pytest.approx(2.0))  # of 74 and of 75
    alone = read_groups([write_run(tmp_path / "alone", [spikes(73, 190, 60, uncut_top1=None)])])
    assert drops(alone[0], alone[0].placed[0]) == (None, None)


def test_features_passed_whole_are_no_other_runs(tmp_path: Path) -> None:
    here = write_run(tmp_path / "here", [spikes(73, 190, 60)])
    there = write_run(tmp_path / "there", rivals())
    (group,) = read_groups([here, there])
    (own,) = group.of(Method.SPIKES)
    assert drops(group, own).bottleneck is None  # another run's head
    assert group.beside(own, Method.BOTTLENETPP)  # a rival at the same cut is one wherever it is


def test_the_papers_table(tmp_path: Path) -> None:
    (group,) = read_groups([write_run(tmp_path / "run", [spikes(73, 200, 60), *rivals()])])
    table = cut_table(group)
    (row,) = table.rows
    assert dict(zip(table.columns, row, strict=True)) == {
        "cut": "resnet18 layer2, T=2",
        "run": "run",
        "bit compression": "256x",
        "top-1 %": "73.00",
        "bottleneck drop": "+1.00",
        "total drop": "+2.00",
        "bytes mean": "200.0",
        "bytes p99": "240.0",
        "wire bytes": "214.0",
        "edge uJ": "60.0",
        "ordinary head": "20.0x",  # 1200 / 60
        "BottleNet++ energy": "20.5x",  # 1230 / 60
        "8-bit head energy": "1.02x",  # 61.5 / 60
        "BottleNet++ bytes": "1.25x",  # 250 / 200
        "image file bytes": "2.60x",  # webp 60, the smallest that is as accurate: 520 / 200
    }


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    (group,) = read_groups([write_run(tmp_path / "run", [spikes(73, 190, 60, uncut_top1=None)])])
    table = cut_table(group)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert {row[name] for name in ("bottleneck drop", "total drop", "image file bytes")} == {"-"}
    said = " ".join(missing_lines(group))
    for kind in ("whole", "bottlenetpp", "integer", "features", "image", "edge-only"):
        assert re.search(rf"--only \S*\b{kind}\b", said)
    assert "total drop is not known" in said
    full = read_groups([write_run(tmp_path / "full", [spikes(73, 190, 60), *rivals()])])
    assert missing_lines(full[0]) == ()


def test_an_integer_tail_stands_beside_the_float_one(tmp_path: Path) -> None:
    plain, eight = spikes(70, 190, 60), spikes(71, 190, 60, int8_tail_top1=70.8, setting="other")
    (with_one,) = read_groups([write_run(tmp_path / "both", [plain, eight])])
    ((_, *figures),) = tail_table(with_one).rows
    assert figures == ["71.00", "70.80", "-0.20"]
    (without,) = read_groups([write_run(tmp_path / "plain", [plain])])
    title = "Tail on 8-bit integers"
    assert title in markdown(build([with_one]))
    assert title not in markdown(build([without]))


def test_integer_heads_are_held_against_integer_heads(tmp_path: Path) -> None:
    def estimate(model: str, uj: float) -> EnergyEstimate:
        return EnergyEstimate(
            model=model, edge_uj=uj, ordinary_head_uj=400, ordinary_int8_head_uj=30
        )

    both = (estimate("horowitz45-fp32", 34), estimate("horowitz45-int8", 7.5))
    eight = spikes(70, 91, 34, energy=both, head_bits=8, setting="8-bit head")
    plain = spikes(70, 91, 34)
    rival = point(
        Method.INTEGER, "2 channels", 71, 135, 30, energy=(estimate("horowitz45-int8", 30),)
    )
    (group,) = read_groups([write_run(tmp_path / "run", [plain, eight, rival])])
    ((_, *figures),) = integer_table(group).rows
    assert figures == ["7.5", "4.00x", "53.3x"]
    assert "Heads on integer weights" in markdown(build([group]))
    table = cut_table(group)
    column = table.columns.index("8-bit head energy")
    assert sorted(row[column] for row in table.rows) == ["0.88x", "4.00x"]


def test_near_classes_are_counted_both_ways(tmp_path: Path) -> None:
    uncut = point(Method.EDGE_ORDINARY, "un-cut network", 75, 0, 2500, confusion=((3, 2, 9),))
    (group,) = read_groups([write_run(tmp_path / "run", [spikes(73, 190, 60), uncut])])
    table = confusion_table(group, group.of(Method.SPIKES)[0])
    assert table.rows == (
        ("maple_tree and oak_tree", "30", "1", "9"),
        ("apple and pear", "5", "7", "0"),
    )


def test_targets_say_hit_or_by_how_much(tmp_path: Path) -> None:
    stage = "resnet18, layer2: at most 256"
    assert verdict(tmp_path / "a", [spikes(73.5, 193, 60)], stage).hit is True
    large = verdict(tmp_path / "b", [spikes(73.5, 300, 60)], stage)
    assert (large.hit, large.missed_by) == (False, "44.00 B")
    lossy = verdict(tmp_path / "c", [spikes(72.0, 193, 60)], stage)
    assert (lossy.hit, lossy.missed_by) == (False, "1.00 points")  # 3 lost, 2 allowed
    assert verdict(tmp_path / "d", [spikes(73.5, 193, 60, cut="layer1")], stage).hit is None

    energy = "edge compute energy at least 30x"
    assert verdict(tmp_path / "e", [spikes(73.5, 193, 40)], energy).hit is True  # 1200 / 40
    short = verdict(tmp_path / "f", [spikes(73.5, 193, 80)], energy)
    assert (short.hit, short.missed_by) == (False, "2.00 times")

    last = "resnet18, last stage"
    deep = {"cut": "layer4"}
    near = [spikes(73.9, 60, 60, **deep), *rivals(**deep)]
    assert verdict(tmp_path / "g", near, last).hit is True  # 0.1 of 74
    far = [spikes(73.0, 60, 60, **deep), *rivals(**deep)]
    assert verdict(tmp_path / "h", far, last).missed_by == "0.84 points"
    wide = [spikes(73.9, 60, 60, bit_compression=128.0, **deep), *rivals(**deep)]
    assert verdict(tmp_path / "i", wide, last).missed_by == "2.00 times"


def test_a_rival_is_beaten_in_all_three_or_not_at_all(tmp_path: Path) -> None:
    name = "BottleNet++ dominated"
    assert verdict(tmp_path / "a", [spikes(73.5, 190, 60), *rivals()], name).hit is True
    less = verdict(tmp_path / "b", [spikes(72.5, 190, 60), *rivals()], name)
    assert (less.hit, less.missed_by) == (False, "16 channels: 0.50 points at its bytes")
    more = verdict(tmp_path / "c", [spikes(73.5, 290, 60), *rivals()], name)
    assert more.missed_by == "16 channels: 250 B where ours needs 290 B"
    hot = verdict(tmp_path / "d", [spikes(73.5, 190, 2000), *rivals()], name)
    assert hot.missed_by == "16 channels: less edge energy"


def test_image_files_are_compared_at_no_lower_accuracy(tmp_path: Path) -> None:
    name = "at equal accuracy at least 4x"
    hit = verdict(tmp_path / "a", [spikes(73.0, 130, 60), *rivals()], name)
    assert (hit.hit, hit.found) == (True, "4.00x, a against webp 60")
    assert verdict(tmp_path / "b", [spikes(74.5, 130, 60), *rivals()], name).hit is None


def test_an_integer_head_is_held_against_its_float_twin(tmp_path: Path) -> None:
    eight = spikes(72.9, 190, 40, setting="8-bit head", head_bits=8, head_bytes=280)
    name = "integer head within"
    assert verdict(tmp_path / "a", [spikes(73, 190, 60), eight], name).hit is True
    large = eight.model_copy(update={"head_bytes": 500, "top1": 72.0})
    missed = verdict(tmp_path / "b", [spikes(73, 190, 60), large], name)
    assert missed.missed_by == "0.70 points, 20 % of the size"
    assert verdict(tmp_path / "c", [eight], name).hit is None


def test_different_images_have_sections_of_their_own(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [spikes(73, 190, 60), *rivals()])
    other = write_run(tmp_path / "other", [spikes(90, 100, 60, data="cifar10"), *rivals()])
    few = write_run(tmp_path / "few", [spikes(80, 100, 60, images=100)])
    document = build(read_groups([one, other, few]))
    titles = [section.title for section in document.sections]
    assert titles == [
        "uoft-cs/cifar100, split test, 10,000 images",
        "cifar10, split test, 10,000 images",
        "uoft-cs/cifar100, split test, 100 images",
    ]
    assert "cannot be compared" in " ".join(document.lines)
    tables = [block for block in document.sections[1].blocks if block.title == "Each cut"]
    assert [row[1] for row in tables[0].rows] == ["other"]


def test_a_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    names = ("<b>apple", "pear & plum", "maple|tree", "oak_tree")
    run = write_run(tmp_path / "run", [spikes(73, 190, 60), *rivals()], names)
    out = tmp_path / "out"
    arguments = ["report", str(run), "--out", str(out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    html = (out / "report.html").read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.fetched == []
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert "url(" not in html
    assert len(page.ids) == len(set(page.ids))
    assert set(page.referred) <= set(page.ids)
    assert page.tables >= 5
    assert "&lt;b&gt;apple" in html
    assert "prefers-color-scheme: dark" in html
    text = (out / "report.md").read_text()
    for name in re.findall(r"\]\((\S+\.svg)\)", text):
        assert (out / name).read_text().startswith("<svg")
    for heading in ("Each cut", "Accuracy against bytes", "Accuracy against edge energy"):
        assert f"### {heading}" in text
        assert f"{heading}</h3>" in html
    assert "Accuracy against timesteps" in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == page.tables
    for lines in blocks:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_a_run_of_baselines_alone_is_reported_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rivals())
    written = write_report([run], tmp_path / "out")
    assert "No cut network was measured" in written.text.read_text()
    Page().feed(html_page(build(read_groups([run]))))


def test_the_shipped_bundle_is_reported_as_its_manifest_says(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["report", "default", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0
    measured = open_bundle(default_bundle(), Half.EDGE).manifest.measured
    assert measured is not None
    text = (tmp_path / "report.md").read_text()
    lost = measured.uncut_top1 - measured.top1
    (row,) = [line for line in text.splitlines() if line.startswith("| resnet18 layer2")]
    cells = [cell.strip() for cell in row.split("|")]
    for figure in (f"{measured.top1:.2f}", f"{lost:+.2f}", f"{measured.payload_bytes_mean:.1f}"):
        assert figure in cells
    assert "spikebottlenet evaluate default --data uoft-cs/cifar100" in text
    assert "`spikebottlenet baselines default --only" in text


def test_two_processes_add_to_one_run_and_no_point_is_lost(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.made_results import *\n"
        "for k in range(20):\n"
        "    write_run(Path(sys.argv[1]), [point(Method.IMAGE, f'{sys.argv[2]} {k}', 50, 10, 0)])"
    )
    run = tmp_path / "new"  # is not there: a folder is made, not a file of that name
    words = [sys.executable, "-c", code, str(run)]
    both = [subprocess.Popen([*words, kind]) for kind in ("jpeg", "webp")]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(read_results(run).points) == 40


def test_results_go_into_a_new_folder_or_a_named_file(tmp_path: Path) -> None:
    assert add_points(tmp_path / "new", NAMES, [spikes(73, 190, 60)]).name == "results.json"
    assert (tmp_path / "new" / "results.json").is_file()
    named = add_points(tmp_path / "of.json", NAMES, [spikes(73, 190, 60)])
    assert named == tmp_path / "of.json"
    assert read_results(named) == read_results(tmp_path / "new")


def test_images_are_told_by_their_digest_and_else_by_name(tmp_path: Path) -> None:
    clean, noisy = ({"images_sha256": digit * 64} for digit in "ab")
    run = write_run(tmp_path / "run", [spikes(73, 190, 60), spikes(73, 190, 60, **clean)])
    assert len(read_results(run).points) == 1  # measured again, now with a digest
    write_run(run, [spikes(50, 190, 60, **noisy), point(Method.IMAGE, "png", 73, 900, 0)])
    copy = write_run(tmp_path / "copy", [spikes(74, 190, 60, data="/a/copy", **clean)])
    groups = read_groups([run, copy])
    assert [[each.point.top1 for each in group.placed] for group in groups] == [[73, 73, 74], [50]]
    names = [group.images.data for group in groups]
    assert names == ["uoft-cs/cifar100 (aaaaaaaa)", "uoft-cs/cifar100 (bbbbbbbb)"]
