"""What was measured of a bundle, a line a figure."""

from spikebottlenet.bundle import Bundle


def print_measured(bundle: Bundle) -> None:
    """Print where the bundle is, and its manifest's measurements if there are any."""
    print(f"{bundle.folder}  {bundle.model}")
    if bundle.manifest.measured is not None:
        for key, value in bundle.manifest.measured.model_dump().items():
            print(f"{key:>20}  {value}")
