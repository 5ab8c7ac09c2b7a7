"""The one place that makes channels, every option with its reason."""

import grpc
import grpc.aio

from spikebottlenet.rpc.security import PLAINTEXT, ChannelSecurity, channel_credentials

Options = list[tuple[str, int | str]]

MAX_IMAGE_BYTES = 16 * 1024 * 1024  # of an image file, unless an edge-node is told otherwise

_KEEPALIVE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 5_000
_FIRST_BACKOFF_MS = 100
_MAX_BACKOFF_MS = 1_000
# One call lasts for the life of a channel here (a stream): a policy that connects to every address,
# as round_robin does, would pay for connections that carry nothing.
_ANY_ADDRESS = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'


def connection_options() -> Options:
    """Options that both ends of a connection need."""
    return [
        # Without it the transport pings and widens windows to measure bandwidth: at a few hundred
        # bytes an image those frames were a tenth of the traffic.
        ("grpc.http2.bdp_probe", 0),
        # A link that died without a word (a drone out of reach) is noticed within this time.
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # On an idle stream too, where gRPC would stop after two.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def make_channel(
    target: str, *, max_message_bytes: int, security: ChannelSecurity = PLAINTEXT
) -> grpc.aio.Channel:
    """A channel to ``host:port``; it connects on first use and by itself again.

    Of a name with many addresses (a headless Service) each channel takes one by chance, and another
    when that does not answer; so streams spread, and no balancer stands in the way.

    Certificates are read now: make another channel to use renewed ones. Calls carry their token in
    ``security.call_metadata``.

    Raises:
        ConfigError: certificates that do not work, or a token that would go out in plain text.
    """
    credentials = channel_credentials(security, target)
    options: Options = [
        *connection_options(),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A cloud that comes back is to be used again within seconds, not gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", _FIRST_BACKOFF_MS),
        ("grpc.min_reconnect_backoff_ms", _MAX_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", _MAX_BACKOFF_MS),
        # Two channels of one process to one target keep their own connections and byte counts.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config", _ANY_ADDRESS),
        # Retries are ours: a request is known by its id and answered once.
        ("grpc.enable_retries", 0),
        # A proxy set for web browsing is not on the way to a node named by address.
        ("grpc.enable_http_proxy", 0),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)
