"""What a reader of a plan has to know of its figures."""

from collections.abc import Sequence

from spikebottlenet.accounting.energy import RADIO_PROFILES
from spikebottlenet.plan.decision import Sender
from spikebottlenet.plan.machines import Profiles
from spikebottlenet.plan.placements import Kind, Placement, Status


def plan_notes(
    profiles: Profiles, ways: Sequence[Placement], *, edge_factor: float, sender: Sender
) -> tuple[str, ...]:
    """Sentences: what is measured, what is modelled, what is left out."""
    edge, cloud = profiles.sides()
    notes = [
        f"Times: edge on {edge.threads} thread(s) of {edge.machine.get('cpu')}, cloud on "
        f"{cloud.threads} of {cloud.machine.get('cpu')}, one image at a time. Cuts without "
        "a bundle have random weights, which take the same time."
    ]
    if edge_factor != 1:
        notes.append(f"The edge is taken to be {edge_factor:g} x slower than measured: assumed.")
    added = profiles.added()
    if not added.measured:
        notes.append(
            "What the daemons add was not measured and is left out: profile both parts on one "
            "machine."
        )
    if added.busy:
        notes.append(
            "Some parts took longer alone than inside the daemons: the machine was busy while it "
            "was profiled. Profile it again when it is not."
        )
    trained = [way for way in ways if way.kind is Kind.CUT and way.status is Status.TRAINING]
    if trained:
        notes.append(
            f"Bytes of cuts that need training are a {trained[0].bytes_are}; their accuracy is "
            "not known."
        )
    notes.append(
        "Wire bytes are TCP payload, framing included; IP and TCP headers are not counted. "
        "Cloud-only is the cut before the first layer. edge-only and cloud-only run the un-cut "
        "network, which these daemons do not: their times are of ONNX Runtime and of a "
        "plain gRPC server."
    )
    radio = RADIO_PROFILES[sender.radio]
    notes.append(
        "Energy is an estimate: operations at 45 nm (Horowitz 2014) plus the radio while it sends "
        f"at this bandwidth (Huang et al. 2012, {sender.radio.value}). Encoding an image file, "
        "memory traffic and receiving are left out"
        + (
            f"; a lone packet's tail would add {radio.tail_j:g} J to whatever is sent (--burst)."
            if not sender.burst
            else "."
        )
    )
    return tuple(notes)
