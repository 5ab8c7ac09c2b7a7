"""``spikebottlenet evaluate``: a bundle on a data set, through the real codec."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.accounting.energy_profile import DEFAULT_PROFILE
from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.cli.data_options import ImageColumn, LabelColumn, TestSplit, TrainSplit
from spikebottlenet.cli.extras import needing_extra


def evaluate(
    data: Annotated[str, typer.Option(help="public data set name or local folder, for `datasets`")],
    bundle: Annotated[
        str, typer.Argument(help="a bundle's folder, or 'default' for the shipped one")
    ] = "default",
    split: Annotated[str, typer.Option(help="split of the data set")] = "test",
    limit: Annotated[int, typer.Option(min=0, help="so many images, always the same; 0: all")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="threads; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    train_split: TrainSplit = None,
    test_split: TestSplit = None,
    out: Annotated[
        Path | None, typer.Option(help="add the point to this folder's results.json, for `report`")
    ] = None,
) -> None:
    """Accuracy, bytes and estimated energy of a bundle: exact head, real frames, tail."""
    with needing_extra("lab"):
        import torch

        from spikebottlenet.lab.bundle_point import (
            evaluate_command,
            measured_points,
            of_the_same_images,
        )
        from spikebottlenet.lab.config import DataChoice
        from spikebottlenet.lab.config_files import bundle_data_settings
        from spikebottlenet.lab.data import load_split
        from spikebottlenet.lab.data_classes import match_classes
        from spikebottlenet.lab.data_identity import images_sha256
        from spikebottlenet.lab.evaluate import evaluate_bundle
        from spikebottlenet.lab.results import RESULTS, add_points
        from spikebottlenet.lab.subject import subject_of
    opened = open_bundle(bundle_folder(bundle), Half.LAB)
    architecture = opened.manifest.architecture
    used = threads or os.cpu_count() or 1
    torch.set_num_threads(used)
    choice = DataChoice(image_column, label_column, train_split, test_split)
    settings = choice.applied(bundle_data_settings(opened.folder))
    whole = load_split(data, split, opened.manifest.preprocess, settings)
    chosen = whole.sample(limit) if limit else whole
    subject = subject_of(opened, data=data, split=split, images=len(chosen))
    if out is None:
        evaluation, measured = (
            evaluate_bundle(opened, chosen, threads=used),
            opened.manifest.measured,
        )
        images = images_sha256(match_classes(chosen, opened.manifest.class_names))
        subject = subject.model_copy(update={"images_sha256": images})
        same = measured is not None and of_the_same_images(measured, evaluation, subject)
        uncut_top1 = measured.uncut_top1 if measured and same else None
    else:
        evaluation, points = measured_points(
            opened,
            chosen,
            subject,
            log=RESULTS,
            command=evaluate_command(opened.folder, subject, data=data, out=out, choice=choice),
            threads=used,
        )
        add_points(out, opened.manifest.class_names, points)
        uncut_top1 = points[0].uncut_top1
    found = evaluation.rounded()
    record = {
        "images": found["images"],
        "top1": found["top1"],
        "top5": found["top5"],
        "edge_exit_top1": found["edge_exit_top1"],
        "uncut_top1": uncut_top1,
        "spike_bits": architecture.spike_shape.bits,
        "bit_compression": architecture.bit_compression,
        "payload_bytes_mean": found["payload_bytes_mean"],
        "payload_bytes_p99": found["payload_bytes_p99"],
        "firing_rate": found["firing_rate"],
        "edge_compute_uj": found["edge_compute_uj"],
        "ann_head_uj": found["ann_head_uj"],
        "energy_profile": DEFAULT_PROFILE.name,
        "model": opened.model,
    }
    if as_json:
        print(json.dumps(record))
        return
    for name, value in record.items():
        print(f"{name:>20}  {value}")
    if uncut_top1 is not None:
        print("uncut_top1 is the manifest's, of these images")
    print("energies are estimates, microjoules an image")
