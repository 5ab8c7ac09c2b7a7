"""A guarded cloud-node: its files, its clients, its memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spikebottlenet.cli.daemons import Daemon, running_daemon
from spikebottlenet.rpc.security import ChannelSecurity
from spikebottlenet.rpc.tokens import entry_of, new_token
from tests.door import Certificates


@dataclass(frozen=True)
class Guarded:
    """A daemon that wants a token, and with ``files`` a certificate too."""

    daemon: Daemon
    good: ChannelSecurity
    greedy: ChannelSecurity  # has a token as well, and takes all it can
    files: Certificates | None

    @property
    def port(self) -> int:
        return int(self.daemon.address.rpartition(":")[2])

    def memory_mib(self, key: str) -> float:
        """``VmRSS``, or ``VmHWM``: its peak since :meth:`forget_peak`."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{key}:"))
        return round(int(line.split()[1]) / 1024, 1)

    def forget_peak(self) -> None:
        """See clear_refs in proc(5)."""
        Path(f"/proc/{self.daemon.process.pid}/clear_refs").write_text("5")


@contextmanager
def guarded_cloud(folder: Path, *, tls: bool) -> Iterator[Guarded]:
    folder.mkdir(parents=True)
    files = Certificates(folder) if tls else None
    lines, kept = [], {}
    for name in ("good", "greedy"):
        token = new_token()
        lines.append(entry_of(name, token).line)
        kept[name] = folder / f"{name}.token"
        kept[name].write_text(token)
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n")
    options = ["--listen", "127.0.0.1:0", "--tokens", f"{folder}/tokens.txt", "--threads", "1"]
    pem = {}
    if files is not None:
        options += ["--tls-cert", f"{files.cert}", "--tls-key", f"{files.key}"]
        options += ["--tls-client-ca", f"{files.ca}"]
        pem = {"ca": files.ca, "cert": files.client_cert, "key": files.client_key}
    with running_daemon("cloud_node", options, folder / "log") as daemon:
        good, greedy = (ChannelSecurity(token_file=path, **pem) for path in kept.values())
        yield Guarded(daemon, good, greedy, files)
