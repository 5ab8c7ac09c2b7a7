"""Both live pages in a real Chromium: what they show is what the records say."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.daemons import running_daemon
from spikebottlenet.preprocess import read_image
from spikebottlenet.rpc.tokens import entry_of, new_token
from tests.browser.conftest import Open, Opened, Site
from tests.conftest import log_lines
from tests.test_loopback import send

DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], name));
    return files;
}"""
PHONE = {"viewport": {"width": 360, "height": 740}}
STILL = {"reduced_motion": "reduce"}


def drop(page: Opened, image: Path) -> None:
    data = base64.b64encode(image.read_bytes()).decode()
    files = page.page.evaluate_handle(DROP, [image.name, data])
    page.page.dispatch_event("#drop", "drop", {"dataTransfer": files})


def choose(page: Opened, image: Path) -> None:
    page.page.set_input_files("#file", str(image))


def last_record(site: Site) -> dict[str, Any]:
    return [line for line in log_lines(site.edge) if line["event"] == "answered"][-1]


def test_a_dropped_image_is_answered_and_every_figure_is_the_records(
    site: Site, visit: Open, photo: Path, bundle: Bundle
) -> None:
    page = visit(site.edge.web)
    assert page.link("up") == "Cloud connected"
    drop(page, photo)
    said = page.answered("motorcycle")
    record = last_record(site)
    shown = json.loads(page.page.locator("#record").text_content() or "")
    assert len(shown) == 22
    assert shown == {name: record[name] for name in shown}
    sure = f"{100 * record['confidence']:.1f} %"
    assert said == f"motorcycle, {sure} sure, from the cloud"
    assert page.text("label") == record["label"]
    assert page.text("why") == f"{sure} sure, says the cloud"
    assert page.bars("top5") == {
        score["label"]: f"{100 * score['probability']:.1f} %" for score in record["top5"]
    }

    pixels = read_image(photo.read_bytes(), bundle.manifest.preprocess)
    png, jpeg = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=75, optimize=True)
    assert page.bars("bytes") == {
        "payload": f"{record['payload_bytes']:,} B",
        "wire": f"{record['wire_bytes_up']:,} B",
        "jpeg": f"{len(jpeg.getvalue()):,} B",
        "png": f"{len(png.getvalue()):,} B",
        "raw": f"{pixels.nbytes:,} B",
    }
    assert page.bars("energy") == {
        "spiking": f"{record['edge_compute_uj']:,.1f} µJ",
        "ordinary": f"{record['ann_head_uj']:,.1f} µJ",
        "radio": f"{record['edge_radio_uj']:,.1f} µJ",
        "cloud": f"{record['cloud_compute_uj']:,.1f} µJ",
    }
    latency = page.bars("latency")
    for stage in ("preprocess", "head", "encode", "network", "queue", "tail"):
        assert latency[stage] == f"{record['latency_ms'][stage]:,.1f} ms"
    assert page.text("latency-headline") == f"{record['latency_ms']['total']:,.1f} ms in all"
    spikes = page.text("raster-text")  # the picture's text alternative has its numbers
    assert spikes.startswith(f"{record['spikes']:,} of 2,048 sites fired")
    assert f"({100 * record['firing_rate']:.1f} %)" in spikes

    moments = page.page.locator("#moments label")
    assert moments.count() == bundle.manifest.architecture.timesteps + 1
    moments.first.click()  # back to what was known after the first timestep
    assert "after timestep 1, says the edge exit" in page.text("why")
    assert page.text("raster-text").split()[0] != f"{record['spikes']:,}"

    assert page.requests
    assert [url for url in page.requests if not url.startswith(site.edge.web)] == []
    assert page.problems == []


def test_without_its_cloud_the_page_says_edge_exit_and_with_it_cloud_again(
    site: Site, visit: Open, photo: Path
) -> None:
    page = visit(site.edge.web, **STILL)
    page.link("up")
    assert site.cloud.stop() == 0
    assert page.link("down") == "Cloud away: the edge exit answers"
    choose(page, photo)
    assert page.answered("motorcycle").endswith("from the edge exit")
    assert last_record(site)["source"] == "edge_exit"
    assert page.bars("bytes")["wire"] == "0 B"
    site.restart_cloud()
    assert page.link("up") == "Cloud connected"
    choose(page, photo)
    page.page.locator("#said", has_text="from the cloud").wait_for(state="attached")
    assert last_record(site)["source"] == "cloud"
    assert page.problems == []


def test_all_requests_are_counted_and_the_cloud_knows_its_edge(
    site: Site, visit: Open, photo: Path
) -> None:
    page = visit(site.edge.web, **STILL)
    page.link("up")
    choose(page, photo)
    page.answered("motorcycle")
    lines = [line for line in log_lines(site.edge) if line["event"] == "answered"]
    page.page.locator("#images", has_text=re.compile(f"^{len(lines)}$")).wait_for()
    exits = sum(line["source"] == "edge_exit" for line in lines)
    assert page.text("images-note") == (
        f"{len(lines) - exits} by the cloud, {exits} by the edge exit, 0 refused"
    )

    cloud = visit(site.cloud.web)
    assert cloud.link("up") == "1 stream open"
    answered = [line for line in log_lines(site.cloud) if line["event"] == "answered"]
    edge = cloud.page.locator("#edges tbody tr").first.locator("td")
    assert edge.all_inner_texts()[:3] == ["address 127.0.0.1", "1", f"{len(answered)}"]
    answer = cloud.page.locator("#answers tbody tr").first.locator("td").all_inner_texts()
    assert answer[0] == "motorcycle"
    assert answer[2] == f"{answered[-1]['payload_bytes']} B"
    assert answer[4] == f"{answered[-1]['tail_ms']:,.1f} ms"
    assert [url for url in cloud.requests if not url.startswith(site.cloud.web)] == []
    assert cloud.problems == []


def test_a_file_that_is_no_image_is_refused_in_words(
    site: Site, visit: Open, tmp_path: Path
) -> None:
    words = tmp_path / "words.png"
    words.write_text("no image at all")
    page = visit(site.edge.web)
    page.link("up")
    choose(page, words)
    page.page.locator("#problem", has_text="are not an image of a known format").wait_for()


def test_a_camera_sends_frames_until_it_is_stopped(site: Site, visit: Open) -> None:
    page = visit(site.edge.web, permissions=["camera"], **STILL)
    page.link("up")
    page.page.click("#camera")
    page.page.locator("#said:not(:empty)").wait_for(state="attached")
    assert page.page.locator("#view").is_visible()
    page.page.click("#camera")
    assert not page.page.locator("#view").is_visible()
    assert page.page.locator("#seen").is_visible()
    assert page.problems == []


def test_a_camera_that_is_clicked_twice_is_asked_for_once_and_outlives_a_bad_frame(
    site: Site, visit: Open
) -> None:
    page = visit(site.edge.web, permissions=["camera"], **STILL)
    page.link("up")
    page.page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia;
          const shoot = HTMLCanvasElement.prototype.toBlob;
          window.asked = 0;
          navigator.mediaDevices.getUserMedia = function (wanted) {
            window.asked += 1;
            return ask.call(this, wanted);
          };
          let shot = 0;
          HTMLCanvasElement.prototype.toBlob = function (take, ...more) {
            shot += 1;
            if (shot === 1) take(null);
            else if (shot === 2) throw new Error('no memory');
            else shoot.call(this, take, ...more);
          };
          const button = document.getElementById('camera');
          button.click();
          button.click();
        }"""
    )
    page.page.locator("#said:not(:empty)").wait_for(state="attached")
    assert page.page.evaluate("window.asked") == 1
    page.page.click("#camera")
    assert not page.page.locator("#view").is_visible()
    assert page.problems == []


def test_a_page_of_a_guarded_daemon_asks_for_the_token(
    visit: Open, photo: Path, tmp_path: Path
) -> None:
    token = new_token()
    (tmp_path / "tokens.txt").write_text(entry_of("me", token).line + "\n")
    options = ["--listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0", "--cloud", "127.0.0.1:9"]
    options += ["--tokens", str(tmp_path / "tokens.txt")]
    with running_daemon("edge_node", options, tmp_path / "edge.log") as edge:
        page = visit(edge.web, **STILL)
        wall = page.page.locator("#wall")
        wall.wait_for()
        assert not page.page.locator("#drop").is_visible()
        page.page.fill("#token", "wrong")
        page.page.keyboard.press("Enter")
        page.page.locator("#wall-reason", has_text="not known here").wait_for()
        page.page.fill("#token", token)
        page.page.keyboard.press("Enter")
        wall.wait_for(state="hidden")
        choose(page, photo)
        page.answered("motorcycle")
        assert token not in page.page.evaluate("JSON.stringify(localStorage)")
        assert token not in page.page.content()


def test_the_keyboard_and_a_small_phone_are_enough(site: Site, visit: Open, photo: Path) -> None:
    page = visit(site.edge.web, **PHONE, **STILL)
    page.link("up")
    reached = []
    for _ in range(5):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.id"))
    assert reached == ["", "theme", "drop", "camera", ""]  # first a link past the head
    page.page.focus("#drop")
    with page.page.expect_file_chooser() as chooser:
        page.page.keyboard.press("Enter")
    chooser.value.set_files(str(photo))
    page.answered("motorcycle")
    page.page.locator("#moments input").last.focus()
    page.page.keyboard.press("ArrowUp")
    assert "says the edge exit" in page.text("why")
    for url in (site.edge.web, site.cloud.web):
        page.page.goto(url + "/")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_chosen_colours_are_kept(site: Site, visit: Open) -> None:
    page = visit(site.edge.web, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    page.page.click("#theme")  # light
    page.page.click("#theme")  # dark
    dark = page.page.evaluate(ground)
    assert dark != light
    page.page.reload()
    assert page.page.evaluate(ground) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(site: Site, visit: Open, photo: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    edge = visit(site.edge.web, color_scheme=scheme, **STILL)
    edge.link("up")
    choose(edge, photo)
    edge.answered("motorcycle")
    cloud = visit(site.cloud.web, color_scheme=scheme)
    cloud.link("up")
    for page in (edge, cloud):
        found = axe.run(page.page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(
    site: Site,
    visit: Open,
    photo: Path,
    scheme: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """What README and docs show; kept with ``--screenshots FOLDER``, else only taken."""
    kept = request.config.getoption("--screenshots", None)
    folder = Path(kept or tmp_path)
    if kept:  # some life for the sparklines
        crops = request.getfixturevalue("crop_folder") / "00[0-9][0-9].png"
        assert send(site.edge, "--json", str(crops)).returncode == 0
    for name, url in (("edge", site.edge.web), ("cloud", site.cloud.web)):
        page = visit(url, color_scheme=scheme, viewport={"width": 1280, "height": 800}, **STILL)
        page.link("up")
        if name == "edge":
            choose(page, photo)
            page.answered("motorcycle")
        file = folder / f"{name}-page-{scheme}.png"
        page.page.screenshot(path=file, full_page=True)
        with Image.open(file) as taken:
            assert taken.width == 1280
